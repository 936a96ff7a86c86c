//! Into a guest: the worker that has a frame from a sibling or from the uplink places it in a
//! receive ring.
//!
//! There is no queue between ports. The sender's worker takes the receiver's lock for one batch,
//! and copies from the sender's buffers straight into the receiver's: one copy, no wake-up in
//! between, no segmentation, and the header passes through. A frame that the receiver did not
//! negotiate is repaired before the copy (`offload`), which costs a second copy.
//!
//! A receiver that has no buffers loses the frame, and nothing else happens: no worker waits for a
//! guest. A frame from the wire may wait for a while in a queue of the receiver's own
//! (`rx_backlog.rs`). Only then is the guest asked to kick its receive ring.
//!
//! A frame may take a bounded number of the receiver's descriptors, those of unusable chains
//! included (`work_limit.rs`). A ring that asks for more counts as empty for this frame.
//!
//! With mergeable buffers a frame may take several chains. All of them are marked used before any
//! is published, and their number stands in the header (virtio 1.2, 5.1.6.4).

use crate::datapath::fast_path;
use crate::datapath::fast_path::Slots;
use crate::datapath::flood::Flood;
use crate::datapath::frame::Frame;
use crate::datapath::rx_backlog::RxBacklog;
use crate::datapath::work_limit::{Excess, TURN_FRAMES};
use crate::net::counters::{Counters, DropReason};
use crate::net::ethernet::ETHERNET;
use crate::net::feature;
use crate::net::feature::has;
use crate::net::vnet_hdr;
use crate::net::vnet_hdr::{HEADER, MAX_FRAME, MAX_SEGMENTS, NUM_BUFFERS};
use crate::offload;
use crate::offload::{Accepts, Need};
use crate::virtqueue::chain::{Chain, Popped};
use crate::virtqueue::copy::Cursor;
use crate::virtqueue::guest_slice::{GuestSlice, GuestSliceMut, Writable};
use crate::virtqueue::reuse::Reused;
use crate::virtqueue::ring::Queue;
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::ring_setup::MAX_RING_SIZE;
use crate::virtqueue::vring::Vring;

/// How far what waits could be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing waits any more.
    Empty,
    /// The guest has no buffers for the first.
    Waits,
    /// The turn has done enough.
    Later,
}

/// Working memory of a delivery, so that none is allocated.
pub struct RxScratch {
    pieces: Reused<Writable>,
    chains: Vec<Chain>,
    slots: Slots,
    /// Room for a whole frame that has to be repaired.
    pub(crate) whole: Vec<u8>,
    /// What this turn may still take from receive rings beyond the usual.
    excess: Excess,
}

impl Default for RxScratch {
    fn default() -> RxScratch {
        RxScratch {
            // A ring's worth of chains, each buffer split once by a region border.
            pieces: Reused::with_capacity(2 * usize::from(MAX_RING_SIZE)),
            chains: Vec::with_capacity(usize::from(MAX_RING_SIZE)),
            slots: Slots::default(),
            whole: vec![0; MAX_FRAME],
            excess: Excess::default(),
        }
    }
}

impl RxScratch {
    /// A turn begins, with an account of its own.
    pub fn begin_turn(&mut self) {
        self.excess = Excess::default();
    }
}

/// Places frames in one receive ring, until the ring is published.
pub struct Delivery<'a> {
    vring: &'a mut Vring,
    scratch: &'a mut RxScratch,
    accepts: Accepts,
    /// The frame is for many.
    flood: Option<&'a mut Flood>,
    /// Where a frame waits that finds no buffers; none if it may not.
    backlog: Option<&'a mut RxBacklog>,
}

impl<'a> Delivery<'a> {
    /// Deliveries into `vring`, which the caller has locked.
    pub fn new(
        vring: &'a mut Vring,
        scratch: &'a mut RxScratch,
        backlog: Option<&'a mut RxBacklog>,
    ) -> Delivery<'a> {
        let accepts = Accepts::of_guest(vring.features);
        Delivery { vring, scratch, accepts, flood: None, backlog }
    }

    /// The frame to deliver is for many.
    pub fn of_flood(self, flood: Option<&'a mut Flood>) -> Delivery<'a> {
        Delivery { flood, ..self }
    }

    /// Places what waits, as far as there are buffers, but a turn's frames at most. `expired` says
    /// that the first has waited long enough for a guest that has some buffers, but too few for it.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn drain(&mut self, mut expired: bool) -> Result<Drained, Fault> {
        let Some(backlog) = self.backlog.take() else { return Ok(Drained::Empty) };
        let Vring { ring: Some(ring), counters, features, enabled: true, .. } = &mut *self.vring
        else {
            return Ok(if backlog.is_empty() { Drained::Empty } else { Drained::Waits });
        };
        let RxScratch { pieces, chains, excess, .. } = &mut *self.scratch;
        let features = *features;
        let (queue, pieces) = (ring.queue(), pieces.lend());
        let mut place =
            RxWriter { queue, counters, features, pieces, chains, excess, backlog: None };
        for _ in 0..TURN_FRAMES {
            let Some(frame) = backlog.first() else { return Ok(Drained::Empty) };
            match place.place(frame.header, frame.head, frame.body)? {
                Placed::Now => {}
                Placed::Later => return Ok(Drained::Later),
                Placed::Not(DropReason::NoBuffers) if !std::mem::take(&mut expired) => {
                    return Ok(Drained::Waits);
                }
                Placed::Not(DropReason::NoBuffers) => place.counters.drop(DropReason::NoRoom),
                Placed::Not(reason) => place.counters.drop(reason),
            }
            backlog.pop();
        }
        Ok(if backlog.is_empty() { Drained::Empty } else { Drained::Later })
    }

    /// Whether frames wait for buffers.
    pub fn waits(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty())
    }

    /// Places frames in their order, or counts why not.
    ///
    /// # Errors
    /// The ring cannot be used any more; the frames from there on are lost.
    pub fn frames<'f>(
        &mut self,
        mut frames: impl Iterator<Item = Frame<'f>> + Clone,
    ) -> Result<(), Fault> {
        loop {
            // Nothing overtakes what waits.
            if !self.waits()
                && let Vring { ring: Some(ring), counters, features, enabled: true, .. } =
                    &mut *self.vring
                && vnet_hdr::header_len(*features) == HEADER
            {
                let slots = &mut self.scratch.slots;
                fast_path::run(&mut ring.queue(), counters, self.accepts, slots, &mut frames);
            }
            match frames.next() {
                Some(frame) => self.frame(&frame)?,
                None => return Ok(()),
            }
        }
    }

    /// Places one frame, or counts why not.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let Vring { ring, counters, features, enabled, .. } = &mut *self.vring;
        let Some(ring) = ring.as_mut().filter(|_| *enabled) else {
            counters.drop(DropReason::NoGuest);
            return Ok(());
        };
        let RxScratch { pieces, chains, whole, excess, .. } = &mut *self.scratch;
        let backlog = self.backlog.as_deref_mut();
        let features = *features;
        let (queue, pieces) = (ring.queue(), pieces.lend());
        let mut place = RxWriter { queue, counters, features, pieces, chains, excess, backlog };
        if crate::offload::need(frame.header, self.accepts) == Need::Nothing {
            return place.put(&offload::pass(frame.header, self.accepts), frame.head, frame.body);
        }
        let mut outcome = Ok(());
        let mut put = |header: &[u8; HEADER], head: &[u8], payload: &[u8]| {
            if outcome.is_ok() {
                outcome = place.put(header, head, &[GuestSlice::from(payload)]);
            }
        };
        let repaired = match &mut self.flood {
            Some(flood) => flood.each(frame, self.accepts, &mut put),
            None => frame.collect(whole).is_some_and(|mut whole| {
                let most = MAX_SEGMENTS;
                offload::repair(frame.header, &mut whole, self.accepts, most, &mut put).is_ok()
            }),
        };
        if !repaired {
            place.counters.drop(DropReason::Unrepairable);
        }
        outcome
    }
}

/// What became of a frame.
enum Placed {
    /// It is in the ring.
    Now,
    /// The turn has read enough descriptors of this ring.
    Later,
    /// It is not, for this reason.
    Not(DropReason),
}

/// A receive ring and what is needed to fill it.
struct RxWriter<'a> {
    queue: Queue<'a>,
    counters: &'a mut Counters,
    features: u64,
    pieces: &'a mut Vec<GuestSliceMut<'a>>,
    chains: &'a mut Vec<Chain>,
    excess: &'a mut Excess,
    backlog: Option<&'a mut RxBacklog>,
}

impl RxWriter<'_> {
    /// Places one frame that needs no repair, or lets it wait, or counts why not.
    fn put(
        &mut self,
        header: &[u8; HEADER],
        head: &[u8],
        body: &[GuestSlice<'_>],
    ) -> Result<(), Fault> {
        // Nothing overtakes what waits.
        let waits = self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        let placed = if waits { Placed::Later } else { self.place(header, head, body)? };
        match (placed, &mut self.backlog) {
            (Placed::Now, _) => {}
            (Placed::Later | Placed::Not(DropReason::NoBuffers), Some(backlog)) => {
                let len = head.len() + body.iter().map(|piece| piece.len()).sum::<usize>();
                if !backlog.push(&Frame { header, head, body, len }) {
                    self.counters.drop(DropReason::NoBuffers);
                }
            }
            (Placed::Later, None) => self.counters.drop(DropReason::NoBuffers),
            (Placed::Not(reason), _) => self.counters.drop(reason),
        }
        Ok(())
    }

    /// Places one frame that needs no repair, or says why not.
    fn place(
        &mut self,
        header: &[u8; HEADER],
        head: &[u8],
        body: &[GuestSlice<'_>],
    ) -> Result<Placed, Fault> {
        let header_len = vnet_hdr::header_len(self.features);
        let len = head.len() + body.iter().map(|piece| piece.len()).sum::<usize>();
        let whole = header_len + len;
        let before = self.queue.read_since(0);
        let taken = self.take(whole, header_len);
        let read = self.queue.read_since(before);
        // More than the whole account: it does not fit into a next turn either.
        let hopeless = self.excess.is_whole();
        self.excess.charge(whole, read);
        match taken? {
            Placed::Now => {}
            Placed::Later if hopeless => return Ok(Placed::Not(DropReason::NoRoom)),
            other => return Ok(other),
        }
        let mut header = *header;
        header[NUM_BUFFERS..].copy_from_slice(&(self.chains.len() as u16).to_le_bytes());
        let mut cursor = Cursor::new(self.pieces);
        match <&[u8; ETHERNET]>::try_from(head) {
            // The ordinary case in one copy: it is the small ones that cost.
            Ok(ethernet) if header_len == HEADER => {
                let mut front = [0; HEADER + ETHERNET];
                front[..HEADER].copy_from_slice(&header);
                front[HEADER..].copy_from_slice(ethernet);
                cursor.put(&front);
            }
            _ => {
                cursor.put(header.get(..header_len).unwrap_or_default());
                cursor.put(head);
            }
        }
        for piece in body {
            cursor.put_piece(piece);
        }
        let mut rest = whole;
        for chain in self.chains.iter() {
            let filled = rest.min(chain.bytes);
            self.queue.add_used(chain.id, filled as u32);
            rest -= filled;
        }
        self.counters.frame(len);
        Ok(Placed::Now)
    }

    /// Takes chains that together hold `whole` bytes, or says why there are none: the ring is then
    /// as it was, but for chains that cannot be right.
    fn take(&mut self, whole: usize, header: usize) -> Result<Placed, Fault> {
        self.pieces.clear();
        self.chains.clear();
        let most = if has(self.features, feature::VIRTIO_NET_F_MRG_RXBUF) { usize::MAX } else { 1 };
        let (before, allowed) = (self.queue.read_since(0), self.excess.allowed(whole));
        let mut room = 0;
        while room < whole {
            if self.chains.len() >= most {
                self.queue.undo_pop(1);
                return Ok(Placed::Not(DropReason::NoRoom));
            }
            let least = if room > 0 { 1 } else { header };
            let left = allowed.saturating_sub(self.queue.read_since(before));
            match self.queue.pop(least, left, self.pieces) {
                Popped::Chain(chain) => {
                    room += chain.bytes;
                    self.chains.push(chain);
                }
                // Given back in order, so what was taken before it goes back too, unused. Each such
                // chain is met once: the guest pays with its own buffers.
                Popped::Bad(id) => {
                    for chain in self.chains.drain(..) {
                        self.queue.add_used(chain.id, 0);
                    }
                    self.queue.add_used(id, 0);
                    self.counters.drop(DropReason::BadChain);
                    self.pieces.clear();
                    room = 0;
                }
                Popped::Costly => {
                    self.queue.undo_pop(self.chains.len() as u16);
                    return Ok(Placed::Later);
                }
                Popped::Empty => {
                    let hopeless = self.queue.all_popped();
                    self.queue.undo_pop(self.chains.len() as u16);
                    return Ok(Placed::Not(if hopeless {
                        DropReason::NoRoom
                    } else {
                        DropReason::NoBuffers
                    }));
                }
                Popped::Broken(fault) => return Err(fault),
            }
        }
        Ok(Placed::Now)
    }
}

#[cfg(test)]
mod tests;
