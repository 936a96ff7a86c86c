//! Pieces of chains of one ring, kept from one borrow of the ring to the next.
//!
//! A [`GuestSliceMut`] borrows its ring, so that the ring cannot be dropped while the piece is in
//! use. Receive buffers that are taken ahead wait for the next turn, and between two turns the ring
//! may be stopped, and its memory unmapped. The list therefore notes the ring's id, which no other
//! ring ever has, and shows its pieces only under a borrow of the ring with that id. A ring that
//! can be borrowed still has the guest map that it was started with.

use std::fmt;

use crate::virtqueue::chain::Popped;
use crate::virtqueue::guest_slice::GuestSliceMut;
use crate::virtqueue::ring::Queue;
use crate::virtqueue::ring_id::RingId;

/// Pieces of chains of one ring, kept from one borrow of the ring to the next.
pub struct KeptSlices {
    /// The ring that all of them are from.
    ring: RingId,
    slices: Vec<GuestSliceMut<'static>>,
}

// SAFETY: the pieces are only used under a borrow of the ring that
// they are from. Where that ring may be used, its memory may be.
unsafe impl Send for KeptSlices {}

impl KeptSlices {
    /// An empty list with room for `count` pieces.
    pub fn with_capacity(count: usize) -> KeptSlices {
        KeptSlices { ring: RingId::NONE, slices: Vec::with_capacity(count) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slices.len()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.slices.clear();
    }

    /// Forgets the first `count`, or all.
    pub fn forget_front(&mut self, count: usize) {
        self.slices.drain(..count.min(self.slices.len()));
    }

    /// The pieces, if they are from the ring that `queue` borrows; none otherwise.
    #[inline]
    pub fn of<'m>(&self, queue: &Queue<'m>) -> &[GuestSliceMut<'m>] {
        if self.ring == queue.id() { &self.slices } else { &[] }
    }

    /// Pops a chain and appends its pieces: see [`Queue::pop`]. The pieces of another ring are
    /// forgotten first.
    #[inline]
    pub fn pop(&mut self, queue: &mut Queue<'_>, least: usize, most: u32) -> Popped {
        let list = self.list(queue);
        queue.pop(least, most, list)
    }

    /// The list, only for `queue` to append to.
    #[inline]
    fn list<'s, 'm>(&'s mut self, queue: &Queue<'m>) -> &'s mut Vec<GuestSliceMut<'m>> {
        if self.ring != queue.id() {
            self.slices.clear();
            self.ring = queue.id();
        }
        // SAFETY: types that differ in a lifetime only have the same layout. The pieces in the list
        // are from the ring that is borrowed during 'm, and so are those that `pop` appends. After
        // 'm the pieces are shown under a borrow of this ring only: ids are unique, and a ring's
        // map never changes.
        unsafe { &mut *(&raw mut self.slices).cast::<Vec<GuestSliceMut<'m>>>() }
    }
}

impl fmt::Debug for KeptSlices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptSlices({} of {:?})", self.slices.len(), self.ring)
    }
}
