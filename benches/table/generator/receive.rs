//! The receive ring with its buffers: it looks at each received frame, counts it, and offers the
//! buffer again at once.
//!
//! It reads the header of each frame and the first bytes behind it, as a driver and a stack do. A
//! frame that fills several buffers (MRG_RXBUF) counts once, as its header says.
//!
//! What can go wrong: if a header announces buffers that never arrive, the next frames count as
//! parts of this one. Rates then fall, and the drops rise.

use super::ring::Ring;
use super::transmit::HEADER;
use testkit::driver::Desc;
use testkit::memory::Memory;

/// Most buffers taken before the ring is published again.
const BATCH: u16 = 64;
/// Where num_buffers stands in the header.
const NUM_BUFFERS: usize = 10;

/// The first bytes of a frame, in the same cache line as its header.
pub type Eyes = [u8; 52];

/// A receive ring.
pub struct Receive {
    /// The ring itself.
    pub ring: Ring,
    base: *mut u8,
    stride: usize,
    /// Buffers of the current frame that are still missing.
    more: u16,
    /// Whole frames received.
    pub frames: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    posted: u16,
}

impl Receive {
    /// Posts `posted` buffers of `buffer` bytes each.
    pub fn new(mut ring: Ring, memory: &Memory, buffer: u32, posted: u16) -> Receive {
        let posted = posted.min(ring.size);
        let at = memory.alloc(u64::from(buffer) * u64::from(posted));
        for number in 0..posted {
            let addr = at + u64::from(number) * u64::from(buffer);
            ring.write_desc(number, &Desc::write(addr, buffer));
            ring.offer(number);
        }
        ring.calls_off();
        ring.publish();
        let base = memory.user_addr(at) as *mut u8;
        Receive { ring, base, stride: buffer as usize, more: 0, frames: 0, bytes: 0, posted }
    }

    /// Takes what has come by now, and calls `each` with the first bytes of each frame; how many
    /// frames there were.
    pub fn drain(&mut self, mut each: impl FnMut(&Eyes)) -> usize {
        let before = self.frames;
        let mut ready = self.ring.ready();
        while ready > 0 {
            for _ in 0..ready.min(BATCH) {
                let (head, len) = self.ring.take();
                if self.more > 0 {
                    self.more -= 1;
                } else {
                    // SAFETY: buffers that are posted come back, each larger than these 64 bytes;
                    // one that was never posted would be outside, so the head is held below their
                    // number. Read once.
                    let (header, eyes) = unsafe {
                        let number = usize::from(head.min(self.posted - 1));
                        let at = self.base.add(number * self.stride);
                        let header = at.cast::<[u8; HEADER]>().read_volatile();
                        (header, at.add(HEADER).cast::<Eyes>().read_volatile())
                    };
                    let buffers =
                        u16::from_le_bytes([header[NUM_BUFFERS], header[NUM_BUFFERS + 1]]);
                    self.more = buffers.saturating_sub(1);
                    self.frames += 1;
                    each(&eyes);
                }
                self.bytes += u64::from(len);
                self.ring.offer(head);
            }
            ready -= ready.min(BATCH);
            self.ring.calls_off();
            self.ring.publish();
        }
        (self.frames - before) as usize
    }
}
