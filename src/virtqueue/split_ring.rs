//! A split virtqueue, device side.
//!
//! The layout is virtio 1.2, section 2.7: a descriptor table, an available ring that the driver
//! writes and a used ring that we write. The crates have a queue too, but theirs publishes the used
//! index with every element, so that a frame spread over several mergeable buffers becomes visible
//! half-written, and ignores `VRING_AVAIL_F_NO_INTERRUPT`. Here elements are written first and the
//! index is stored once per batch ([`Ring::publish`]).
//!
//! Chains always complete in the order in which they were popped. That makes four things simple:
//! the ring restarts at its used index and ignores the front-end's base, popping can be undone by
//! moving an index back, `VIRTIO_F_IN_ORDER` costs nothing, and a crash loses only the chains in
//! flight.
//!
//! Hostile by default: the driver may write to all three parts while we read them. Every index and
//! descriptor is therefore read once into a local copy, and the copy is checked. An index that
//! cannot be right ([`Fault`]) stops the ring; a descriptor chain that cannot be right is handed
//! back with length 0 and counted, the rest goes on. A driver can make such chains as fast as they
//! are handed back, so a ring also counts: the descriptors read, for the budgets of its users, and
//! the bad chains in a row, of which more than the ring is long stop it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::net::feature;
use crate::net::feature::has;
use crate::sync::{AtomicU16, Ordering};
use crate::virtqueue::chain::{Chain, ChainId, DescriptorTable, Refused};
use crate::virtqueue::guest_map::GuestMap;
use crate::virtqueue::guest_slice::{ChainSlice, GuestSliceMut};
use crate::virtqueue::notification::{passed, store_then_look};

/// Largest ring size we accept: QEMU's and cloud-hypervisor's largest.
pub const MAX_RING_SIZE: u16 = 1024;

/// Bad chains that are no reason yet to stop a short ring.
const FEW: u16 = 64;

const AVAIL_F_NO_INTERRUPT: u16 = 1;
const USED_F_NO_NOTIFY: u16 = 1;

/// Where a ring is and how it is to be read, as negotiated.
#[derive(Clone, Debug)]
pub struct RingSetup {
    /// Number of descriptors, a power of two up to [`MAX_RING_SIZE`].
    pub size: u16,
    /// Guest-physical address of the descriptor table.
    pub desc: u64,
    /// Guest-physical address of the available ring.
    pub avail: u64,
    /// Guest-physical address of the used ring.
    pub used: u64,
    /// The negotiated virtio features.
    pub features: u64,
    /// The memory that the addresses refer to.
    pub map: Arc<GuestMap>,
}

impl PartialEq for RingSetup {
    fn eq(&self, other: &RingSetup) -> bool {
        let key = |s: &RingSetup| (s.size, s.desc, s.avail, s.used, s.features);
        key(self) == key(other) && Arc::ptr_eq(&self.map, &other.map)
    }
}

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

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// The result of [`Queue::pop`].
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

/// Names a ring that was started: no other ring of this process ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingId(u64);

impl RingId {
    /// No ring has this one.
    pub(in crate::virtqueue) const NONE: RingId = RingId(0);
}

/// An active split ring, and the map that keeps its memory mapped.
#[derive(Debug)]
pub struct Ring {
    map: Arc<GuestMap>,
    state: State,
}

/// Where the ring is and how far it has come. All pointers lead into the map of the `Ring` that has
/// it, and have been checked for their whole length.
#[derive(Debug)]
struct State {
    id: RingId,
    hint: usize,
    desc: DescriptorTable<'static>,
    avail: *const u16,
    used: *mut u16,
    size: u16,
    event_idx: bool,
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

/// A ring, borrowed for a batch: chains are popped from it and given back to it. The buffers of a
/// chain borrow the ring for as long as this does, so the ring cannot go while one of them is in
/// use.
#[derive(Debug)]
pub struct Queue<'r> {
    map: &'r GuestMap,
    state: &'r mut State,
}

// SAFETY: the pointers refer to shared memory that the ring's map keeps mapped. Access goes through
// volatile or atomic operations only, and one thread at a time has the ring (it is not Sync).
unsafe impl Send for State {}

impl Ring {
    /// Activates a ring at its used index. Chains complete in order, so that index marks the first
    /// chain still to be done; SET_VRING_BASE may come from a front-end that has lost count.
    pub fn start(setup: &RingSetup) -> Result<Ring, Fault> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let size = setup.size;
        if !size.is_power_of_two() || size > MAX_RING_SIZE {
            return Err(Fault::Size(size));
        }
        let map = Arc::clone(&setup.map);
        let n = u64::from(size);
        let mut hint = 0;
        let mut part = |addr: u64, len: u64, align: u64| {
            let found = map.translate(addr, len, &mut hint).ok_or(Fault::Address)?;
            // SAFETY: the ring has the map for as long as it has the part, and shows the part to
            // none beyond.
            let host = unsafe { GuestSliceMut::<'static>::new(found.start(), found.len()) };
            // The driver's rule is on the guest's address, ours on the host's: an atomic access to
            // a misaligned word is undefined, and on some machines an endless signal.
            let aligned =
                addr.is_multiple_of(align) && (host.start() as usize as u64).is_multiple_of(align);
            if aligned { Ok(host) } else { Err(Fault::Address) }
        };
        // Each ring has two u16 in front and one behind (the event index), virtio 1.2, 2.7.6 and
        // 2.7.8.
        let desc = part(setup.desc, 16 * n, 16)?;
        let avail = part(setup.avail, 6 + 2 * n, 2)?;
        let used = part(setup.used, 6 + 8 * n, 4)?;
        let mut state = State {
            id: RingId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            hint,
            desc: DescriptorTable::new(desc).ok_or(Fault::Address)?,
            avail: avail.start().cast_const().cast(),
            used: used.start().cast(),
            size,
            event_idx: has(setup.features, feature::VIRTIO_RING_F_EVENT_IDX),
            next_avail: 0,
            seen_avail: 0,
            next_used: 0,
            published: 0,
            asked: None,
            read: 0,
            bad: 0,
        };
        let index = state.used_index().load(Ordering::Relaxed);
        state.next_avail = index;
        state.seen_avail = index;
        state.next_used = index;
        state.published = index;
        Ok(Ring { map, state })
    }

    /// The ring for a batch.
    #[inline]
    pub fn queue(&mut self) -> Queue<'_> {
        Queue { map: &self.map, state: &mut self.state }
    }

    /// True when the ring's memory was truncated.
    pub fn memory_lost(&self) -> bool {
        self.map.lost()
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.state.size
    }

    /// The used index as published: where a later start continues.
    pub fn position(&self) -> u16 {
        self.state.published
    }

    /// Makes everything given back visible, and returns whether the driver wants to be called for
    /// it.
    pub fn publish(&mut self) -> bool {
        if self.state.published == self.state.next_used {
            return false;
        }
        let new = self.state.next_used;
        self.state.published = new;
        // The driver asks for calls by its event index, or else by a flag.
        let word = if self.state.event_idx { 2 + usize::from(self.state.size) } else { 0 };
        let (index, event) = (self.state.used_index(), self.state.avail_word(word));
        let event = store_then_look(index, new, Ordering::Release, event);
        if !self.state.event_idx {
            return event & AVAIL_F_NO_INTERRUPT == 0;
        }
        match self.state.asked.replace(new) {
            Some(old) => passed(event, old, new),
            None => true,
        }
    }

    /// Asks the driver to kick for the next chain. Returns true when one came in meanwhile: then
    /// the kick may not come, and the caller has to go on by itself.
    pub fn enable_notification(&mut self) -> Result<bool, Fault> {
        self.state.seen_avail = self.state.ask_for_notification(self.state.next_avail);
        Ok(self.state.known()? > 0)
    }

    /// As [`Ring::enable_notification`], for a caller that has seen the waiting chains and needs
    /// more of them.
    pub fn enable_notification_at(&mut self) -> Result<bool, Fault> {
        let known = u16::from_le(self.state.avail_word(1).load(Ordering::Acquire));
        Ok(self.state.ask_for_notification(known) != known)
    }

    /// How many chains wait to be popped.
    pub fn waits(&mut self) -> Result<u16, Fault> {
        self.state.waiting()
    }

    /// Tells the driver that kicks are not needed for now. With the event index, not moving it
    /// means that.
    pub fn disable_notification(&mut self) {
        if !self.state.event_idx {
            self.state.used_word(0).store(USED_F_NO_NOTIFY.to_le(), Ordering::Relaxed);
        }
    }
}

impl State {
    fn avail_word(&self, word: usize) -> &AtomicU16 {
        // SAFETY: `word` is at most size + 2, inside the part checked by `start`; the mapping lives
        // as long as the `Ring` has its map, u16 alignment was checked, and AtomicU16 has u16's
        // layout.
        unsafe { AtomicU16::from_ptr(self.avail.cast_mut().add(word)) }
    }

    fn used_word(&self, word: usize) -> &AtomicU16 {
        // SAFETY: `word` is at most 4 * size + 2, inside the part checked by `start`; as above.
        unsafe { AtomicU16::from_ptr(self.used.add(word)) }
    }

    fn used_index(&self) -> &AtomicU16 {
        self.used_word(1)
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    /// Asks the driver to notify us of the chain at `index`, and returns its available index as it
    /// was afterwards.
    fn ask_for_notification(&self, index: u16) -> u16 {
        // Without the event index there is a flag, which 0 clears.
        let (word, value) =
            if self.event_idx { (2 + 4 * usize::from(self.size), index) } else { (0, 0) };
        store_then_look(self.used_word(word), value, Ordering::Relaxed, self.avail_word(1))
    }

    /// How many chains wait, by a fresh look at the driver's index when none is known.
    #[inline]
    fn waiting(&mut self) -> Result<u16, Fault> {
        if self.seen_avail == self.next_avail {
            self.seen_avail = u16::from_le(self.avail_word(1).load(Ordering::Acquire));
        }
        self.known()
    }

    /// How many chains wait, by the driver's index as last read.
    #[inline]
    fn known(&self) -> Result<u16, Fault> {
        let waiting = self.seen_avail.wrapping_sub(self.next_avail);
        // Chains that were popped and not yet given back still occupy the ring. An index that the
        // driver has moved back looks as one far ahead.
        let popped = self.next_avail.wrapping_sub(self.next_used);
        if waiting > self.size.wrapping_sub(popped) {
            return Err(Fault::AvailIndex);
        }
        Ok(waiting)
    }
}

impl<'r> Queue<'r> {
    /// Names the ring.
    #[inline]
    pub fn id(&self) -> RingId {
        self.state.id
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.state.size
    }

    /// How many descriptors were read, or pieces found in them where these are more, since
    /// `before`, an earlier answer to the same question with 0.
    pub fn read_since(&self, before: u32) -> u32 {
        self.state.read.wrapping_sub(before)
    }

    /// True when every descriptor chain the ring can hold has been popped and none given back.
    pub fn all_popped(&self) -> bool {
        self.state.next_avail.wrapping_sub(self.state.next_used) == self.state.size
    }

    /// Takes chains of one buffer for as long as `take` accepts them: it gets the chain's id and
    /// its buffer. Ends before the first chain of any other form, or that cannot be right, and when
    /// no more are known to wait: [`Queue::pop`] then finds out the reason.
    #[inline]
    pub fn pop_single<S: ChainSlice<'r>>(&mut self, mut take: impl FnMut(ChainId, S) -> bool) {
        let (Ok(waiting), Some(near)) = (self.state.waiting(), self.map.near(self.state.hint))
        else {
            return;
        };
        let (desc, first) = (self.state.desc, self.state.next_avail);
        let mut taken = 0;
        while taken < waiting {
            let slot = self.state.slot(first.wrapping_add(taken));
            let head = u16::from_le(self.state.avail_word(2 + slot).load(Ordering::Relaxed));
            match desc.plain::<S>(head, &near) {
                Some(buffer) if take(ChainId(head), S::from(buffer)) => taken += 1,
                _ => break,
            }
        }
        if taken > 0 {
            self.state.next_avail = first.wrapping_add(taken);
            self.state.read = self.state.read.wrapping_add(u32::from(taken));
            self.state.bad = 0;
        }
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
        match self.state.waiting() {
            Ok(0) => return Popped::Empty,
            Ok(_) => {}
            Err(fault) => return Popped::Broken(fault),
        }
        let slot = self.state.slot(self.state.next_avail);
        let head = u16::from_le(self.state.avail_word(2 + slot).load(Ordering::Relaxed));
        if head >= self.state.size {
            return Popped::Broken(Fault::Head(head));
        }
        // Nearly every chain is one buffer near the last one, and the list has room.
        if let Some(near) = self.map.near(self.state.hint)
            && let Some(buffer) = self.state.desc.plain::<S>(head, &near)
            && buffer.len() >= least
            && most > 0
            && pieces.len() < pieces.capacity()
        {
            self.state.next_avail = self.state.next_avail.wrapping_add(1);
            self.state.read = self.state.read.wrapping_add(1);
            self.state.bad = 0;
            pieces.push(S::from(buffer));
            return Popped::Chain(Chain { id: ChainId(head), pieces: 1, bytes: buffer.len() });
        }
        self.walk(head, least, most, pieces)
    }

    /// Takes the next chain, which begins with `head`, by a walk over all of it.
    #[inline(never)]
    fn walk<S: ChainSlice<'r>>(
        &mut self,
        head: u16,
        least: usize,
        most: u32,
        pieces: &mut Vec<S>,
    ) -> Popped {
        let before = pieces.len();
        let mut left = most;
        let table: DescriptorTable<'r> = self.state.desc;
        let bytes = table.walk(head, self.map, &mut self.state.hint, pieces, &mut left);
        let found = pieces.len() - before;
        self.state.read = self.state.read.wrapping_add((most - left).max(found as u32));
        match bytes {
            Ok(bytes) if bytes >= least => {
                self.state.next_avail = self.state.next_avail.wrapping_add(1);
                self.state.bad = 0;
                return Popped::Chain(Chain { id: ChainId(head), pieces: found, bytes });
            }
            Err(Refused::Costly) => {
                pieces.truncate(before);
                return Popped::Costly;
            }
            Ok(_) | Err(Refused::Bad) => pieces.truncate(before),
        }
        self.state.next_avail = self.state.next_avail.wrapping_add(1);
        self.state.bad += 1;
        if self.state.bad > self.state.size.max(FEW) {
            Popped::Broken(Fault::Unusable)
        } else {
            Popped::Bad(ChainId(head))
        }
    }

    /// Puts the last `count` popped chains back: they will be popped again.
    pub fn undo_pop(&mut self, count: u16) {
        self.state.next_avail = self.state.next_avail.wrapping_sub(count);
    }

    /// Puts back everything that was popped and not given back.
    #[cfg(test)]
    pub fn undo_all(&mut self) {
        self.state.next_avail = self.state.next_used;
    }

    /// Writes a used element: `len` bytes of the chain were filled. The driver sees it at the next
    /// [`Ring::publish`].
    #[inline]
    pub fn add_used(&mut self, ChainId(head): ChainId, len: u32) {
        let element = (u64::from(len) << 32 | u64::from(head)).to_le();
        let slot = self.state.slot(self.state.next_used);
        // SAFETY: slot < size, inside the part checked by `start`. The elements begin 4 bytes into
        // a 4-aligned part, hence two 4-byte stores.
        unsafe {
            let at = self.state.used.add(2 + 4 * slot).cast::<u32>();
            at.write_volatile(element as u32);
            at.add(1).write_volatile((element >> 32) as u32);
        }
        self.state.next_used = self.state.next_used.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
