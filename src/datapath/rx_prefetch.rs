//! Receive buffers taken ahead of need.
//!
//! How long a frame is shows only after it was read, and it must be read into buffers that are ready.
//! [`RxPrefetch`] therefore pops chains before they are needed and keeps them, parsed, from frame to frame and
//! from turn to turn. Nothing is lost if the ring stops meanwhile: what was popped and not given back is
//! simply forgotten, and the ring starts again at its used index.
//!
//! How many descriptors may be read for that in a turn is bounded by the turn ([`RxPrefetch::fill`]).
//!
//! A chain that cannot be used goes back with length 0 when its turn comes, because chains are given back
//! in order; no frame reaches across it, and none is taken behind it.

use std::collections::VecDeque;

use crate::net::vnet_hdr::{HEADER, NUM_BUFFERS};
use crate::virtqueue::chain::{Chain, ChainId, Popped};
use crate::virtqueue::copy::put;
use crate::virtqueue::guest_slice::GuestSliceMut;
use crate::virtqueue::kept_slices::KeptSlices;
use crate::virtqueue::ring::Queue;
use crate::virtqueue::ring_fault::Fault;

/// Most chains taken ahead: 64 KiB in Linux's 1526-byte buffers is 43 of them.
const AHEAD_CHAINS: usize = 256;
/// Most pieces of all chains taken ahead; the kernel takes 1024 in one call.
pub const AHEAD_PIECES: usize = 1000;

/// A chain taken ahead. One that cannot be used (malformed, or too short for the header) has no bytes;
/// it waits for its turn to be given back, and no frame reaches across it.
#[derive(Clone, Copy)]
struct Taken {
    id: ChainId,
    pieces: usize,
    bytes: usize,
}

/// Chains popped and not yet given back, with their pieces.
pub struct RxPrefetch {
    chains: VecDeque<Taken>,
    pieces: KeptSlices,
    /// Pieces in front that belong to chains already given back.
    spent: usize,
    bytes: usize,
    /// The last chain taken cannot be used: none is taken behind it.
    blocked: bool,
}

impl Default for RxPrefetch {
    /// Nothing taken, with room for all that will be.
    fn default() -> RxPrefetch {
        RxPrefetch {
            chains: VecDeque::with_capacity(AHEAD_CHAINS),
            pieces: KeptSlices::with_capacity(2 * AHEAD_PIECES),
            spent: 0,
            bytes: 0,
            blocked: false,
        }
    }
}

impl RxPrefetch {
    /// Forgets what was taken: the ring was stopped or moved.
    pub fn clear(&mut self) {
        self.chains.clear();
        self.pieces.clear();
        (self.spent, self.bytes, self.blocked) = (0, 0, false);
    }

    /// True when no chain was taken.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// True when no more chains may be taken.
    pub fn is_full(&self) -> bool {
        self.blocked
            || self.chains.len() >= AHEAD_CHAINS
            || self.pieces.len() - self.spent >= AHEAD_PIECES
    }

    /// Takes chains until they hold `want` bytes, or `most` chains, or there are no more, or `descriptors` have
    /// been read, but one chain more than that. One that is shorter than `header` cannot be used.
    pub fn fill(
        &mut self,
        queue: &mut Queue<'_>,
        want: usize,
        most: usize,
        header: usize,
        descriptors: u32,
    ) -> Result<(), Fault> {
        let before = queue.read_since(0);
        if self.spent >= AHEAD_PIECES {
            self.pieces.forget_front(self.spent);
            self.spent = 0;
        }
        while self.bytes < want
            && self.chains.len() < most
            && !self.is_full()
            && queue.read_since(before) < descriptors
        {
            match self.pieces.pop(queue, header, u32::MAX) {
                Popped::Empty | Popped::Costly => break,
                Popped::Broken(fault) => return Err(fault),
                Popped::Bad(id) => {
                    self.chains.push_back(Taken { id, pieces: 0, bytes: 0 });
                    self.blocked = true;
                }
                Popped::Chain(Chain { id, pieces, bytes }) => {
                    self.chains.push_back(Taken { id, pieces, bytes });
                    self.bytes += bytes;
                }
            }
        }
        Ok(())
    }

    /// Gives the first chain back if it cannot be used; says whether it did.
    pub fn skip_unusable(&mut self, queue: &mut Queue<'_>) -> bool {
        let Some(chain) = self.chains.front().copied().filter(|chain| chain.bytes == 0) else {
            return false;
        };
        queue.add_used(chain.id, 0);
        self.chains.pop_front();
        self.spent += chain.pieces;
        // It was the last one, too.
        self.blocked = false;
        true
    }

    /// The pieces of the first chains that together hold at least `want` bytes (or of all), and what
    /// they hold. `most` bounds the chains.
    pub fn room<'r>(
        &self,
        queue: &Queue<'r>,
        want: usize,
        most: usize,
    ) -> (&[GuestSliceMut<'r>], usize) {
        let (mut pieces, mut bytes) = (0, 0);
        for chain in self.chains.iter().take(most) {
            if bytes >= want {
                break;
            }
            pieces += chain.pieces;
            bytes += chain.bytes;
        }
        (self.pieces.of(queue).get(self.spent..self.spent + pieces).unwrap_or_default(), bytes)
    }

    /// Gives back the chains that a frame of `len` bytes (with its header) fills, and writes their
    /// number into its header where that has the field.
    pub fn commit(&mut self, queue: &mut Queue<'_>, len: usize, header: usize) {
        let (mut count, mut bytes) = (0u16, 0);
        for chain in &self.chains {
            if bytes >= len {
                break;
            }
            bytes += chain.bytes;
            count += 1;
        }
        if header == HEADER {
            let pieces = self.pieces.of(queue).get(self.spent..).unwrap_or_default();
            put(pieces, NUM_BUFFERS, &count.to_le_bytes());
        }
        let mut rest = len;
        for _ in 0..count {
            let Some(chain) = self.chains.pop_front() else { break };
            let filled = rest.min(chain.bytes);
            queue.add_used(chain.id, filled as u32);
            rest -= filled;
            self.spent += chain.pieces;
            self.bytes -= chain.bytes;
        }
        if self.chains.is_empty() {
            self.clear();
        }
    }
}
