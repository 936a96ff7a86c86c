//! A ring whose descriptors have a buffer each: a guest without guile, for unit tests and counted
//! turns.
//!
//! Buffers are used in turn. A device completes them in order, so the next one is free unless all
//! are out.

use crate::ring::{D_WRITE, Desc, Ring, RingMemory};

/// A ring and its buffers.
pub struct Buffers<M> {
    pub ring: Ring<M>,
    base: u64,
    size: u64,
    next: u16,
}

impl<M: RingMemory> Buffers<M> {
    /// A buffer of `size` bytes for each descriptor, from `base` on.
    pub fn new(ring: Ring<M>, base: u64, size: u64) -> Buffers<M> {
        Buffers { ring, base, size, next: 0 }
    }

    /// Where a descriptor's buffer is.
    pub fn place(&self, head: u16) -> u64 {
        self.base + u64::from(head) * self.size
    }

    /// Makes the next buffer available, as a chain of its descriptor with this length and these
    /// flags. False if the device has them all.
    pub fn offer(&mut self, len: u32, flags: u16) -> bool {
        if self.ring.out() == self.ring.size {
            return false;
        }
        let head = self.next;
        self.next = (head + 1) % self.ring.size;
        self.ring.write_desc(head, &Desc { addr: self.place(head), len, flags, next: None });
        self.ring.offer(head);
        self.ring.publish();
        true
    }

    /// Makes the next buffer available for the device to fill.
    pub fn post(&mut self, len: u32) -> bool {
        self.offer(len, D_WRITE)
    }

    /// Puts these bytes into the next buffer and makes it available for the device to read.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.ring.memory.write(self.place(self.next), bytes);
        self.offer(bytes.len() as u32, 0)
    }

    /// Takes one buffer back: what was written into it.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let (head, len) = self.ring.take()?;
        let mut bytes = vec![0; len as usize];
        self.ring.memory.read(self.place(head as u16), &mut bytes);
        Some(bytes)
    }

    /// Takes one frame back, header and all, from as many buffers as its header says
    /// (`num_buffers`), and their number.
    pub fn take_merged(&mut self) -> Option<(Vec<u8>, u16)> {
        let mut bytes = self.take()?;
        let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
        for _ in 1..buffers {
            bytes.extend(self.take().expect("published together with the first"));
        }
        Some((bytes, buffers))
    }
}
