//! A split ring as its driver reads and writes it: in any memory, with any content.
//!
//! This is the one ring of all guests in tests: of the strict driver ([`crate::driver`]), of the
//! guests that benchmarks measure with, and of the unit tests of the data path. It keeps the
//! specification's order: heads before the index, the index before the question whether to kick,
//! the question whether to be called before the last look. It judges nothing. Each part can be
//! written by itself, however wrong.
//!
//! A ring stands in some [`RingMemory`], which knows bytes at guest addresses. An index or a flag
//! is read and written there in one piece: the device reads it at the same time, and must not see
//! one half of it.
//!
//! Specification: virtio 1.2, section 2.7.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub const D_NEXT: u16 = 1;
pub const D_WRITE: u16 = 2;
pub const D_INDIRECT: u16 = 4;

pub const F_EVENT_IDX: u64 = 1 << 29;

/// The flag that asks for no kicks or calls where the event index is not negotiated.
const QUIET: u16 = 1;
/// What a used element has that the device has not written again.
const NO_CHAIN: u16 = u16::MAX;

/// Memory by guest addresses. An address that is not in it ends the test.
pub trait RingMemory {
    fn write(&self, at: u64, bytes: &[u8]);
    fn read(&self, at: u64, bytes: &mut [u8]);
    /// Reads an index or a flag so that everything written before it is visible too.
    fn load16(&self, at: u64) -> u16;
    /// Writes an index or a flag after everything that was written before it.
    fn store16(&self, at: u64, value: u16);
}

/// What unit tests have.
impl RingMemory for GuestMemoryMmap {
    fn write(&self, at: u64, bytes: &[u8]) {
        self.write_slice(bytes, GuestAddress(at)).expect("inside the guest's memory");
    }

    fn read(&self, at: u64, bytes: &mut [u8]) {
        self.read_slice(bytes, GuestAddress(at)).expect("inside the guest's memory");
    }

    fn load16(&self, at: u64) -> u16 {
        u16::from_le(self.load(GuestAddress(at), Ordering::Acquire).expect("inside the memory"))
    }

    fn store16(&self, at: u64, value: u16) {
        self.store(value.to_le(), GuestAddress(at), Ordering::Release).expect("inside the memory");
    }
}

/// One descriptor as it goes into the table.
#[derive(Clone, Copy, Debug)]
pub struct Desc {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    /// None: linked to the following one of the chain. Some: exactly this number, however wrong.
    pub next: Option<u16>,
}

impl Desc {
    pub fn read(addr: u64, len: u32) -> Desc {
        Desc { addr, len, flags: 0, next: None }
    }

    pub fn write(addr: u64, len: u32) -> Desc {
        Desc { addr, len, flags: D_WRITE, next: None }
    }

    pub fn bytes(&self) -> [u8; 16] {
        let mut b = [0u8; 16];
        b[..8].copy_from_slice(&self.addr.to_le_bytes());
        b[8..12].copy_from_slice(&self.len.to_le_bytes());
        b[12..14].copy_from_slice(&self.flags.to_le_bytes());
        b[14..].copy_from_slice(&self.next.unwrap_or(0).to_le_bytes());
        b
    }
}

/// Where the parts of a ring are, as guest addresses.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
}

impl Layout {
    /// A page for each part, which is enough for 256 entries.
    pub const fn at(base: u64, size: u16) -> Layout {
        assert!(size <= 256);
        Layout { size, desc: base, avail: base + 0x1000, used: base + 0x2000 }
    }
}

/// A ring, and how far its driver is.
#[derive(Clone, Debug)]
pub struct Ring<M> {
    pub memory: M,
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    event_idx: bool,
    next_avail: u16,
    published: u16,
    last_used: u16,
}

impl<M: RingMemory> Ring<M> {
    /// A ring that nothing has happened to. Its memory must be zero, or [`Ring::clear`] comes next.
    pub fn new(memory: M, layout: Layout, features: u64) -> Ring<M> {
        let Layout { size, desc, avail, used } = layout;
        let event_idx = features & F_EVENT_IDX != 0;
        let (next_avail, published, last_used) = (0, 0, 0);
        Ring { memory, size, desc, avail, used, event_idx, next_avail, published, last_used }
    }

    /// As it was at first, with these features from now on.
    pub fn clear(&mut self, features: u64) {
        let n = usize::from(self.size);
        self.memory.write(self.desc, &vec![0; 16 * n]);
        self.memory.write(self.avail, &vec![0; 6 + 2 * n]);
        self.memory.write(self.used, &vec![0; 6 + 8 * n]);
        self.event_idx = features & F_EVENT_IDX != 0;
        (self.next_avail, self.published, self.last_used) = (0, 0, 0);
    }

    // --- single words ---

    fn slot(&self, at: u16) -> u64 {
        // A division for each frame would show in a benchmark.
        let power = self.size.is_power_of_two();
        u64::from(if power { at & (self.size - 1) } else { at % self.size })
    }

    pub fn write_desc(&self, slot: u16, d: &Desc) {
        self.memory.write(self.desc + 16 * u64::from(slot), &d.bytes());
    }

    pub fn set_avail_entry(&self, at: u16, head: u16) {
        self.memory.store16(self.avail + 4 + 2 * self.slot(at), head);
    }

    pub fn set_avail_idx(&mut self, idx: u16) {
        self.memory.store16(self.avail + 2, idx);
        self.next_avail = idx;
        self.published = idx;
    }

    pub fn avail_idx(&self) -> u16 {
        self.memory.load16(self.avail + 2)
    }

    pub fn used_idx(&self) -> u16 {
        self.memory.load16(self.used + 2)
    }

    /// The used element at this index: head, and the bytes written.
    fn used_elem(&self, at: u16) -> (u32, u32) {
        let mut b = [0u8; 8];
        self.memory.read(self.used + 4 + 8 * self.slot(at), &mut b);
        (u32::from_le_bytes([b[0], b[1], b[2], b[3]]), u32::from_le_bytes([b[4], b[5], b[6], b[7]]))
    }

    // --- the driver's work ---

    /// Puts a chain's head into the available ring, not yet visible to the device.
    pub fn offer(&mut self, head: u16) {
        self.set_avail_entry(self.next_avail, head);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Makes what was offered visible. Whether the device asks for a kick.
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.next_avail);
        if old == new {
            return false;
        }
        self.memory.store16(self.avail + 2, new);
        self.published = new;
        // The index must be out before we look whether the device sleeps: 2.7.13.4.1.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.memory.load16(self.used + 4 + 8 * u64::from(self.size));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.memory.load16(self.used) & QUIET == 0
        }
    }

    /// Heads that are out: offered, and not taken back.
    pub fn out(&self) -> u16 {
        self.next_avail.wrapping_sub(self.last_used)
    }

    /// How many used elements can be taken now.
    pub fn ready(&self) -> u16 {
        self.used_idx().wrapping_sub(self.last_used)
    }

    /// The next used element, of those that [`Ring::ready`] has reported.
    pub fn next_used(&self) -> (u32, u32) {
        self.used_elem(self.last_used)
    }

    /// So many used elements have been seen to.
    pub fn advance(&mut self, count: u16) {
        self.last_used = self.last_used.wrapping_add(count);
    }

    /// Takes the next used element, if there is one.
    pub fn take(&mut self) -> Option<(u32, u32)> {
        let taken = (self.ready() > 0).then(|| self.next_used())?;
        self.advance(1);
        Some(taken)
    }

    /// Makes every chain available, and clears the used elements for [`Ring::offer_again`]. Returns
    /// what that begins with. The device must not run yet: an element that it has written would be
    /// cleared, and its chain never come back.
    pub fn offer_all(&self) -> u16 {
        (0..self.size).for_each(|head| self.set_avail_entry(head, head));
        let done = self.used_idx();
        (0..self.size).for_each(|at| self.memory.store16(self.used_element(at), NO_CHAIN));
        self.offer_behind(done);
        done
    }

    fn used_element(&self, at: u16) -> u64 {
        self.used + 4 + 8 * self.slot(at)
    }

    fn offer_behind(&self, done: u16) {
        self.memory.store16(self.avail + 2, done.wrapping_add(self.size));
    }

    /// Makes every chain available again as soon as its used element is written, before the used
    /// index is, until a caller stops it: faster than any driver may. Each chain begins with the
    /// descriptor of its number. `done` is what [`Ring::offer_all`] has returned. `each` runs after
    /// each chain, `idle` when none has come back.
    pub fn offer_again(
        &self,
        mut done: u16,
        stop: &AtomicBool,
        mut each: impl FnMut(),
        mut idle: impl FnMut(),
    ) {
        let element = |at: u16| self.used_element(at);
        let offer = |done: u16| self.offer_behind(done);
        while !stop.load(Ordering::Relaxed) {
            while self.memory.load16(element(done)) != NO_CHAIN {
                self.memory.store16(element(done), NO_CHAIN);
                done = done.wrapping_add(1);
                offer(done);
                each();
            }
            idle();
        }
    }

    /// Asks for a call when `after` more elements than those taken are used.
    pub fn calls_on(&self, after: u16) {
        if self.event_idx {
            let at = self.avail + 4 + 2 * u64::from(self.size);
            self.memory.store16(at, self.last_used.wrapping_add(after));
        } else {
            self.memory.store16(self.avail, 0);
        }
        // What was asked must be out before the last look.
        fence(Ordering::SeqCst);
    }

    /// Asks for none. With the event index that is an index left behind, which must not be met
    /// again.
    pub fn calls_off(&self) {
        if self.event_idx {
            let at = self.avail + 4 + 2 * u64::from(self.size);
            self.memory.store16(at, self.last_used.wrapping_sub(1 << 14));
        } else {
            self.memory.store16(self.avail, QUIET);
        }
    }
}
