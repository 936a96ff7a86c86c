//! The tests' ring ([`testkit::ring`]) with the eventfds of a queue, for a memory of one region.
//!
//! The tests' VMM has placed the rings and has reported their addresses to the back-end.
//!
//! What can go wrong: the far side is another process. Used elements are masked to the ring, so a
//! wrong one cannot lead out of it.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, RawFd};

use testkit::driver::Queue;
use testkit::memory::{Flat, Memory};
use testkit::ring::{self, Layout};

/// One ring.
pub struct Ring {
    ring: ring::Ring<Flat>,
    mask: u16,
    kick: RawFd,
    call: RawFd,
    /// How often the driver has kicked.
    pub kicks: u64,
}

impl Deref for Ring {
    type Target = ring::Ring<Flat>;

    fn deref(&self) -> &ring::Ring<Flat> {
        &self.ring
    }
}

impl DerefMut for Ring {
    fn deref_mut(&mut self) -> &mut ring::Ring<Flat> {
        &mut self.ring
    }
}

impl Ring {
    /// Takes over an unused ring. `queue` must outlive it (its eventfds).
    pub fn new(memory: &Memory, queue: &Queue, features: u64) -> Ring {
        let (size, desc, avail, used) = (queue.size, queue.desc, queue.avail, queue.used);
        assert!(size.is_power_of_two());
        Ring {
            ring: ring::Ring::new(Flat::of(memory), Layout { size, desc, avail, used }, features),
            mask: size - 1,
            kick: queue.kick.as_raw_fd(),
            call: queue.call.as_raw_fd(),
            kicks: 0,
        }
    }

    /// The eventfd of the device's calls.
    pub fn call_fd(&self) -> RawFd {
        self.call
    }

    /// Publishes the offered heads, and kicks if the device asks for it.
    pub fn publish(&mut self) {
        if self.ring.publish() {
            self.kicks += 1;
            let one = 1u64;
            // SAFETY: eight live bytes. A full counter would be a back-end that never reads, and no
            // harm.
            unsafe { libc::write(self.kick, (&raw const one).cast(), 8) };
        }
    }

    /// Takes the next of the used elements that `ready` has counted: head, and the bytes written.
    pub fn take(&mut self) -> (u16, u32) {
        let (head, len) = self.ring.next_used();
        self.ring.advance(1);
        (head as u16 & self.mask, len)
    }

    /// Calls since the last reading.
    pub fn calls(&mut self) -> u64 {
        let mut count = 0u64;
        // SAFETY: eight bytes of our own; the eventfd does not block.
        let got = unsafe { libc::read(self.call, (&raw mut count).cast(), 8) };
        if got == 8 { count } else { 0 }
    }
}
