//! A split virtqueue, driver side: bare pointers into guest memory and two indices.
//!
//! The tests' VMM has placed the rings and has reported their addresses to the back-end. This file
//! only reads and writes them in the order of the specification: heads before the index, the index
//! before the check whether to kick, and the request for a call before the last look.
//!
//! What can go wrong: the far side is another process. Used elements are masked to the ring, so a
//! wrong one cannot lead out of it. Specification: virtio 1.2, section 2.7.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering, fence};

use testkit::driver::{F_EVENT_IDX, Queue};
use testkit::memory::Memory;

/// A descriptor: section 2.7.5.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// NEXT, WRITE, INDIRECT.
    pub flags: u16,
    /// The following one of a chain.
    pub next: u16,
}

/// Bytes of the heads of the available and the used ring: flags and index.
const HEAD: usize = 4;
/// The flag that asks for no kicks or calls if the event index is not negotiated.
const QUIET: u16 = 1;

/// One ring.
pub struct Ring {
    desc: *mut Descriptor,
    avail: *mut u8,
    used: *mut u8,
    mask: u16,
    event_idx: bool,
    next_avail: u16,
    published: u16,
    last_used: u16,
    kick: RawFd,
    call: RawFd,
    /// How often the driver has kicked.
    pub kicks: u64,
}

impl Ring {
    /// Takes over an unused ring. `memory` must outlive it, and so must `queue` (its eventfds).
    pub fn new(memory: &Memory, queue: &Queue, features: u64) -> Ring {
        assert!(queue.size.is_power_of_two());
        Ring {
            desc: memory.user_addr(queue.desc) as *mut Descriptor,
            avail: memory.user_addr(queue.avail) as *mut u8,
            used: memory.user_addr(queue.used) as *mut u8,
            mask: queue.size - 1,
            event_idx: features & F_EVENT_IDX != 0,
            next_avail: 0,
            published: 0,
            last_used: 0,
            kick: queue.kick.as_raw_fd(),
            call: queue.call.as_raw_fd(),
            kicks: 0,
        }
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.mask + 1
    }

    /// The eventfd of the device's calls.
    pub fn call_fd(&self) -> RawFd {
        self.call
    }

    /// Heads that were offered and not taken back.
    pub fn out(&self) -> u16 {
        self.next_avail.wrapping_sub(self.last_used)
    }

    /// Writes the descriptor with this number.
    pub fn describe(&mut self, number: u16, descriptor: Descriptor) {
        // SAFETY: the table has `mask + 1` entries inside the guest's memory, which the owner keeps
        // mapped.
        unsafe { self.desc.add(usize::from(number & self.mask)).write_volatile(descriptor) }
    }

    /// Puts a chain's head into the available ring; not visible before [`Ring::publish`].
    pub fn offer(&mut self, head: u16) {
        let at = HEAD + 2 * usize::from(self.next_avail & self.mask);
        // SAFETY: inside the available ring.
        unsafe { self.avail.add(at).cast::<u16>().write_volatile(head) }
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Publishes the offered heads, and kicks if the device asks for it.
    pub fn publish(&mut self) {
        let (old, new) = (self.published, self.next_avail);
        if old == new {
            return;
        }
        self.avail_word(2).store(new, Ordering::Release);
        self.published = new;
        // The index must be out before we look whether the device sleeps: 2.7.13.4.1.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = self.used_word(HEAD + 8 * usize::from(self.size())).load(Ordering::Relaxed);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.used_word(0).load(Ordering::Relaxed) & QUIET == 0
        };
        if wanted {
            self.kicks += 1;
            let one = 1u64;
            // SAFETY: eight live bytes. A full counter would be a back-end that never reads, and no
            // harm.
            unsafe { libc::write(self.kick, (&raw const one).cast(), 8) };
        }
    }

    /// The number of used elements that can be taken now.
    pub fn ready(&self) -> u16 {
        self.used_word(2).load(Ordering::Acquire).wrapping_sub(self.last_used)
    }

    /// Takes the next of the used elements that [`Ring::ready`] has counted: head, and the bytes
    /// written.
    pub fn take(&mut self) -> (u16, u32) {
        let at = HEAD + 8 * usize::from(self.last_used & self.mask);
        // SAFETY: inside the used ring.
        let [head, len] = unsafe { self.used.add(at).cast::<[u32; 2]>().read_volatile() };
        self.last_used = self.last_used.wrapping_add(1);
        (head as u16 & self.mask, len)
    }

    /// Asks for a call when `after` more elements than those taken are used.
    pub fn calls_on(&mut self, after: u16) {
        if self.event_idx {
            let event = self.last_used.wrapping_add(after);
            self.avail_word(HEAD + 2 * usize::from(self.size())).store(event, Ordering::Relaxed);
        } else {
            self.avail_word(0).store(0, Ordering::Relaxed);
        }
        // The request must be visible before the last look.
        fence(Ordering::SeqCst);
    }

    /// Asks for no calls. With the event index that is an index in the past, which must not be
    /// reached again.
    pub fn calls_off(&mut self) {
        if self.event_idx {
            let event = self.last_used.wrapping_sub(1 << 14);
            self.avail_word(HEAD + 2 * usize::from(self.size())).store(event, Ordering::Relaxed);
        } else {
            self.avail_word(0).store(QUIET, Ordering::Relaxed);
        }
    }

    /// Calls since the last reading.
    pub fn calls(&mut self) -> u64 {
        let mut count = 0u64;
        // SAFETY: eight bytes of our own; the eventfd does not block.
        let got = unsafe { libc::read(self.call, (&raw mut count).cast(), 8) };
        if got == 8 { count } else { 0 }
    }

    fn avail_word(&self, at: usize) -> &AtomicU16 {
        // SAFETY: aligned, and inside the ring, which lives as long as the guest's memory.
        unsafe { AtomicU16::from_ptr(self.avail.add(at).cast()) }
    }

    fn used_word(&self, at: usize) -> &AtomicU16 {
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr(self.used.add(at).cast()) }
    }
}
