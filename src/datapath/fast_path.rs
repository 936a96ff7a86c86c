//! The usual frame into the usual buffer: many at a time.
//!
//! Between two guests nearly every frame needs no repair, lies behind its header in one piece and
//! fits into the receiver's next buffer. What such a frame costs is less instructions than cache
//! lines that the two guests' processors have: the receiver's descriptor and its buffer, which the
//! receiver has just read. One after the other, each takes as long as a hundred instructions; the
//! shorter the code between two of them, the more of them are under way at a time. So a run of
//! frames goes in two tight loops: the first takes a buffer for each and asks the processor for it,
//! the second copies.
//!
//! A frame or a buffer that is anything else ends the run, and `deliver.rs` does that frame in the
//! general way. So nothing is decided here that is not decided the same way there.

use crate::datapath::frame::Frame;
use crate::datapath::work_limit::BATCH;
use crate::net::counters::Counters;
use crate::net::vnet_hdr::HEADER;
use crate::offload;
use crate::offload::{Accepts, Need};
use crate::virtqueue::chain::ChainId;
use crate::virtqueue::copy::{Placement, prefetch};
use crate::virtqueue::guest_slice::{GuestSlice, GuestSliceMut};
use crate::virtqueue::reuse::{Family, Reused};
use crate::virtqueue::ring::Queue;

/// `num_buffers` as it stands in the last four bytes of the header.
const ONE_BUFFER: u32 = 1 << 16;

/// A frame and the buffer taken for it.
#[derive(Clone, Copy, Debug)]
pub struct FastSlot<'a> {
    header: (u64, u32),
    placement: Placement<'a>,
    chain: ChainId,
}

/// Lists of [`FastSlot`] that keep their memory.
#[derive(Debug)]
pub struct FastSlots;

impl Family for FastSlots {
    type Item<'a> = FastSlot<'a>;
}

/// Working memory of a run.
#[derive(Debug)]
pub struct Slots(Reused<FastSlots>);

impl Default for Slots {
    fn default() -> Slots {
        Slots(Reused::with_capacity(BATCH))
    }
}

impl<'a> FastSlot<'a> {
    /// A frame of the usual kind in this buffer, if it fits.
    #[inline]
    fn new(
        frame: &Frame<'a>,
        accepts: Accepts,
        chain: ChainId,
        buffer: GuestSliceMut<'a>,
    ) -> Option<FastSlot<'a>> {
        let [body] = frame.body else { return None };
        let ethernet = frame.head.try_into().ok()?;
        if offload::need(frame.header, accepts) != Need::Nothing {
            return None;
        }
        let (first, second) = offload::pass_words(frame.header, accepts);
        let placement = Placement::new(ethernet, *body, buffer)?;
        Some(FastSlot { header: (first, second | ONE_BUFFER), placement, chain })
    }
}

/// Places frames in a receive ring that has headers of [`HEADER`] bytes, up to the first that is
/// not of the usual kind or finds no usual buffer; at most as many as a batch has. Those that were
/// placed are taken from the iterator.
pub fn run<'r, 'f>(
    queue: &mut Queue<'r>,
    counters: &mut Counters,
    accepts: Accepts,
    Slots(slots): &mut Slots,
    frames: &mut (impl Iterator<Item = Frame<'f>> + Clone),
) {
    let slots = slots.lend();
    let mut ahead = frames.clone().take(slots.capacity());
    queue.pop_single(|chain, buffer: GuestSliceMut<'r>| {
        let slot = ahead.next().and_then(|frame| FastSlot::new(&frame, accepts, chain, buffer));
        slot.is_some_and(|slot| {
            prefetch(GuestSlice::from(buffer));
            slots.push(slot);
            true
        })
    });
    for FastSlot { header, placement, chain } in slots.iter() {
        placement.write(*header);
        queue.add_used(*chain, (HEADER + placement.len()) as u32);
        counters.frame(placement.len());
    }
    if let Some(last) = slots.len().checked_sub(1) {
        frames.nth(last);
    }
}

#[cfg(test)]
mod tests;
