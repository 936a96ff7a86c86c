//! A packet queue: a receiving and a sending AF_PACKET socket on one parent.
//!
//! Both directions go in batches through plain system calls, `recvmmsg` and `sendmmsg`, not through
//! rings shared with the kernel. `inbox.rs` has the reason for the receiving side. The transmit
//! ring was measured slower than `sendmmsg`, and its header parsing in the kernel has a race
//! (CVE-2026-31700). Both carry a virtio-net header, so that 64 KiB of TCP pass in one piece. The
//! kernel wakes a sleeping worker for every frame, so a lone frame waits only for that.
//!
//! What can go wrong: frames get lost when too many wait (counted, [`Uplink::losses`]). A parent
//! that goes down returns ENETDOWN once ([`PacketQueue::take_error`]); the socket resumes by
//! itself. If the parent is deleted, or moves to another network namespace, the socket never
//! resumes: sends return ENXIO, and a new queue is needed. LRO makes frames that the header cannot
//! describe; the kernel drops them: `ethtool -K DEV lro off`. Closing a queue waits for the
//! kernel's RCU, some 17 ms: not for the data path.
//!
//! Kernel source: net/packet/af_packet.c, include/linux/virtio_net.h; Documentation/networking/
//! packet_mmap.rst.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;

use crate::net::mac::Mac;
use crate::uplink::packet::filter::{NOTHING, SocketFilter};
use crate::uplink::packet::inbox::ReceiveBatch;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::packet::membership::Memberships;
use crate::uplink::packet::socket::Socket;
use crate::uplink::received::{Losses, ReceivedBatch};
use crate::uplink::send_frame::{SEND_HEADER, SendFrame};
use crate::uplink::wire::{Uplink, WantedFilters};
use crate::virtqueue::guest_slice::GuestSlice;

/// A receiving and a sending AF_PACKET socket on one parent. Dropping it closes them and takes back
/// its memberships.
///
/// Readable (EPOLLIN, level-triggered) while a frame waits, and in error (EPOLLERR) until
/// [`PacketQueue::take_error`] has been called. [`PacketQueue::outlet`] is writable while there is
/// room to send.
#[derive(Debug)]
pub struct PacketQueue {
    inbox: ReceiveBatch,
    memberships: Memberships,
    /// The addresses that the NIC lets in on the switch's account, sorted.
    unicast: Vec<Mac>,
    dropped: u64,
    /// Frames without a description that were reported to another call than the receiving one.
    reported: AtomicU64,
    socket: Socket,
    outlet: Socket,
    /// Sends frames that `outlet` refuses for their length. All queues of a parent share it.
    long: Option<Arc<LongFrames>>,
    /// `long` was the one that had no room last.
    long_is_full: AtomicBool,
}

/// Two packet sockets that the host room has opened, not bound yet.
#[derive(Debug)]
pub struct PacketSockets {
    /// This one receives frames.
    pub receive: OwnedFd,
    /// This one sends frames.
    pub send: OwnedFd,
}

impl PacketQueue {
    /// Makes a queue of two sockets, on the device with that index.
    ///
    /// Errors: ENODEV without such a device. A parent that is down is no error.
    pub fn open(
        ifindex: u32,
        admit: SocketFilter,
        sockets: PacketSockets,
    ) -> io::Result<PacketQueue> {
        Self::prepare(ifindex, sockets, |socket| {
            socket.filter(admit.program())?;
            socket.listen(ifindex)
        })
    }

    /// Makes several queues, which share the flows of the parent among them by flow hash. A single
    /// one receives all of them.
    ///
    /// Errors: those of [`PacketQueue::open`]; before Linux 6.13 EINVAL for a parent that is down.
    pub fn open_all(
        ifindex: u32,
        admit: SocketFilter,
        mut sockets: Vec<PacketSockets>,
    ) -> io::Result<Vec<PacketQueue>> {
        if sockets.len() < 2 {
            return sockets.pop().map(|one| Self::open(ifindex, admit, one)).into_iter().collect();
        }
        let mut group = None;
        let one = |sockets| {
            Self::prepare(ifindex, sockets, |socket| {
                // Between bind and join the socket is on its own, and would receive all flows.
                socket.filter(NOTHING)?;
                socket.listen(ifindex)?;
                group = Some(socket.join(group)?);
                socket.filter(admit.program())
            })
        };
        sockets.into_iter().map(one).collect()
    }

    fn prepare(
        ifindex: u32,
        sockets: PacketSockets,
        bind: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<PacketQueue> {
        let outlet = Socket::sending(sockets.send, ifindex)?;
        let socket = Socket::receiving(sockets.receive)?;
        bind(&socket)?;
        Ok(PacketQueue {
            inbox: ReceiveBatch::new(),
            memberships: Memberships::new(ifindex),
            unicast: Vec::new(),
            dropped: 0,
            reported: AtomicU64::new(0),
            socket,
            outlet,
            long: None,
            long_is_full: AtomicBool::new(false),
        })
    }

    /// Changes the kernel's filter, at once and without a gap.
    pub fn set_admit(&self, admit: SocketFilter) -> io::Result<()> {
        self.socket.filter(admit.program())
    }

    /// As [`Uplink::send`]. EMSGSIZE means 14 bytes more than the MTU, 18 with a VLAN tag, 78 where
    /// there is a ring for long frames.
    pub fn send(&self, messages: &mut [SendFrame<'_>]) -> io::Result<usize> {
        let sent = self.outlet.send(messages);
        match (&sent, &self.long) {
            (Err(error), Some(long)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                let sent = long.send(messages);
                let full = matches!(&sent, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
                self.long_is_full.store(full, Ordering::Relaxed);
                sent
            }
            _ => sent,
        }
    }

    /// Sends one complete frame from ordinary memory, for the control side (RARP). Errors are those
    /// of [`Uplink::send`].
    pub fn send_one(&self, frame: &[u8]) -> io::Result<()> {
        self.send_with_header(&[0; SEND_HEADER], frame)
    }

    /// Sends one frame with its header from ordinary memory. Errors are those of
    /// [`Uplink::send`].
    pub fn send_with_header(&self, header: &[u8; SEND_HEADER], frame: &[u8]) -> io::Result<()> {
        let pieces = [header.as_slice(), frame].map(GuestSlice::from);
        match self.send(&mut [SendFrame::new(&pieces)]) {
            Ok(0) => Err(Errno::EAGAIN.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The error that the kernel keeps for the socket, if any; the call clears it. ENETDOWN once
    /// the parent has gone down or was deleted, or was down when the queue was opened.
    pub fn take_error(&self) -> Option<Errno> {
        let error = self.socket.take_error();
        if error == Some(Errno::EINVAL) {
            self.reported.fetch_add(1, Ordering::Relaxed);
        }
        error
    }

    /// Makes the NIC let frames to this address in. A parent that cannot filter by several
    /// addresses goes promiscuous by it. Counted: as many drops are needed as adds.
    ///
    /// Errors: ENODEV when the parent was deleted, EINVAL for a group address on some drivers.
    pub fn add_unicast(&self, mac: Mac) -> io::Result<()> {
        self.memberships.unicast(&self.socket, mac, true)
    }

    /// Takes back one [`PacketQueue::add_unicast`]. An address that was not added is fine.
    pub fn drop_unicast(&self, mac: Mac) -> io::Result<()> {
        self.memberships.unicast(&self.socket, mac, false)
    }

    /// Makes the NIC let all multicast in, or no longer on our account. ENODEV when the parent was
    /// deleted.
    pub fn set_all_multicast(&self, on: bool) -> io::Result<()> {
        self.memberships.all_multicast(&self.socket, on)
    }

    /// Makes the NIC let everything in, or no longer on our account. ENODEV when the parent was
    /// deleted.
    pub fn set_promiscuous(&self, on: bool) -> io::Result<()> {
        self.memberships.promiscuous(&self.socket, on)
    }
}

impl Uplink for PacketQueue {
    fn receive(&mut self, budget: usize) -> ReceivedBatch<'_> {
        self.inbox.take(&self.socket, budget)
    }

    fn send(&mut self, frames: &mut [SendFrame<'_>]) -> io::Result<usize> {
        PacketQueue::send(self, frames)
    }

    fn inlet(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn outlet(&self) -> BorrowedFd<'_> {
        match &self.long {
            Some(long) if self.long_is_full.load(Ordering::Relaxed) => long.as_fd(),
            _ => self.outlet.as_fd(),
        }
    }

    fn outlets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.outlet.as_fd()), self.long.as_ref().map(|long| long.as_fd())]
    }

    fn take_error(&mut self) -> Option<Errno> {
        PacketQueue::take_error(self)
    }

    fn set_filters(&mut self, wanted: &WantedFilters<'_>) -> io::Result<()> {
        self.set_promiscuous(wanted.promiscuous)?;
        self.set_all_multicast(wanted.all_multicast)?;
        let mut unicast = wanted.unicast.to_vec();
        unicast.sort_unstable();
        let has = |list: &[Mac], mac: &Mac| list.binary_search(mac).is_ok();
        while let Some(at) = self.unicast.iter().position(|mac| !has(&unicast, mac)) {
            let old = self.unicast.remove(at);
            self.drop_unicast(old)?;
        }
        for mac in unicast {
            if let Err(at) = self.unicast.binary_search(&mac) {
                self.add_unicast(mac)?;
                self.unicast.insert(at, mac);
            }
        }
        Ok(())
    }

    fn set_host_unicast(&mut self, wanted: bool) -> io::Result<()> {
        self.set_admit(if wanted { SocketFilter::Everything } else { SocketFilter::Guests })
    }

    fn set_long_frames(&mut self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        self.long_is_full.store(false, Ordering::Relaxed);
        std::mem::replace(&mut self.long, long)
    }

    fn losses(&mut self) -> io::Result<Losses> {
        // The kernel clears its count when it reports it.
        self.dropped = self.dropped.wrapping_add(u64::from(self.socket.kernel_drops()?));
        let ReceiveBatch { truncated, unusable, .. } = self.inbox;
        let unusable = unusable.wrapping_add(self.reported.load(Ordering::Relaxed));
        Ok(Losses { dropped: self.dropped, truncated, unusable })
    }
}

impl AsFd for PacketQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}
