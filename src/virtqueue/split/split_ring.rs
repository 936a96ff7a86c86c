//! How far a split ring has come: popping chains, giving them back, notifying.
//!
//! The crates have a queue too, but theirs publishes the used index with every element, so that a
//! frame spread over several mergeable buffers becomes visible half-written, and ignores
//! `VRING_AVAIL_F_NO_INTERRUPT`. Here elements are written first and the index is stored once per
//! batch ([`SplitRing::publish`]).
//!
//! Chains complete in the order in which they were popped (`ring.rs`), so the state of a
//! ring is two indices: the next chain to pop, and the next used element to write.
//!
//! Hostile by default: the driver may write to the ring while we read it. Every index and
//! descriptor is therefore read once into a local copy (`parts.rs`, `table.rs`), and the copy is
//! checked. An index that cannot be right ([`Fault`]) stops the ring; a descriptor chain that
//! cannot be right is handed back with length 0 and counted, the rest goes on. A driver can make
//! such chains as fast as they are handed back, so a ring also counts: the descriptors read, for
//! the budgets of its users, and the bad chains in a row, of which more than the ring is long stop
//! it.

use crate::virtqueue::chain::{Chain, ChainId, Popped};
use crate::virtqueue::guest_map::GuestMap;
use crate::virtqueue::guest_slice::ChainSlice;
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::ring_id::RingId;
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::split::parts::Parts;
use crate::virtqueue::split::table::Refused;

/// Bad chains that are no reason yet to stop a short ring.
pub(in crate::virtqueue) const FEW: u16 = 64;

/// Where a ring is and how far it has come. Buffers are found in the map that the caller passes,
/// the one of the ring's setup, and borrow it.
#[derive(Debug)]
pub struct SplitRing {
    id: RingId,
    hint: usize,
    parts: Parts,
    /// Next entry of the available ring to pop.
    next_avail: u16,
    /// The available index as last read.
    seen_avail: u16,
    /// Next element of the used ring to write.
    next_used: u16,
    /// The used index as the driver sees it.
    published: u16,
    /// The published index when the driver was last asked about; `None` before the first time.
    asked: Option<u16>,
    /// Descriptors read, modulo 2^32.
    read: u32,
    /// Bad chains since the last good one.
    bad: u16,
}

impl SplitRing {
    /// Activates a ring at its used index.
    pub fn start(setup: &RingSetup) -> Result<SplitRing, Fault> {
        let mut hint = 0;
        let parts = Parts::find(setup, &mut hint)?;
        let index = parts.used_index();
        Ok(SplitRing {
            id: RingId::next(),
            hint,
            parts,
            next_avail: index,
            seen_avail: index,
            next_used: index,
            published: index,
            asked: None,
            read: 0,
            bad: 0,
        })
    }

    /// Names the ring.
    #[inline]
    pub fn id(&self) -> RingId {
        self.id
    }

    /// Number of descriptors.
    #[inline]
    pub fn size(&self) -> u16 {
        self.parts.size()
    }

    /// The used index as published.
    pub fn position(&self) -> u16 {
        self.published
    }

    /// How many descriptors were read, or pieces found in them where these are more, modulo 2^32.
    #[inline]
    pub fn read(&self) -> u32 {
        self.read
    }

    /// How many chains were popped and not given back.
    #[inline]
    pub fn in_flight(&self) -> u16 {
        self.next_avail.wrapping_sub(self.next_used)
    }

    /// How many chains wait, by a fresh look at the driver's index when none is known.
    #[inline]
    pub fn waiting(&mut self) -> Result<u16, Fault> {
        if self.seen_avail == self.next_avail {
            self.seen_avail = self.parts.avail_index();
        }
        self.known()
    }

    /// How many chains wait, by the driver's index as last read.
    #[inline]
    fn known(&self) -> Result<u16, Fault> {
        let waiting = self.seen_avail.wrapping_sub(self.next_avail);
        // Chains that were popped and not yet given back still occupy the ring. An index that the
        // driver has moved back looks as one far ahead.
        if waiting > self.size().wrapping_sub(self.in_flight()) {
            return Err(Fault::AvailIndex);
        }
        Ok(waiting)
    }

    /// See [`Queue::pop_single`](crate::virtqueue::ring::Queue::pop_single).
    #[inline]
    pub fn pop_single<'m, S: ChainSlice<'m>>(
        &mut self,
        map: &'m GuestMap,
        mut take: impl FnMut(ChainId, S) -> bool,
    ) {
        let (Ok(waiting), Some(near)) = (self.waiting(), map.near(self.hint)) else {
            return;
        };
        let (desc, first) = (self.parts.desc(), self.next_avail);
        let mut taken = 0;
        while taken < waiting {
            let head = self.parts.head(first.wrapping_add(taken));
            match desc.plain::<S>(head, &near) {
                Some(buffer) if take(ChainId(head), S::from(buffer)) => taken += 1,
                _ => break,
            }
        }
        if taken > 0 {
            self.next_avail = first.wrapping_add(taken);
            self.read = self.read.wrapping_add(u32::from(taken));
            self.bad = 0;
        }
    }

    /// See [`Queue::pop`](crate::virtqueue::ring::Queue::pop).
    #[inline]
    pub fn pop<'m, S: ChainSlice<'m>>(
        &mut self,
        map: &'m GuestMap,
        least: usize,
        most: u32,
        pieces: &mut Vec<S>,
    ) -> Popped {
        match self.waiting() {
            Ok(0) => return Popped::Empty,
            Ok(_) => {}
            Err(fault) => return Popped::Broken(fault),
        }
        let head = self.parts.head(self.next_avail);
        if head >= self.size() {
            return Popped::Broken(Fault::Head(head));
        }
        // Nearly every chain is one buffer near the last one, and the list has room.
        if let Some(near) = map.near(self.hint)
            && let Some(buffer) = self.parts.desc().plain::<S>(head, &near)
            && buffer.len() >= least
            && most > 0
            && pieces.len() < pieces.capacity()
        {
            self.next_avail = self.next_avail.wrapping_add(1);
            self.read = self.read.wrapping_add(1);
            self.bad = 0;
            pieces.push(S::from(buffer));
            return Popped::Chain(Chain { id: ChainId(head), pieces: 1, bytes: buffer.len() });
        }
        self.walk(map, head, least, most, pieces)
    }

    /// Takes the next chain, which begins with `head`, by a walk over all of it.
    #[inline(never)]
    fn walk<'m, S: ChainSlice<'m>>(
        &mut self,
        map: &'m GuestMap,
        head: u16,
        least: usize,
        most: u32,
        pieces: &mut Vec<S>,
    ) -> Popped {
        let before = pieces.len();
        let mut left = most;
        let bytes = self.parts.desc().walk(head, map, &mut self.hint, pieces, &mut left);
        let found = pieces.len() - before;
        self.read = self.read.wrapping_add((most - left).max(found as u32));
        match bytes {
            Ok(bytes) if bytes >= least => {
                self.next_avail = self.next_avail.wrapping_add(1);
                self.bad = 0;
                return Popped::Chain(Chain { id: ChainId(head), pieces: found, bytes });
            }
            Err(Refused::Costly) => {
                pieces.truncate(before);
                return Popped::Costly;
            }
            Ok(_) | Err(Refused::Bad) => pieces.truncate(before),
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        self.bad += 1;
        if self.bad > self.size().max(FEW) {
            Popped::Broken(Fault::Unusable)
        } else {
            Popped::Bad(ChainId(head))
        }
    }

    /// Puts the last `count` popped chains back: they will be popped again.
    #[inline]
    pub fn undo_pop(&mut self, count: u16) {
        self.next_avail = self.next_avail.wrapping_sub(count);
    }

    /// Writes a used element: `len` bytes of the chain were filled.
    #[inline]
    pub fn add_used(&mut self, ChainId(head): ChainId, len: u32) {
        self.parts.write_used(self.next_used, head, len);
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Makes everything given back visible, and returns whether the driver wants to be called for
    /// it.
    pub fn publish(&mut self) -> bool {
        if self.published == self.next_used {
            return false;
        }
        self.published = self.next_used;
        self.parts.publish(self.next_used, &mut self.asked)
    }

    /// Asks the driver to kick for the next chain. Returns true when one came in meanwhile.
    pub fn enable_notification(&mut self) -> Result<bool, Fault> {
        self.seen_avail = self.parts.ask_for_notification(self.next_avail);
        Ok(self.known()? > 0)
    }

    /// As [`SplitRing::enable_notification`], for a caller that needs more chains than wait.
    pub fn enable_notification_at(&mut self) -> bool {
        let known = self.parts.avail_index();
        self.parts.ask_for_notification(known) != known
    }

    /// Tells the driver that kicks are not needed for now.
    pub fn disable_notification(&mut self) {
        self.parts.disable_notification();
    }
}
