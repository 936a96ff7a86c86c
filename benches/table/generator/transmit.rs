//! The transmit ring with its frames: each slot holds one frame, written once; sending stamps it
//! and offers it.
//!
//! Slots are used in turn, so the frames of a ring pass through the caches like those of a guest
//! that takes its buffers from a pool. A stamp writes what a driver writes for every frame: the
//! virtio_net_hdr, and 8 bytes of payload.
//!
//! What can go wrong: a back-end may return heads in any order. They are taken into a list and used
//! in that order.

use super::frame::Frame;
use super::ring::Ring;
use testkit::driver::{D_NEXT, Desc};
use testkit::memory::Memory;

/// Bytes of a virtio_net_hdr.
pub const HEADER: usize = 12;
/// The distance of slots: whole cache lines, but not a power of two, which would put all heads into
/// the same sets of a cache.
const LINE: u64 = 64;

/// A transmit ring.
pub struct Transmit {
    /// The ring itself.
    pub ring: Ring,
    base: *mut u8,
    stride: usize,
    header: [u8; HEADER],
    /// The offset of the stamp in a slot.
    stamp: usize,
    /// Slots that are free, oldest first: a queue in an array.
    free: Vec<u16>,
    first_free: usize,
    count_free: usize,
    /// Frames offered so far.
    pub sent: u64,
    slots: u16,
    pieces: u16,
}

impl Transmit {
    /// Slots for this frame in the guest's memory, all filled; each frame is `pieces` descriptors.
    pub fn new(ring: Ring, memory: &Memory, frame: &Frame, pieces: u16) -> Transmit {
        let length = HEADER + frame.bytes.len();
        let slots = ring.size / pieces;
        let stride = (length as u64).next_multiple_of(LINE) + LINE;
        let at = memory.alloc(stride * u64::from(slots));
        let message = [&frame.header.bytes()[..], &frame.bytes].concat();
        for slot in 0..slots {
            let place = at + u64::from(slot) * stride;
            memory.write(place, &message);
            let piece = length.div_ceil(usize::from(pieces));
            for number in 0..pieces {
                let from = usize::from(number) * piece;
                let last = number + 1 == pieces;
                let own = slot * pieces + number;
                ring.write_desc(
                    own,
                    &Desc {
                        addr: place + from as u64,
                        len: piece.min(length - from) as u32,
                        flags: if last { 0 } else { D_NEXT },
                        next: (!last).then_some(own + 1),
                    },
                );
            }
        }
        ring.calls_off();
        Transmit {
            ring,
            base: memory.user_addr(at) as *mut u8,
            stride: stride as usize,
            header: frame.header.bytes(),
            stamp: HEADER + frame.payload,
            free: (0..slots).collect(),
            first_free: 0,
            count_free: usize::from(slots),
            sent: 0,
            slots,
            pieces,
        }
    }

    /// Frames that the device holds.
    pub fn out(&self) -> usize {
        usize::from(self.slots) - self.count_free
    }

    /// Takes back what the device has sent.
    pub fn reap(&mut self) {
        let ready = self.ring.ready();
        for _ in 0..ready {
            let (head, _) = self.ring.take();
            let mut at = self.first_free + self.count_free;
            if at >= self.free.len() {
                at -= self.free.len();
            }
            if let Some(entry) = self.free.get_mut(at) {
                *entry = head / self.pieces;
            }
            self.count_free = (self.count_free + 1).min(self.free.len());
        }
        if ready > 0 {
            self.ring.calls_off();
        }
    }

    /// Sends up to `most` frames with this number or time in each, and returns how many fitted.
    pub fn send(&mut self, most: usize, stamp: u64) -> usize {
        let count = most.min(self.count_free);
        for _ in 0..count {
            let slot = self.free.get(self.first_free).copied().unwrap_or(0);
            self.first_free += 1;
            if self.first_free == self.free.len() {
                self.first_free = 0;
            }
            // SAFETY: `slot` is below the number of slots that were allocated at `base`; header and
            // stamp lie within one. The device may read at the same time, as it does in a real
            // guest's memory.
            unsafe {
                let at = self.base.add(usize::from(slot) * self.stride);
                at.cast::<[u8; HEADER]>().write_volatile(self.header);
                at.add(self.stamp).cast::<u64>().write_unaligned(stamp);
            }
            self.ring.offer(slot * self.pieces);
        }
        self.count_free -= count;
        self.sent += count as u64;
        self.ring.publish();
        count
    }
}
