//! When one side of a ring notifies the other, so that neither sleeps while there is something for
//! it.
//!
//! Each side has one word that the other one reads: the producer its index, the consumer the event
//! at which it wants to be notified. Both do the same: store the own word, then read the other's. A
//! full barrier stands between the two, so at least one of them sees the other's store. Either the
//! producer sees the event and notifies, or the consumer sees the index and does not sleep. We are
//! the producer of a used ring and the consumer of an available ring; the driver is the other side
//! of each (virtio 1.2, sections 2.7.7 and 2.7.10).

use crate::sync::{AtomicU16, Ordering, fence};

/// Stores the own word, and then reads the other side's. `order` is `Release` for an index, which
/// makes the elements before it visible.
#[inline]
pub fn store_then_look(own: &AtomicU16, value: u16, order: Ordering, theirs: &AtomicU16) -> u16 {
    own.store(value.to_le(), order);
    fence(Ordering::SeqCst);
    u16::from_le(theirs.load(Ordering::Acquire))
}

/// `vring_need_event` (virtio 1.2, 2.7.10): has the index passed `event` on its way from `old` to
/// `new`?
#[inline]
pub fn passed(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
