//! The name of a ring that was started.
//!
//! What is kept from one borrow of a ring to the next (`kept_slices.rs`) notes the ring's id, and
//! counts only for the ring with the same one.

use std::sync::atomic::{AtomicU64, Ordering};

/// Names a ring that was started: no other ring of this process ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingId(u64);

impl RingId {
    /// No ring has this one.
    pub(in crate::virtqueue) const NONE: RingId = RingId(0);

    /// One that no ring has had yet.
    pub(in crate::virtqueue) fn next() -> RingId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        RingId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
