//! Two guests in one process that send each other large frames through any vhost-user back-end.
//!
//! `scripts/rates-guests.sh` measures small frames with DPDK's virtio-user, which cannot send super-frames. This
//! does: both guests are of the tests' own VMM, and whatever one sends, the other one has to receive. A frame lies
//! in the sender's memory once and is offered again and again; received buffers are given back unread. So what is
//! measured is the back-end's copying, and the same for each.
//!
//! ```text
//! guest_pair SOCKET SOCKET SECONDS BYTES MAC MAC    frames per second, both directions together
//! ```
//!
//! A frame above 1514 bytes is a TCP super-frame (TSO) of 1448 bytes per segment. With what a receiver has in
//! buffers (256 of 4 KiB) nothing needs to be dropped: a guest sends only as much as the other one has room for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

/// The tests' own VMM.
#[path = "../tests/common"]
mod common {
    pub mod driver;
    pub mod frames;
    pub mod memory;
    pub mod vmm;
}

use std::path::Path;
use std::time::{Duration, Instant};

use common::driver::{Desc, Driver, Queue, VnetHdr};
use common::frames;
use common::memory::Memory;
use common::vmm::{QemuOptions, Vmm};

const BUFFER: u32 = 4096;
const RING: usize = 256;
const HEADER: usize = 12;

struct Side {
    _vmm: Vmm,
    driver: Driver,
    memory: Memory,
    /// The frame and its length, header included.
    frame: (u64, u32),
    received: u64,
}

fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).expect("MAC")).collect();
    bytes.try_into().expect("MAC")
}

impl Side {
    fn new(socket: &str, from: [u8; 6], to: [u8; 6], bytes: usize) -> Side {
        let memory = Memory::single(&common::memory::Backing::Memfd, 64 << 20);
        let mut vmm = Vmm::connect(Path::new(socket)).with_memory(&memory);
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        let payload = vec![7u8; bytes - 14 - 20 - 20];
        let tcp =
            [&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0][..], &payload]
                .concat();
        let ip = frames::ipv4([198, 18, 0, 1], [198, 18, 0, 2], 6, &tcp);
        let frame = frames::ethernet(to, from, frames::ETH_IPV4, &ip);
        let mut header = VnetHdr::default();
        if bytes > 1514 {
            header = VnetHdr {
                flags: 1,
                gso_type: 1,
                hdr_len: 54,
                gso_size: 1448,
                csum_start: 34,
                csum_offset: 16,
                num_buffers: 0,
            };
        }
        let message = [&header.bytes()[..], &frame].concat();
        let at = memory.alloc(message.len() as u64);
        memory.write(at, &message);
        let rx = &mut driver.pairs[0].rx;
        for _ in 0..RING {
            let place = memory.alloc(u64::from(BUFFER));
            rx.add(&[Desc::write(place, BUFFER)]);
        }
        rx.publish();
        rx.disable_calls();
        driver.pairs[0].tx.disable_calls();
        Side { _vmm: vmm, driver, memory, frame: (at, message.len() as u32), received: 0 }
    }

    /// Takes what has come and offers the buffers again.
    fn receive(&mut self) {
        let rx: &mut Queue = &mut self.driver.pairs[0].rx;
        while let Some((head, len)) = rx.pop_used() {
            self.received += u64::from(len);
            for (at, size) in rx.release(head) {
                rx.add(&[Desc::write(at, size)]);
            }
        }
        rx.publish();
    }

    /// Keeps so many frames under way.
    fn send(&mut self, most: usize) {
        let tx: &mut Queue = &mut self.driver.pairs[0].tx;
        while let Some((head, _)) = tx.pop_used() {
            tx.release(head);
        }
        while tx.outstanding() < most {
            tx.add(&[Desc::read(self.frame.0, self.frame.1)]);
        }
        tx.publish();
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let word =
        |at: usize| args.get(at).map(String::as_str).expect("SOCKET SOCKET SECONDS BYTES MAC MAC");
    let seconds = Duration::from_secs_f64(word(3).parse().expect("seconds"));
    let bytes: usize = word(4).parse().expect("bytes");
    let (a, b) = (mac(word(5)), mac(word(6)));
    let mut sides = [Side::new(word(1), a, b, bytes), Side::new(word(2), b, a, bytes)];
    let whole = bytes + HEADER;
    let buffers = whole.div_ceil(BUFFER as usize);
    // Half of the ring: the other half is being refilled.
    let most = (RING / 2 / buffers).clamp(1, 64);
    let (mut start, mut warm) = (Instant::now(), false);
    let mut bytes_before = 0;
    loop {
        for side in &mut sides {
            side.receive();
            side.send(most);
        }
        let sum: u64 = sides.iter().map(|side| side.received).sum();
        if !warm && start.elapsed() > seconds / 5 {
            (start, bytes_before, warm) = (Instant::now(), sum, true);
        } else if warm && start.elapsed() > seconds * 4 / 5 {
            println!(
                "{:.0}",
                (sum - bytes_before) as f64 / whole as f64 / start.elapsed().as_secs_f64()
            );
            return;
        }
    }
}
