//! A ring with its driver's state, in the strictest reading of the specification.
//!
//! If the device does something that it must not do, the test ends:
//! - the driver kicks only when the device asked for it (EVENT_IDX or `VRING_USED_F_NO_NOTIFY`) and
//!   sleeps on the call eventfd: a used buffer without the call that was due is a *lost call* and
//!   panics;
//! - a used element must name a buffer that is out, once; with IN_ORDER they must come back in
//!   order, where one element may stand for a batch.
//!
//! Hostile tests write any descriptor and index with [`Ring`], into which a [`Queue`] converts.
//!
//! Specification: virtio 1.2, section 2.7 (split virtqueues).

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::Memory;
use crate::ring::{D_INDIRECT, D_NEXT, Desc, F_EVENT_IDX, Layout, Ring};

pub const F_IN_ORDER: u64 = 1 << 35;

const PATIENCE: Duration = Duration::from_secs(10);

struct Pending {
    descs: Vec<u16>,
    buffers: Vec<(u64, u32)>,
}

/// A ring with its buffers and eventfds. The words of the ring itself are [`Ring`]'s.
pub struct Queue {
    pub index: usize,
    pub kick: EventFd,
    pub call: EventFd,
    /// How many times the driver kicked, and how often the device called.
    pub kicks: u64,
    pub calls: u64,
    ring: Ring<Memory>,
    features: u64,
    free: VecDeque<u16>,
    pending: HashMap<u16, Pending>,
    order: VecDeque<u16>,
    done: VecDeque<(u16, u32)>,
}

impl Deref for Queue {
    type Target = Ring<Memory>;

    fn deref(&self) -> &Ring<Memory> {
        &self.ring
    }
}

impl Queue {
    pub fn new(mem: &Memory, index: usize, size: u16, features: u64) -> Queue {
        let n = u64::from(size);
        let (desc, avail, used) =
            (mem.alloc(16 * n), mem.alloc(6 + 2 * n), mem.alloc(6 + 8 * n + 64));
        let event = || EventFd::new(EFD_NONBLOCK).expect("eventfd");
        let mut queue = Queue {
            index,
            kick: event(),
            call: event(),
            kicks: 0,
            calls: 0,
            ring: Ring::new(mem.clone(), Layout { size, desc, avail, used }, features),
            features,
            free: VecDeque::new(),
            pending: HashMap::new(),
            order: VecDeque::new(),
            done: VecDeque::new(),
        };
        queue.reset();
        queue
    }

    /// What a guest does on reboot: rings zeroed, everything forgotten. Only while the device is
    /// stopped.
    pub fn reset(&mut self) {
        self.ring.clear(self.features);
        self.free = (0..self.size).collect();
        self.pending.clear();
        self.order.clear();
        self.done.clear();
        while self.kick.read().is_ok() {}
        while self.call.read().is_ok() {}
    }

    /// [`Ring::set_avail_idx`].
    pub fn set_avail_idx(&mut self, idx: u16) {
        self.ring.set_avail_idx(idx);
    }

    /// From the next reset on.
    pub fn set_features(&mut self, features: u64) {
        self.features = features;
    }

    pub fn in_order(&self) -> bool {
        self.features & F_IN_ORDER != 0
    }

    /// The whole used ring with its index: two equal snapshots mean that nothing was written in
    /// between.
    pub fn used_snapshot(&self) -> Vec<u8> {
        self.memory.read(self.used, 6 + 8 * usize::from(self.size))
    }

    pub fn free_descriptors(&self) -> usize {
        self.free.len()
    }

    /// The descriptor that the next chain will start with.
    pub fn next_head(&self) -> u16 {
        self.free[0]
    }

    /// The number of buffers that the device holds.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    // --- the driver's work ---

    /// Puts a chain into the available ring, not yet visible to the device.
    pub fn add(&mut self, chain: &[Desc]) -> u16 {
        assert!(self.free.len() >= chain.len(), "ring {} has no free descriptors", self.index);
        let descs: Vec<u16> = self.free.drain(..chain.len()).collect();
        for (i, d) in chain.iter().enumerate() {
            let mut d = *d;
            if i + 1 < chain.len() {
                d.flags |= D_NEXT;
                d.next = d.next.or(Some(descs[i + 1]));
            }
            self.write_desc(descs[i], &d);
        }
        let buffers = chain.iter().map(|d| (d.addr, d.len)).collect();
        self.enter(descs, buffers)
    }

    /// The same through an indirect table of its own at `table`.
    pub fn add_indirect(&mut self, table: u64, chain: &[Desc]) -> u16 {
        for (i, d) in chain.iter().enumerate() {
            let mut d = *d;
            if i + 1 < chain.len() {
                d.flags |= D_NEXT;
                d.next = d.next.or(Some(i as u16 + 1));
            }
            self.memory.write(table + 16 * i as u64, &d.bytes());
        }
        let slot = self.free.pop_front().expect("a free descriptor");
        let len = 16 * chain.len() as u32;
        self.write_desc(slot, &Desc { addr: table, len, flags: D_INDIRECT, next: None });
        self.enter(vec![slot], chain.iter().map(|d| (d.addr, d.len)).collect())
    }

    fn enter(&mut self, descs: Vec<u16>, buffers: Vec<(u64, u32)>) -> u16 {
        let head = descs[0];
        self.ring.offer(head);
        self.order.push_back(head);
        self.pending.insert(head, Pending { descs, buffers });
        head
    }

    /// Makes what was added visible, and kicks if the device asked for it.
    pub fn publish(&mut self) {
        if self.ring.publish() {
            self.kick();
        }
    }

    /// Kicks, asked for or not.
    pub fn kick(&mut self) {
        self.kicks += 1;
        self.kick.write(1).expect("kick");
    }

    /// How many used buffers can be taken now.
    pub fn visible(&self) -> usize {
        self.done.len() + usize::from(self.ring.ready())
    }

    /// Takes one used buffer: head and written length, its descriptors still reserved.
    pub fn pop_used(&mut self) -> Option<(u16, u32)> {
        if let Some(done) = self.done.pop_front() {
            return Some(done);
        }
        let visible = self.ring.ready();
        if visible == 0 {
            return None;
        }
        assert!(visible <= self.size, "used index of ring {} ran ahead by {visible}", self.index);
        let (id, len) = self.ring.next_used();
        let head = id as u16;
        assert!(
            self.pending.contains_key(&head) && u32::from(head) == id,
            "ring {}: used element {id} names no buffer that is out",
            self.index
        );
        let at = self.order.iter().position(|&h| h == head).expect("pending and order agree");
        if self.in_order() {
            // One element may end a batch: the ones before it are complete too (2.7.9).
            assert!(at < usize::from(visible), "IN_ORDER batch is longer than the used index says");
            for skipped in self.order.drain(..at) {
                let room = self.pending[&skipped].buffers.iter().map(|b| b.1).sum();
                self.done.push_back((skipped, room));
            }
            self.order.pop_front();
            self.ring.advance(at as u16 + 1);
            self.done.push_back((head, len));
            return self.done.pop_front();
        }
        self.order.remove(at);
        self.ring.advance(1);
        Some((head, len))
    }

    /// Gives the descriptors of a used chain back and returns which buffers it had.
    pub fn release(&mut self, head: u16) -> Vec<(u64, u32)> {
        let done = self.pending.remove(&head).expect("released twice");
        self.free.extend(done.descs);
        done.buffers
    }

    /// Counts and clears pending calls.
    pub fn take_calls(&mut self) -> u64 {
        let n = self.call.read().unwrap_or(0);
        self.calls += n;
        n
    }

    /// Sleeps until the device used a buffer, by its calls alone.
    pub fn wait_used(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.visible() > 0 {
                // With EVENT_IDX the event index is simply left behind.
                if self.features & F_EVENT_IDX == 0 {
                    self.calls_off();
                }
                return true;
            }
            self.calls_on(0);
            if self.visible() > 0 {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.poll_call(left) {
                self.take_calls();
            } else if self.visible() == 0 {
                return false;
            } else {
                // The index moved in the last moment: its call may still be on the way, but it must
                // come.
                assert!(
                    self.poll_call(PATIENCE),
                    "ring {}: lost call (buffers used, nobody called)",
                    self.index
                );
            }
        }
    }

    fn poll_call(&self, timeout: Duration) -> bool {
        let mut fd = libc::pollfd { fd: self.call.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ms = timeout.as_millis().min(60_000) as i32;
        // SAFETY: one valid pollfd that lives across the call.
        unsafe { libc::poll(&mut fd, 1, ms) == 1 }
    }

    /// Waits until this very chain is used and gives its written length, or None in time.
    /// Other chains that come back meanwhile are released.
    pub fn wait_returned(&mut self, head: u16, timeout: Duration) -> Option<u32> {
        let deadline = Instant::now() + timeout;
        loop {
            while let Some((h, len)) = self.pop_used() {
                self.release(h);
                if h == head {
                    return Some(len);
                }
            }
            if !self.wait_used(deadline.saturating_duration_since(Instant::now())) {
                return None;
            }
        }
    }
}
