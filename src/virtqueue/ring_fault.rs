//! Why a ring cannot be used, from its start or any more.
//!
//! A guest or a front-end that breaks a rule of the ring loses this ring (`vring.rs`), and nothing
//! else. The text goes to the log.

use std::fmt;

use crate::virtqueue::ring_setup::MAX_RING_SIZE;

/// Why a ring cannot be used (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The size is zero, not a power of two, or above [`MAX_RING_SIZE`].
    Size(u16),
    /// Part of the ring lies outside the guest's memory or is misaligned.
    Address,
    /// The available index is further ahead than the ring is long.
    AvailIndex,
    /// The available ring names a descriptor that does not exist.
    Head(u16),
    /// More chains than the ring is long, one after the other, could not be used.
    Unusable,
    /// The front-end has truncated the guest's memory.
    MemoryLost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Size(size) => {
                write!(f, "ring size {size} is not a power of two up to {MAX_RING_SIZE}")
            }
            Fault::Address => f.write_str("ring is not inside the guest's memory, or misaligned"),
            Fault::AvailIndex => f.write_str("available index is further ahead than the ring"),
            Fault::Unusable => {
                f.write_str("more chains in a row than the ring is long could not be used")
            }
            Fault::MemoryLost => f.write_str("the front-end has truncated the guest's memory"),
            Fault::Head(head) => {
                write!(f, "available ring names descriptor {head}, which does not exist")
            }
        }
    }
}
