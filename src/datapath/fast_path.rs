//! The usual frame into the usual buffer: many at a time.
//!
//! Between two guests nearly every frame needs no repair, lies behind its header in one piece and fits into
//! the receiver's next buffer. What such a frame costs is less instructions than cache lines that the two
//! guests' processors have: the receiver's descriptor and its buffer, which the receiver has just read. One
//! after the other, each takes as long as a hundred instructions; the shorter the code between two of them,
//! the more of them are under way at a time. So a run of frames goes in two tight loops: the first takes a
//! buffer for each and asks the processor for it, the second copies.
//!
//! A frame or a buffer that is anything else ends the run, and `deliver.rs` does that frame in the general
//! way. So nothing is decided here that is not decided the same way there.

use crate::datapath::frame::Frame;
use crate::datapath::work_limit::BATCH;
use crate::net::counters::Counters;
use crate::net::ethernet::ETHERNET;
use crate::net::vnet_hdr::HEADER;
use crate::offload;
use crate::offload::{Accepts, Need};
use crate::virtqueue::chain::Access;
use crate::virtqueue::copy::{copy, fetch};
use crate::virtqueue::split_ring::Ring;

/// What stands before the part of a frame that is in the sender's memory.
const FRONT: usize = HEADER + ETHERNET;

/// `num_buffers` as it stands in the last four bytes of the header.
const ONE_BUFFER: u32 = 1 << 16;

/// A frame and the buffer taken for it.
#[derive(Clone, Copy, Debug)]
struct FastSlot {
    header: (u64, u32),
    ethernet: *const u8,
    body: *const u8,
    /// Of the body, in bytes.
    len: usize,
    to: *mut u8,
    chain: u16,
}

/// Working memory of a run.
#[derive(Debug)]
pub struct Slots(Vec<FastSlot>);

// SAFETY: what a slot refers to is used within one run only; between two it is just numbers.
unsafe impl Send for Slots {}

impl Default for Slots {
    fn default() -> Slots {
        Slots(Vec::with_capacity(BATCH))
    }
}

impl FastSlot {
    /// What is known of a frame of the usual kind before it has a buffer.
    #[inline]
    fn of(frame: &Frame<'_>, accepts: Accepts) -> Option<FastSlot> {
        let [body] = frame.body else { return None };
        if frame.head.len() != ETHERNET
            || crate::offload::need(frame.header, accepts) != Need::Nothing
        {
            return None;
        }
        Some(FastSlot {
            header: offload::pass_words(frame.header, accepts),
            ethernet: frame.head.as_ptr(),
            body: body.iov_base.cast(),
            len: body.iov_len,
            to: std::ptr::null_mut(),
            chain: 0,
        })
    }
}

/// Places frames in a receive ring that has headers of [`HEADER`] bytes, up to the first that is not of the
/// usual kind or finds no usual buffer; at most as many as a batch has. Those that were placed are taken from
/// the iterator.
pub fn run<'a>(
    ring: &mut Ring,
    counters: &mut Counters,
    accepts: Accepts,
    Slots(slots): &mut Slots,
    frames: &mut (impl Iterator<Item = Frame<'a>> + Clone),
) {
    slots.clear();
    let mut ahead = frames.clone().take(slots.capacity());
    ring.pop_single(Access::Writable, |chain, buffer| {
        match ahead.next().and_then(|frame| FastSlot::of(&frame, accepts)) {
            Some(slot) if FRONT + slot.len <= buffer.iov_len => {
                fetch(&buffer);
                slots.push(FastSlot { chain, to: buffer.iov_base.cast(), ..slot });
                true
            }
            _ => false,
        }
    });
    for slot in slots.iter() {
        let (first, second) = slot.header;
        // SAFETY: the buffer was found to hold header and frame, of which this is all. It was translated by
        // the ring and stays mapped while the caller has the ring's line locked, as does the sender's piece
        // while its line is; the front is the caller's. Either guest may write meanwhile: bytes are moved,
        // nothing is made of them.
        unsafe {
            slot.to.cast::<u64>().write_unaligned(first.to_le());
            slot.to.add(8).cast::<u32>().write_unaligned((second | ONE_BUFFER).to_le());
            copy(slot.ethernet, slot.to.add(HEADER), ETHERNET);
            copy(slot.body, slot.to.add(FRONT), slot.len);
        }
        ring.give_back(slot.chain, (FRONT + slot.len) as u32);
        counters.frame(ETHERNET + slot.len);
    }
    if let Some(last) = slots.len().checked_sub(1) {
        frames.nth(last);
    }
}

#[cfg(test)]
mod tests;
