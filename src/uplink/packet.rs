//! A port on the parent itself: AF_PACKET sockets that hear and send whole Ethernet frames.
//!
//! The userspace switch has no macvtap device below it. It listens on the parent, before the host's
//! stack and before kernel macvlans, and sends as the parent would. Nobody loses anything by that: the
//! host gets its own copy of every frame (`host_filter.rs` is for the modes where it must not), and drops what
//! is addressed to a guest, as it drops anybody else's.
//!
//! | file            | what it holds |
//! |-----------------|---------------|
//! | `socket.rs`     | the two descriptors: options in the one order that works, sending, receiving |
//! | `inbox.rs`      | a batch of received frames and the memory that they lie in |
//! | `frame.rs`      | one of them: header, VLAN tag put back, what is not fit to pass on |
//! | `flow.rs`       | which conversation it belongs to |
//! | `sctp.rs`       | the one checksum that virtio has no words for |
//! | `long_frames.rs`       | what `sendmsg` refuses for its length, though the parent takes it |
//! | `filter.rs`     | which frames the kernel copies at all |
//! | `membership.rs` | which frames the NIC lets in: addresses, all multicast, promiscuous |
//!
//! Both directions go in batches through plain system calls, `recvmmsg` and `sendmmsg`, not through rings
//! shared with the kernel: `inbox.rs` says why for the receiving side, and the transmit ring was measured
//! slower than `sendmmsg`, and its header parsing in the kernel has a race (CVE-2026-31700). Both carry
//! a virtio-net header, so that 64 KiB of TCP pass in one piece. The kernel wakes us for every frame that
//! finds us asleep: a lone one waits for nothing but that.
//!
//! What can go wrong: frames get lost when too many wait (counted, [`PacketQueue::losses`]). A parent
//! that goes down says ENETDOWN once ([`PacketQueue::take_error`]); the socket resumes by itself. One
//! that is deleted, or moves to another network namespace, is gone for good: sends say ENXIO, and a new
//! queue is needed. LRO makes frames that the header cannot describe; the kernel drops them: `ethtool
//! -K DEV lro off`. Closing a queue waits for the kernel's RCU, some 17 ms: not for the data path.
//!
//! Kernel source: net/packet/af_packet.c, include/linux/virtio_net.h; Documentation/networking/
//! packet_mmap.rst.

pub mod filter;
pub mod flow;
pub mod frame;
pub mod inbox;
pub mod long_frames;
pub mod membership;
pub mod sctp;
pub mod socket;

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use nix::errno::Errno;

use crate::uplink::packet::filter::SocketFilter;
use crate::uplink::packet::frame::Received;
use crate::uplink::packet::inbox::Progress;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::packet::socket::SEND_HEADER;

use crate::net::mac::Mac;
use crate::uplink::packet::inbox::ReceiveBatch;
use crate::uplink::packet::membership::Memberships;
use crate::uplink::packet::socket::{Message, Socket};
use crate::virtqueue::guest_slice::GuestSlice;

/// A receiving and a sending AF_PACKET socket on one parent. Dropping it closes them and takes back its
/// memberships.
///
/// Readable (EPOLLIN, level-triggered) while a frame waits, and in error (EPOLLERR) until
/// [`PacketQueue::take_error`] has been called. [`PacketQueue::outlet`] is writable while there is
/// room to send.
#[derive(Debug)]
pub struct PacketQueue {
    inbox: Mutex<ReceiveBatch>,
    memberships: Memberships,
    dropped: AtomicU64,
    /// Frames without a description, of which another call than the one that receives was told.
    reported: AtomicU64,
    socket: Socket,
    outlet: Socket,
    /// Sends what `outlet` refuses for its length. All queues of a parent share it.
    long: Option<Arc<LongFrames>>,
    /// It was `long` that had no room last.
    long_is_full: AtomicBool,
}

/// Two packet sockets, opened by somebody who may, and bound to nothing yet.
#[derive(Debug)]
pub struct PacketSockets {
    /// Frames are received by this one.
    pub receive: OwnedFd,
    /// Frames are sent by this one.
    pub send: OwnedFd,
}

/// Frames from the wire that did not arrive, since the queue was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Dropped by the kernel: too many waited.
    pub dropped: u64,
    /// Longer than 64 KiB (BIG TCP), so that only its beginning came.
    pub truncated: u64,
    /// No whole Ethernet frame, or one that the virtio-net header cannot describe (LRO, SCTP
    /// segmentation), or whose description contradicts itself.
    pub unusable: u64,
}

impl AddAssign for Losses {
    fn add_assign(&mut self, other: Losses) {
        self.dropped += other.dropped;
        self.truncated += other.truncated;
        self.unusable += other.unusable;
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Losses { dropped, truncated, unusable } = self;
        write!(f, "{dropped} buffer full, {truncated} truncated, {unusable} unusable")
    }
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

    /// Makes several queues, which share the flows of the parent among them by flow hash. A single one
    /// hears everything.
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
                // Between bind and join the socket is on its own, and would hear all flows.
                socket.filter(crate::uplink::packet::filter::NOTHING)?;
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
            inbox: Mutex::new(ReceiveBatch::new()),
            memberships: Memberships::new(ifindex),
            dropped: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            socket,
            outlet,
            long: None,
            long_is_full: AtomicBool::new(false),
        })
    }

    /// Changes what the kernel lets through, at once and without a gap.
    pub fn set_admit(&self, admit: SocketFilter) -> io::Result<()> {
        self.socket.filter(admit.program())
    }

    /// Hands a batch of waiting frames to `each`, oldest first: at most `budget`, and at most 32. They
    /// stay where they are until the next call.
    ///
    /// One thread receives at a time: a second one, or a call from within `each`, gets nothing and is
    /// told that more waits. Allocates nothing, waits for nothing.
    pub fn receive(&self, budget: usize, each: &mut dyn FnMut(Received<'_>)) -> Progress {
        match self.inbox.try_lock() {
            Ok(mut inbox) => inbox.take(&self.socket, budget, each),
            Err(TryLockError::Poisoned(inbox)) => {
                inbox.into_inner().take(&self.socket, budget, each)
            }
            Err(TryLockError::WouldBlock) => Progress { frames: 0, more: true },
        }
    }

    /// As [`PacketQueue::receive`], for the one that has the queue: the frames stay where they are while it is borrowed.
    pub fn receive_batch<'q>(
        &'q mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'q>),
    ) -> Progress {
        let inbox = self.inbox.get_mut().unwrap_or_else(PoisonError::into_inner);
        inbox.take(&self.socket, budget, each)
    }

    /// Sends frames, each message being a header of [`SEND_HEADER`] bytes and then the frame, in any
    /// pieces (at most 1024, and at most 1024 messages). Never waits. Returns how many the kernel
    /// took; less than all means that the next one has a reason, which the next call tells.
    ///
    /// The header is a `virtio_net_hdr` without `num_buffers`, in the host's byte order. Frames that
    /// need a checksum or segmentation get it from the device, or from the kernel before it.
    ///
    /// Errors are about the first message:
    /// - EAGAIN: the send buffer is full. Nothing is lost; try when the queue is writable.
    /// - ENOBUFS: the parent's queueing discipline dropped it. It is gone.
    /// - EMSGSIZE: longer than the MTU allows, and no segmentation is asked for: 14 bytes more, 18 with a
    ///   VLAN tag, 78 where there is a ring for long frames ([`PacketQueue::set_long_frames`]).
    /// - EINVAL: shorter than an Ethernet header, or the virtio-net header does not fit the frame.
    /// - ENETDOWN: the parent is down.
    /// - ENXIO: the parent has been deleted or has left the network namespace.
    ///
    /// A guest that changes a piece meanwhile changes its own frame only: the kernel copies first.
    pub fn send(&self, messages: &mut [Message<'_>]) -> io::Result<usize> {
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

    /// Sets the ring for long frames; without one they are refused. Returns the old one, because to close it
    /// takes time.
    pub fn set_long_frames(&mut self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        self.long_is_full.store(false, Ordering::Relaxed);
        std::mem::replace(&mut self.long, long)
    }

    /// The descriptor that is writable when there is room to send. To be watched only while somebody
    /// waits for that: see `socket.rs`.
    pub fn outlet(&self) -> BorrowedFd<'_> {
        match &self.long {
            Some(long) if self.long_is_full.load(Ordering::Relaxed) => long.as_fd(),
            _ => self.outlet.as_fd(),
        }
    }

    /// All descriptors that [`PacketQueue::outlet`] may have been.
    pub fn outlets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(self.outlet.as_fd()), self.long.as_ref().map(|long| long.as_fd())]
            .into_iter()
            .flatten()
    }

    /// Sends one complete frame from ordinary memory, for the control side (RARP). Errors are those
    /// of [`PacketQueue::send`].
    pub fn send_one(&self, frame: &[u8]) -> io::Result<()> {
        self.send_with_header(&[0; SEND_HEADER], frame)
    }

    /// Sends one frame with its header from ordinary memory. Errors are those of
    /// [`PacketQueue::send`].
    pub fn send_with_header(&self, header: &[u8; SEND_HEADER], frame: &[u8]) -> io::Result<()> {
        let pieces = [header.as_slice(), frame].map(GuestSlice::from);
        match self.send(&mut [Message::new(&pieces)]) {
            Ok(0) => Err(Errno::EAGAIN.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The error that the kernel keeps for the socket, if any, which is forgotten by that: ENETDOWN
    /// once the parent has gone down or away, or was down when the queue was opened.
    pub fn take_error(&self) -> Option<Errno> {
        let error = self.socket.take_error();
        if error == Some(Errno::EINVAL) {
            self.reported.fetch_add(1, Ordering::Relaxed);
        }
        error
    }

    /// What was lost since the queue was opened. For the control side: it may wait for a turn of the
    /// data path.
    pub fn losses(&self) -> io::Result<Losses> {
        // The kernel forgets its count by telling it.
        let dropped = u64::from(self.socket.kernel_drops()?);
        let before = self.dropped.fetch_add(dropped, Ordering::Relaxed);
        let dropped = before.wrapping_add(dropped);
        let reported = self.reported.load(Ordering::Relaxed);
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let unusable = inbox.unusable.wrapping_add(reported);
        Ok(Losses { dropped, truncated: inbox.truncated, unusable })
    }

    /// Makes the NIC let frames to this address in. A parent that cannot filter by several addresses
    /// goes promiscuous by it. Counted: as many drops are needed as adds.
    ///
    /// Errors: ENODEV when the parent has gone, EINVAL for a group address on some drivers.
    pub fn add_unicast(&self, mac: Mac) -> io::Result<()> {
        self.memberships.unicast(&self.socket, mac, true)
    }

    /// Takes back one [`PacketQueue::add_unicast`]. An address that was not added is fine.
    pub fn drop_unicast(&self, mac: Mac) -> io::Result<()> {
        self.memberships.unicast(&self.socket, mac, false)
    }

    /// Makes the NIC let all multicast in, or no longer on our account. ENODEV when the parent has
    /// gone.
    pub fn set_all_multicast(&self, on: bool) -> io::Result<()> {
        self.memberships.all_multicast(&self.socket, on)
    }

    /// Makes the NIC let everything in, or no longer on our account. ENODEV when the parent has gone.
    pub fn set_promiscuous(&self, on: bool) -> io::Result<()> {
        self.memberships.promiscuous(&self.socket, on)
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
