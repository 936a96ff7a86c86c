//! Frames taken from the socket, a batch at a time, by one `recvmmsg`.
//!
//! Each frame lands in a place of its own, header and frame in one piece, and stays there until the
//! next batch. A place has room for the largest frame, because the length of the next one is
//! unknown; the memory is only touched as far as frames reach, so that ordinary ones cost a page or
//! two each. Large ones would fill two megabytes at a time and drive everything else out of the
//! processor's cache: when some of a batch were large, the next batches are short, and grow again
//! with small frames.
//!
//! Why no ring shared with the kernel: TPACKET_V3 hands over a block when it is full or a tick of a
//! millisecond has passed, and every lone frame waits for that. TPACKET_V2 wakes us for each frame,
//! but together with virtio-net headers the first frame that the kernel cannot describe (LRO, SCTP
//! segmentation) blocks it indefinitely: `tpacket_rcv` marks the slot as being filled, leaves by an
//! error and never takes the mark back (tried on Linux 6.18). The socket's own queue has neither
//! fault, holds no memory while nothing waits, and super-frames come through it faster, since the
//! processor that receives them does not have to copy them first.
//!
//! What can go wrong: the queue is full (counted by the kernel). A frame that cannot be described
//! is reported as EINVAL, to this call or, if there were frames before it, to the next call on the
//! socket, which may be any (`sk_err`, see `do_recvmmsg`), even `take_error`.

use std::io;
use std::mem::{offset_of, size_of};
use std::ptr;

use libc::tpacket_auxdata;

use crate::net::ethertype;
use crate::net::vlan::Tag;
use crate::net::vnet_hdr::LEGACY_HEADER;
use crate::uplink::packet::frame::{FrameRead, LONGEST};
use crate::uplink::packet::socket::Socket;
use crate::uplink::packet::{frame, socket};
use crate::uplink::received::{Received, ReceivedBatch};
use crate::virtqueue::reuse::{Family, Reused};

/// Most frames of a batch. The system call's own cost is a few nanoseconds for each then.
pub(crate) const BATCH: usize = 32;
/// Most frames of a batch while large ones come: half a megabyte, which a processor's cache holds.
const FEW: usize = 8;
/// A frame that is larger than this counts as large, in bytes: two pages.
const LARGE: usize = 8192;
/// From one place to the next, in bytes. An odd number of cache lines: if all places began at the
/// same offset of a page, their first bytes would contend for the same few lines of the first-level
/// cache.
const STRIDE: usize = 1027 * 64;
/// The kernel's words beside a frame: a control message with a `tpacket_auxdata`, which is 20
/// bytes.
const BESIDE: usize = 40;

const _: () = assert!(LEGACY_HEADER + LONGEST <= STRIDE);
const _: () = assert!(size_of::<libc::cmsghdr>() + size_of::<tpacket_auxdata>() <= BESIDE);

/// The kernel's words beside a frame, aligned as a `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct AuxData([u8; BESIDE]);

/// Lists of [`Received`] that keep their memory.
struct ReceivedFrames;

impl Family for ReceivedFrames {
    type Item<'a> = Received<'a>;
}

/// Memory for a batch.
pub(crate) struct ReceiveBatch {
    places: Vec<u8>,
    beside: Vec<AuxData>,
    pieces: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    frames: Reused<ReceivedFrames>,
    /// Frames of the next batch at most.
    depth: usize,
    /// Frames that came in part.
    pub(crate) truncated: u64,
    /// Frames that could not be handed over.
    pub(crate) unusable: u64,
}

// SAFETY: the pointers in `pieces` and `messages` lead to this value's own memory, and are made
// anew for every call.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    pub(crate) fn new() -> ReceiveBatch {
        ReceiveBatch {
            places: vec![0; BATCH * STRIDE],
            beside: vec![AuxData([0; BESIDE]); BATCH],
            pieces: Vec::with_capacity(BATCH),
            messages: Vec::with_capacity(BATCH),
            frames: Reused::with_capacity(BATCH),
            depth: BATCH,
            truncated: 0,
            unusable: 0,
        }
    }

    /// See [`Uplink::receive`](crate::uplink::wire::Uplink::receive).
    pub(crate) fn take(&mut self, socket: &Socket, budget: usize) -> ReceivedBatch<'_> {
        let most = budget.min(self.depth);
        if most == 0 {
            return ReceivedBatch { frames: &[], more: true };
        }
        self.lay_out(most);
        // SAFETY: every message has one piece and one control buffer, which are this value's own,
        // of the announced lengths, and not touched otherwise until the call returns.
        let count = match unsafe { socket.receive(&mut self.messages) } {
            Ok(count) => count,
            Err(error) => return self.refused(&error),
        };
        let mut large = false;
        let frames = self.frames.lend();
        let places = self.places.chunks_exact_mut(STRIDE);
        for ((message, place), beside) in
            self.messages.iter().take(count).zip(places).zip(&self.beside)
        {
            let len = message.msg_len as usize;
            large |= len > LARGE;
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            let aside = beside.0.get(..message.msg_hdr.msg_controllen).and_then(tag);
            match place.get_mut(..len).map(|bytes| frame::read(bytes, whole, aside)) {
                Some(FrameRead::Frame(received)) => frames.push(received),
                Some(FrameRead::Truncated) => self.truncated = self.truncated.wrapping_add(1),
                Some(FrameRead::Unusable) | None => self.unusable = self.unusable.wrapping_add(1),
            }
        }
        self.depth = if large { FEW } else { BATCH.min(2 * self.depth) };
        ReceivedBatch { frames, more: count == most }
    }

    /// No frame came, for this reason.
    fn refused(&mut self, error: &io::Error) -> ReceivedBatch<'_> {
        let undescribed = error.raw_os_error() == Some(libc::EINVAL);
        if undescribed {
            self.unusable = self.unusable.wrapping_add(1);
        }
        // The frames behind it may be fine. Any other error is the parent's, and netlink reports
        // it.
        ReceivedBatch { frames: &[], more: undescribed }
    }

    /// Makes `count` messages, each with a place.
    fn lay_out(&mut self, count: usize) {
        self.pieces.clear();
        self.messages.clear();
        let places = self.places.chunks_exact_mut(STRIDE);
        self.pieces.extend(places.take(count).map(|place| libc::iovec {
            iov_base: place.as_mut_ptr().cast(),
            iov_len: place.len(),
        }));
        for (piece, beside) in self.pieces.iter_mut().zip(&mut self.beside) {
            let mut message = socket::message(piece, 1);
            message.msg_hdr.msg_control = ptr::from_mut(beside).cast();
            message.msg_hdr.msg_controllen = BESIDE as _;
            self.messages.push(message);
        }
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ReceiveBatch { depth, truncated, unusable, .. } = self;
        write!(f, "ReceiveBatch({depth} deep, {truncated} truncated, {unusable} unusable)")
    }
}

/// The VLAN tag that the kernel took out of the frame and put beside it.
fn tag(beside: &[u8]) -> Option<Tag> {
    let (head, data) = beside.split_at_checked(size_of::<libc::cmsghdr>())?;
    let number = |at: usize| Some(i32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    let level = number(offset_of!(libc::cmsghdr, cmsg_level))?;
    let kind = number(offset_of!(libc::cmsghdr, cmsg_type))?;
    if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    let status = frame::u32_at(data, offset_of!(tpacket_auxdata, tp_status))?;
    let reported = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tci = frame::u16_at(data, offset_of!(tpacket_auxdata, tp_vlan_tci))?;
    let kind = frame::u16_at(data, offset_of!(tpacket_auxdata, tp_vlan_tpid))?;
    // Linux before 3.14 does not report the kind of the tag.
    let kind = if reported { kind } else { ethertype::C_TAG };
    (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| Tag::new(kind, tci))
}

#[cfg(test)]
mod tests;
