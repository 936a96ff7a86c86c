//! Descriptor chains, as the data path sees them: popped from a ring, and given back to it.
//!
//! The data path keeps a chain's id from the one to the other, and cannot see what is in it: a
//! split ring names a chain by its first descriptor, a packed ring would name it by its buffer id.

use crate::virtqueue::ring_fault::Fault;

/// The ring's name for a chain. Only a ring makes one, and only a ring reads it. The worker that
/// popped the chain keeps it, to name the used chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainId(pub(in crate::virtqueue) u16);

/// One descriptor chain, popped: its buffers stand in the caller's piece list.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// The ring takes the chain back by it.
    pub id: ChainId,
    /// How many pieces it has in the caller's list.
    pub pieces: usize,
    /// Total bytes of its pieces.
    pub bytes: usize,
}

/// The result of [`Queue::pop`](crate::virtqueue::ring::Queue::pop).
#[derive(Clone, Copy, Debug)]
pub enum Popped {
    /// The driver has made no (more) chain available.
    Empty,
    /// A chain; its pieces were appended to the list.
    Chain(Chain),
    /// A chain that cannot be used, malformed or too short: to be given back with length 0. No
    /// piece was appended.
    Bad(ChainId),
    /// A chain with more descriptors than may be read now. It stays where it is.
    Costly,
    /// The ring cannot be used any more.
    Broken(Fault),
}
