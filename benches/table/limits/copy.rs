//! Ring to ring: the device side of two split rings, as short as possible.
//!
//! A thread on the back-end's processor takes up to 64 frames at a time from one ring. It copies
//! each with its header into as many buffers of the other ring as it needs, and publishes both
//! rings once. It trusts the guest, which is this process.
//!
//! What can go wrong: with an untrusted guest it would exceed every bound. It is not a model of a
//! back-end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::generator::Guest;
use crate::host;
use testkit::driver::Queue;

/// Frames between two publications.
const BATCH: u16 = 64;
/// Where num_buffers stands in the header.
const NUM_BUFFERS: usize = 10;

/// The device side of a ring.
#[derive(Clone)]
struct Side {
    memory: *const u8,
    desc: *const [u64; 2],
    avail: *const u8,
    used: *mut u8,
    mask: u16,
    next: u16,
}

// SAFETY: the pointers lead into guest memory that outlives the thread: `Copier` is dropped before
// the guests.
unsafe impl Send for Side {}

impl Side {
    fn new(guest: &Guest, queue: &Queue) -> Side {
        let at = |address: u64| guest.memory.user_addr(address) as *mut u8;
        Side {
            memory: at(0),
            desc: at(queue.desc).cast(),
            avail: at(queue.avail),
            used: at(queue.used),
            mask: queue.size - 1,
            next: 0,
        }
    }

    fn ready(&self) -> u16 {
        // SAFETY: the available index, aligned.
        let index = unsafe { AtomicU16::from_ptr(self.avail.add(2).cast_mut().cast()) };
        index.load(Ordering::Acquire).wrapping_sub(self.next)
    }

    /// The chain's head, address and length. Frames here are one descriptor.
    fn pop(&mut self) -> (u16, u64, u32) {
        // SAFETY: inside the rings: our own guest fills them.
        unsafe {
            let at = self.avail.add(4 + 2 * usize::from(self.next & self.mask));
            let head = at.cast::<u16>().read_volatile();
            let [addr, rest] = self.desc.add(usize::from(head)).read_volatile();
            (head, addr, rest as u32)
        }
    }

    fn give(&mut self, head: u16, len: u32) {
        // SAFETY: as above.
        unsafe {
            let at = self.used.add(4 + 8 * usize::from(self.next & self.mask));
            at.cast::<[u32; 2]>().write_volatile([u32::from(head), len]);
        }
        self.next = self.next.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the used index, aligned.
        let index = unsafe { AtomicU16::from_ptr(self.used.add(2).cast()) };
        index.store(self.next, Ordering::Release);
    }
}

/// The running loop.
pub struct Copier {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Nanoseconds spent on batches that were not empty.
    pub busy: Arc<AtomicU64>,
}

impl Copier {
    /// Copies from guest to guest, for each pair of numbers (from, to), on all queue pairs.
    pub fn start(guests: &[Guest], ways: &[(usize, usize)]) -> Copier {
        let mut lanes = Vec::new();
        for &(from, to) in ways {
            let (from, to) = (&guests[from], &guests[to]);
            for (a, b) in from.driver().pairs.iter().zip(&to.driver().pairs) {
                lanes.push((Side::new(from, &a.tx), Side::new(to, &b.rx)));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let busy = Arc::new(AtomicU64::new(0));
        let (end, time) = (stop.clone(), busy.clone());
        let work = move || {
            let _ = host::pin(host::BACKEND);
            while !end.load(Ordering::Relaxed) {
                for (from, to) in &mut lanes {
                    let start = std::time::Instant::now();
                    if turn(from, to) {
                        time.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                    }
                }
            }
        };
        Copier { stop, thread: Some(thread::spawn(work)), busy }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Copies a batch, and returns whether there was one.
fn turn(from: &mut Side, to: &mut Side) -> bool {
    let ready = from.ready().min(BATCH);
    let mut room = to.ready();
    let mut moved = false;
    for _ in 0..ready {
        if room == 0 {
            break;
        }
        let (head, source, len) = from.pop();
        let (_, _, first) = to.pop();
        let buffers = len.div_ceil(first) as u16;
        if buffers > room {
            break;
        }
        room -= buffers;
        let mut done = 0;
        for number in 0..buffers {
            let (target_head, target, size) = to.pop();
            let piece = (len - done).min(size);
            // SAFETY: both guests are ours, and their descriptors stay inside their memory.
            unsafe {
                let at = to.memory.add(target as usize).cast_mut();
                let source = from.memory.add(source as usize + done as usize);
                std::ptr::copy_nonoverlapping(source, at, piece as usize);
                if number == 0 {
                    at.add(NUM_BUFFERS).cast::<u16>().write_unaligned(buffers);
                }
            }
            to.give(target_head, piece);
            done += piece;
        }
        from.give(head, 0);
        moved = true;
    }
    if moved {
        to.publish();
        from.publish();
    }
    moved
}
