//! A running ring, device side: what the data path knows of a virtqueue.
//!
//! A worker borrows the ring for a batch ([`Ring::queue`]), pops chains from it, gives them back
//! with the number of bytes filled, and publishes all of them at once ([`Ring::publish`]). Chains
//! that it cannot serve now it puts back. Only the folder of a layout (`split/`) knows how the ring
//! lies in guest memory: a chain's name is a [`ChainId`] that only the ring can read. Today every
//! ring is split. The layout of a ring never changes while it runs, so a second one (packed) is
//! chosen where the ring is borrowed, once per batch, and not once per frame.
//!
//! Chains always complete in the order in which they were popped. That makes four things simple:
//! the ring restarts at its used index and ignores the front-end's base, popping can be undone by
//! moving an index back, `VIRTIO_F_IN_ORDER` costs nothing, and a crash loses only the chains in
//! flight.
//!
//! A ring owns the guest map that its addresses refer to, and the pieces of a chain borrow the
//! ring. So guest memory stays mapped while any piece of it is in use.

use std::sync::Arc;

use crate::virtqueue::chain::{ChainId, Popped};
use crate::virtqueue::guest_map::GuestMap;
use crate::virtqueue::guest_slice::ChainSlice;
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::ring_id::RingId;
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::split::split_ring::SplitRing;

/// An active ring, and the map that keeps its memory mapped.
#[derive(Debug)]
pub struct Ring {
    map: Arc<GuestMap>,
    split: SplitRing,
}

/// A ring, borrowed for a batch: chains are popped from it and given back to it. The buffers of a
/// chain borrow the ring for as long as this does, so the ring cannot go while one of them is in
/// use.
#[derive(Debug)]
pub struct Queue<'r> {
    map: &'r GuestMap,
    split: &'r mut SplitRing,
}

impl Ring {
    /// Activates a ring at its used index. Chains complete in order, so that index marks the first
    /// chain still to be done; SET_VRING_BASE may come from a front-end that has lost count.
    pub fn start(setup: &RingSetup) -> Result<Ring, Fault> {
        let split = SplitRing::start(setup)?;
        Ok(Ring { map: Arc::clone(&setup.map), split })
    }

    /// The ring for a batch.
    ///
    /// A piece of a chain can be used while the ring is borrowed:
    ///
    /// ```
    /// # use vhost_user_macvtap::virtqueue::{guest_slice::GuestSlice, ring::Ring};
    /// fn bytes(mut ring: Ring) -> usize {
    ///     let mut pieces: Vec<GuestSlice<'_>> = Vec::with_capacity(64);
    ///     ring.queue().pop(1, u32::MAX, &mut pieces);
    ///     let bytes = pieces.iter().map(GuestSlice::len).sum();
    ///     drop(ring);
    ///     bytes
    /// }
    /// ```
    ///
    /// The compiler refuses to let a piece outlive the ring, whose map keeps its memory mapped:
    ///
    /// ```compile_fail,E0505
    /// # use vhost_user_macvtap::virtqueue::{guest_slice::GuestSlice, ring::Ring};
    /// fn bytes(mut ring: Ring) -> usize {
    ///     let mut pieces: Vec<GuestSlice<'_>> = Vec::with_capacity(64);
    ///     ring.queue().pop(1, u32::MAX, &mut pieces);
    ///     drop(ring);
    ///     pieces.iter().map(GuestSlice::len).sum()
    /// }
    /// ```
    #[inline]
    pub fn queue(&mut self) -> Queue<'_> {
        Queue { map: &self.map, split: &mut self.split }
    }

    /// True when the ring's memory was truncated.
    pub fn memory_lost(&self) -> bool {
        self.map.lost()
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.split.size()
    }

    /// The used index as published: where a later start continues.
    pub fn position(&self) -> u16 {
        self.split.position()
    }

    /// Makes everything given back visible, and returns whether the driver wants to be called for
    /// it.
    pub fn publish(&mut self) -> bool {
        self.split.publish()
    }

    /// Asks the driver to kick for the next chain. Returns true when one came in meanwhile: then
    /// the kick may not come, and the caller has to go on by itself.
    pub fn enable_notification(&mut self) -> Result<bool, Fault> {
        self.split.enable_notification()
    }

    /// As [`Ring::enable_notification`], for a caller that has seen the waiting chains and needs
    /// more of them.
    pub fn enable_notification_at(&mut self) -> Result<bool, Fault> {
        Ok(self.split.enable_notification_at())
    }

    /// How many chains wait to be popped.
    pub fn waits(&mut self) -> Result<u16, Fault> {
        self.split.waiting()
    }

    /// Tells the driver that kicks are not needed for now.
    pub fn disable_notification(&mut self) {
        self.split.disable_notification();
    }
}

impl<'r> Queue<'r> {
    /// Names the ring.
    #[inline]
    pub fn id(&self) -> RingId {
        self.split.id()
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.split.size()
    }

    /// How many descriptors were read, or pieces found in them where these are more, since
    /// `before`, an earlier answer to the same question with 0.
    #[inline]
    pub fn read_since(&self, before: u32) -> u32 {
        self.split.read().wrapping_sub(before)
    }

    /// True when every descriptor chain the ring can hold has been popped and none given back.
    pub fn all_popped(&self) -> bool {
        self.split.in_flight() == self.split.size()
    }

    /// Takes chains of one buffer for as long as `take` accepts them: it gets the chain's id and
    /// its buffer. Ends before the first chain of any other form, or that cannot be right, and when
    /// no more are known to wait: [`Queue::pop`] then finds out the reason.
    #[inline]
    pub fn pop_single<S: ChainSlice<'r>>(&mut self, take: impl FnMut(ChainId, S) -> bool) {
        self.split.pop_single(self.map, take);
    }

    /// Takes the next chain, unless that takes more than `most` descriptors. One of less than
    /// `least` bytes (at least 1) cannot be used. Its buffers are appended to `pieces`; the type of
    /// `pieces` gives the direction of the buffers.
    #[inline]
    pub fn pop<S: ChainSlice<'r>>(
        &mut self,
        least: usize,
        most: u32,
        pieces: &mut Vec<S>,
    ) -> Popped {
        self.split.pop(self.map, least, most, pieces)
    }

    /// Puts the last `count` popped chains back: they will be popped again.
    #[inline]
    pub fn undo_pop(&mut self, count: u16) {
        self.split.undo_pop(count);
    }

    /// Puts back everything that was popped and not given back.
    #[cfg(test)]
    pub fn undo_all(&mut self) {
        self.split.undo_pop(self.split.in_flight());
    }

    /// Writes a used element: `len` bytes of the chain were filled. The driver sees it at the next
    /// [`Ring::publish`].
    #[inline]
    pub fn add_used(&mut self, chain: ChainId, len: u32) {
        self.split.add_used(chain, len);
    }
}

#[cfg(test)]
mod tests;
