//! A front-end that describes guest memory and never touches it.
//!
//! [`crate::vmm::Vmm`] maps the memory that it gives away, because a driver runs in it. Memory that
//! is truncated, far too large or made of huge pages that do not exist would then end the test
//! itself. So here a region is four numbers and a file; rings are written into the file beforehand,
//! and each ring is full of chains, so that a worker has something to read as long as it runs.
//!
//! A function waits only if its comment says so. A connection that the back-end has ended is no
//! error here: each test judges that.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use vmm_sys_util::eventfd::EventFd;

use crate::driver::F_PROTOCOL;
use crate::frames::{self, Mac};
use crate::vmm::*;

/// What is added to a guest address to get the front-end's.
pub const USER: u64 = 0x7000_0000_0000;
/// Bytes that the rings of one pair and their buffers take.
pub const RINGS: u64 = 0x10_000;

/// The four numbers of a region: guest address, size, file offset.
#[derive(Clone, Copy, Debug)]
pub struct Numbers(pub u64, pub u64, pub u64);

impl Numbers {
    fn describe(self) -> Vec<u8> {
        [self.0, self.1, USER.wrapping_add(self.0), self.2].map(u64::to_le_bytes).concat()
    }
}

pub struct Blind {
    pub vmm: Vmm,
    kicks: [EventFd; 2],
    broken: EventFd,
}

impl Blind {
    /// Connects, as soon as no other connection is left, and negotiates REPLY_ACK and memory slots.
    pub fn connect(path: &Path) -> Blind {
        let mut vmm = Vmm::connect_served(path);
        vmm.set_owner();
        vmm.set_protocol_features(proto::REPLY_ACK | proto::CONFIGURE_MEM_SLOTS);
        vmm.set_features(vmm.offered & (Guest::default().features | F_PROTOCOL));
        vmm.sync();
        let fd = |flags| EventFd::new(flags).expect("eventfd");
        Blind { vmm, kicks: [fd(0), fd(0)], broken: fd(libc::EFD_NONBLOCK) }
    }

    /// Sends without waiting. False when the connection has ended.
    pub fn send(&mut self, request: u32, payload: &[u8], fds: &[RawFd]) -> bool {
        self.vmm.try_send(request, 0, payload, fds).is_ok()
    }

    /// Sends, waits, and returns whether the answer is yes.
    pub fn accepted(&mut self, request: u32, payload: &[u8], fds: &[RawFd]) -> bool {
        self.vmm.try_send(request, NEED_REPLY, payload, fds).is_ok()
            && self.vmm.try_reply().is_ok_and(|reply| reply.u64() == 0)
    }

    pub fn adds(&mut self, region: Numbers, file: &File) -> bool {
        let payload = [vec![0; 8], region.describe()].concat();
        self.accepted(req::ADD_MEM_REG, &payload, &[file.as_raw_fd()])
    }

    pub fn removes(&mut self, region: Numbers) -> bool {
        self.accepted(req::REM_MEM_REG, &[vec![0; 8], region.describe()].concat(), &[])
    }

    pub fn sets(&mut self, regions: &[Numbers], file: &File) -> bool {
        let payload = table(regions);
        self.accepted(req::SET_MEM_TABLE, &payload, &vec![file.as_raw_fd(); regions.len()])
    }

    /// A memory table, without waiting.
    pub fn give(&mut self, regions: &[Numbers], file: &File) -> bool {
        self.send(req::SET_MEM_TABLE, &table(regions), &vec![file.as_raw_fd(); regions.len()])
    }

    /// Starts both rings of the pair at guest address `at`, without waiting.
    pub fn start_rings(&mut self, at: u64) {
        for index in 0..2u32 {
            let ring = USER + at + u64::from(index) * RINGS / 2;
            let number = u64::from(index).to_le_bytes();
            let address = vring_addr(index, ring, ring + 0x2000, ring + 0x1000);
            let kick = self.kicks[index as usize].as_raw_fd();
            self.send(req::SET_VRING_NUM, &pair_of(index, 256), &[]);
            self.send(req::SET_VRING_BASE, &pair_of(index, 0), &[]);
            self.send(req::SET_VRING_ADDR, &address, &[]);
            self.send(req::SET_VRING_ERR, &number, &[self.broken.as_raw_fd()]);
            self.send(req::SET_VRING_KICK, &number, &[kick]);
            self.send(req::SET_VRING_ENABLE, &pair_of(index, 1), &[]);
        }
    }

    /// Asks both rings for their base, which stops them, without waiting.
    pub fn stop_rings(&mut self) {
        for index in 0..2 {
            self.send(req::GET_VRING_BASE, &pair_of(index, 0), &[]);
        }
    }

    /// How often a ring was stopped because it broke, since the last question.
    pub fn broken(&self) -> u64 {
        self.broken.read().unwrap_or(0)
    }

    pub fn kick(&self) {
        for kick in &self.kicks {
            let _ = kick.write(1);
        }
    }
}

/// The payload of SET_MEM_TABLE.
pub fn table(regions: &[Numbers]) -> Vec<u8> {
    let mut payload = pair_of(regions.len() as u32, 0);
    regions.iter().for_each(|region| payload.extend(region.describe()));
    payload
}

/// Writes the rings that [`Blind::start_rings`] describes, with the given function: each has 256
/// chains of one buffer, those of the transmit ring with a frame from `mac`.
pub fn write_rings(mut write: impl FnMut(u64, &[u8]), at: u64, mac: Mac) {
    for index in 0..2u64 {
        let ring = at + index * RINGS / 2;
        let buffer = ring + 0x3000;
        let (len, flags) = if index == 0 { (2048u32, 2u16) } else { (12 + 60, 0) };
        let mut desc = Vec::new();
        let mut avail = [0u16.to_le_bytes(), 256u16.to_le_bytes()].concat();
        for head in 0..256u16 {
            desc.extend(buffer.to_le_bytes());
            desc.extend(len.to_le_bytes());
            desc.extend([flags.to_le_bytes(), [0; 2]].concat());
            avail.extend(head.to_le_bytes());
        }
        write(ring, &desc);
        write(ring + 0x1000, &avail);
        write(buffer + 12, &frames::tagged([0xff; 6], mac, 0, 60));
    }
}
