//! The guest's side of the rings: a virtio-net driver in a test process.
//!
//! It does what Linux's virtio_net does, in the strictest reading of the specification, so that a back-end which is
//! merely lucky with Linux fails here:
//! - kicks only when the device asked for it (EVENT_IDX or `VRING_USED_F_NO_NOTIFY`) and sleeps on the call eventfd:
//!   a used buffer without the call that was due is a *lost call* and panics;
//! - a received frame that says "I take 3 buffers" must have all 3 in the used ring at the moment the driver saw the
//!   first (virtio 1.2, 5.1.6.4.1); a half-published frame panics, Linux would log "buffers missing" and drop it;
//! - a used element must name a buffer that is out, once; with IN_ORDER they must come back in order, where one
//!   element may stand for a batch; a used TX buffer has length 0, for the device wrote nothing to it.
//!
//! [`Queue`] is a split virtqueue with raw access (hostile tests write any descriptor and index they like).
//! [`Driver`] is a set of queue pairs with frames going in and out. The VMM ([`crate::vmm`]) makes drivers and tells
//! the back-end where their rings are; nothing here speaks on the socket.
//!
//! Specification: virtio 1.2, sections 2.7 (split virtqueues) and 5.1.6 (network device operation).

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::Memory;

pub const F_CSUM: u64 = 1 << 0;
pub const F_GUEST_CSUM: u64 = 1 << 1;
pub const F_MTU: u64 = 1 << 3;
pub const F_MAC: u64 = 1 << 5;
pub const F_GUEST_TSO4: u64 = 1 << 7;
pub const F_GUEST_TSO6: u64 = 1 << 8;
pub const F_HOST_TSO4: u64 = 1 << 11;
pub const F_HOST_TSO6: u64 = 1 << 12;
pub const F_MRG_RXBUF: u64 = 1 << 15;
pub const F_CTRL_VQ: u64 = 1 << 17;
pub const F_GUEST_ANNOUNCE: u64 = 1 << 21;
pub const F_MQ: u64 = 1 << 22;
pub const F_INDIRECT: u64 = 1 << 28;
pub const F_EVENT_IDX: u64 = 1 << 29;
pub const F_PROTOCOL: u64 = 1 << 30;
pub const F_VERSION_1: u64 = 1 << 32;
pub const F_IN_ORDER: u64 = 1 << 35;
pub const F_LOG_ALL: u64 = 1 << 26;

pub const D_NEXT: u16 = 1;
pub const D_WRITE: u16 = 2;
pub const D_INDIRECT: u16 = 4;

const SLOT: u64 = 2048;
const PATIENCE: Duration = Duration::from_secs(10);

/// The 12 bytes before every frame (10 without VERSION_1 and MRG_RXBUF).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHdr {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
    pub num_buffers: u16,
}

impl VnetHdr {
    pub fn bytes(&self) -> [u8; 12] {
        let mut b = [0u8; 12];
        b[0] = self.flags;
        b[1] = self.gso_type;
        let words =
            [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (i, w) in words.iter().enumerate() {
            b[2 + 2 * i..4 + 2 * i].copy_from_slice(&w.to_le_bytes());
        }
        b
    }

    pub fn parse(b: &[u8]) -> VnetHdr {
        let w = |i: usize| b.get(i..i + 2).map_or(1, |s| u16::from_le_bytes([s[0], s[1]]));
        VnetHdr {
            flags: b[0],
            gso_type: b[1],
            hdr_len: w(2),
            gso_size: w(4),
            csum_start: w(6),
            csum_offset: w(8),
            num_buffers: w(10),
        }
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

struct Pending {
    descs: Vec<u16>,
    buffers: Vec<(u64, u32)>,
}

/// A split virtqueue as its driver sees it.
pub struct Queue {
    pub index: usize,
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    pub kick: EventFd,
    pub call: EventFd,
    /// How many times the driver kicked, and how often the device called.
    pub kicks: u64,
    pub calls: u64,
    mem: Memory,
    event_idx: bool,
    in_order: bool,
    free: VecDeque<u16>,
    pending: HashMap<u16, Pending>,
    order: VecDeque<u16>,
    ready: VecDeque<(u16, u32)>,
    next_avail: u16,
    published: u16,
    last_used: u16,
}

impl Queue {
    pub fn new(mem: &Memory, index: usize, size: u16, features: u64) -> Queue {
        let n = u64::from(size);
        let (desc, avail, used) =
            (mem.alloc(16 * n), mem.alloc(6 + 2 * n), mem.alloc(6 + 8 * n + 64));
        let event = || EventFd::new(EFD_NONBLOCK).expect("eventfd");
        let mut queue = Queue {
            index,
            size,
            desc,
            avail,
            used,
            kick: event(),
            call: event(),
            kicks: 0,
            calls: 0,
            mem: mem.clone(),
            event_idx: features & F_EVENT_IDX != 0,
            in_order: features & F_IN_ORDER != 0,
            free: VecDeque::new(),
            pending: HashMap::new(),
            order: VecDeque::new(),
            ready: VecDeque::new(),
            next_avail: 0,
            published: 0,
            last_used: 0,
        };
        queue.reset();
        queue
    }

    /// What a guest does on reboot: rings zeroed, everything forgotten. Only while the device is stopped.
    pub fn reset(&mut self) {
        let n = usize::from(self.size);
        self.mem.write(self.desc, &vec![0; 16 * n]);
        self.mem.write(self.avail, &vec![0; 6 + 2 * n]);
        self.mem.write(self.used, &vec![0; 6 + 8 * n]);
        self.free = (0..self.size).collect();
        self.pending.clear();
        self.order.clear();
        self.ready.clear();
        (self.next_avail, self.published, self.last_used) = (0, 0, 0);
        while self.kick.read().is_ok() {}
        while self.call.read().is_ok() {}
    }

    // --- raw access ---

    pub fn write_desc(&self, slot: u16, d: &Desc) {
        self.mem.write(self.desc + 16 * u64::from(slot), &d.bytes());
    }

    pub fn set_avail_entry(&self, at: u16, head: u16) {
        self.mem.store16(self.avail + 4 + 2 * u64::from(at % self.size), head);
    }

    pub fn set_avail_idx(&mut self, idx: u16) {
        self.mem.store16(self.avail + 2, idx);
        self.next_avail = idx;
        self.published = idx;
    }

    pub fn avail_idx(&self) -> u16 {
        self.mem.load16(self.avail + 2)
    }

    pub fn used_idx(&self) -> u16 {
        self.mem.load16(self.used + 2)
    }

    fn used_elem(&self, at: u16) -> (u32, u32) {
        let b = self.mem.read(self.used + 4 + 8 * u64::from(at % self.size), 8);
        (u32::from_le_bytes([b[0], b[1], b[2], b[3]]), u32::from_le_bytes([b[4], b[5], b[6], b[7]]))
    }

    /// The whole used ring with its index: two equal snapshots mean nobody wrote in between.
    pub fn used_snapshot(&self) -> Vec<u8> {
        self.mem.read(self.used, 6 + 8 * usize::from(self.size))
    }

    pub fn free_descriptors(&self) -> usize {
        self.free.len()
    }

    /// The descriptor that the next chain will start with.
    pub fn next_head(&self) -> u16 {
        self.free[0]
    }

    /// Buffers that the device holds.
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
    fn add_indirect(&mut self, table: u64, chain: &[Desc]) -> u16 {
        for (i, d) in chain.iter().enumerate() {
            let mut d = *d;
            if i + 1 < chain.len() {
                d.flags |= D_NEXT;
                d.next = d.next.or(Some(i as u16 + 1));
            }
            self.mem.write(table + 16 * i as u64, &d.bytes());
        }
        let slot = self.free.pop_front().expect("a free descriptor");
        let len = 16 * chain.len() as u32;
        self.write_desc(slot, &Desc { addr: table, len, flags: D_INDIRECT, next: None });
        self.enter(vec![slot], chain.iter().map(|d| (d.addr, d.len)).collect())
    }

    fn enter(&mut self, descs: Vec<u16>, buffers: Vec<(u64, u32)>) -> u16 {
        let head = descs[0];
        self.set_avail_entry(self.next_avail, head);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.order.push_back(head);
        self.pending.insert(head, Pending { descs, buffers });
        head
    }

    /// Makes what was added visible, and kicks if the device asked for it.
    pub fn publish(&mut self) {
        let (old, new) = (self.published, self.next_avail);
        if old == new {
            return;
        }
        self.mem.store16(self.avail + 2, new);
        self.published = new;
        // The index must be out before we look whether the device sleeps: 2.7.13.4.1.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = self.mem.load16(self.used + 4 + 8 * u64::from(self.size));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.mem.load16(self.used) & 1 == 0
        };
        if wanted {
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
        self.ready.len() + usize::from(self.used_idx().wrapping_sub(self.last_used))
    }

    /// Takes one used buffer: head and written length, its descriptors still reserved.
    fn pop_used(&mut self) -> Option<(u16, u32)> {
        if let Some(done) = self.ready.pop_front() {
            return Some(done);
        }
        let visible = self.used_idx().wrapping_sub(self.last_used);
        if visible == 0 {
            return None;
        }
        assert!(visible <= self.size, "used index of ring {} ran ahead by {visible}", self.index);
        let (id, len) = self.used_elem(self.last_used);
        let head = id as u16;
        assert!(
            self.pending.contains_key(&head) && u32::from(head) == id,
            "ring {}: used element {id} names no buffer that is out",
            self.index
        );
        let at = self.order.iter().position(|&h| h == head).expect("pending and order agree");
        if self.in_order {
            // One element may end a batch: the ones before it are complete too (2.7.9).
            assert!(at < usize::from(visible), "IN_ORDER batch is longer than the used index says");
            for skipped in self.order.drain(..at) {
                let room = self.pending[&skipped].buffers.iter().map(|b| b.1).sum();
                self.ready.push_back((skipped, room));
            }
            self.order.pop_front();
            self.last_used = self.last_used.wrapping_add(at as u16 + 1);
            self.ready.push_back((head, len));
            return self.ready.pop_front();
        }
        self.order.remove(at);
        self.last_used = self.last_used.wrapping_add(1);
        Some((head, len))
    }

    /// Gives the descriptors of a used chain back and tells which buffers it had.
    pub fn release(&mut self, head: u16) -> Vec<(u64, u32)> {
        let done = self.pending.remove(&head).expect("released twice");
        self.free.extend(done.descs);
        done.buffers
    }

    /// Asks for a call at the next used buffer.
    pub fn enable_calls(&self) {
        if self.event_idx {
            self.mem.store16(self.avail + 4 + 2 * u64::from(self.size), self.last_used);
        } else {
            self.mem.store16(self.avail, 0);
        }
        fence(Ordering::SeqCst);
    }

    /// Asks for none (with EVENT_IDX simply by leaving the event index behind).
    fn disable_calls(&self) {
        if !self.event_idx {
            self.mem.store16(self.avail, 1);
        }
    }

    /// Counts and clears pending calls.
    pub fn take_calls(&mut self) -> u64 {
        let n = self.call.read().unwrap_or(0);
        self.calls += n;
        n
    }

    /// Sleeps until the device used a buffer, by its calls alone.
    fn wait_used(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.visible() > 0 {
                self.disable_calls();
                return true;
            }
            self.enable_calls();
            if self.visible() > 0 {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.poll_call(left) {
                self.take_calls();
            } else if self.visible() == 0 {
                return false;
            } else {
                // The index moved in the last moment: its call may still be on the way, but it must come.
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

/// A frame as the guest got it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub hdr: VnetHdr,
    pub bytes: Vec<u8>,
    /// How many receive buffers it took.
    pub buffers: u16,
}

/// How transmitted frames are laid out in descriptors.
#[derive(Clone, Copy, Debug)]
pub struct TxStyle {
    /// Through an indirect table (if the device accepted the feature).
    pub indirect: bool,
    /// Into how many descriptors header and frame are cut; 1: as few as the slot size allows.
    pub pieces: usize,
}

/// One receive and one transmit ring.
pub struct Pair {
    pub rx: Queue,
    pub tx: Queue,
    tx_slots: Vec<u64>,
    tx_tables: Vec<u64>,
    tx_taken: HashMap<u16, (Vec<u64>, Option<u64>)>,
    rx_pool: HashMap<u32, Vec<u64>>,
}

/// The guest's network driver: queue pairs 0.. on the negotiated features.
pub struct Driver {
    pub mem: Memory,
    pub features: u64,
    pub pairs: Vec<Pair>,
    pub style: TxStyle,
    /// Post a buffer of the same size for each that was received (default true).
    pub refill: bool,
    /// Skip receive buffers that come back empty: the device's answer to a broken one. Off, it is a failure.
    pub allow_empty: bool,
}

impl Driver {
    pub fn new(mem: &Memory, features: u64, pairs: usize, rx_ring: u16, tx_ring: u16) -> Driver {
        let pair = |i: usize| Pair {
            rx: Queue::new(mem, 2 * i, rx_ring, features),
            tx: Queue::new(mem, 2 * i + 1, tx_ring, features),
            tx_slots: (0..tx_ring).map(|_| mem.alloc(SLOT)).collect(),
            tx_tables: Vec::new(),
            tx_taken: HashMap::new(),
            rx_pool: HashMap::new(),
        };
        let pairs = (0..pairs).map(pair).collect();
        let style = TxStyle { indirect: false, pieces: 1 };
        Driver { mem: mem.clone(), features, pairs, style, refill: true, allow_empty: false }
    }

    pub fn has(&self, feature: u64) -> bool {
        self.features & feature == feature
    }

    pub fn hdr_len(&self) -> usize {
        if self.features & (F_VERSION_1 | F_MRG_RXBUF) == 0 { 10 } else { 12 }
    }

    /// All rings in the order of their numbers.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.pairs.iter().flat_map(|p| [&p.rx, &p.tx])
    }

    /// After a reboot of the guest: empty rings in the same places, possibly with other features.
    pub fn reset(&mut self, features: u64) {
        self.features = features;
        for p in &mut self.pairs {
            for q in [&mut p.rx, &mut p.tx] {
                q.event_idx = features & F_EVENT_IDX != 0;
                q.in_order = features & F_IN_ORDER != 0;
                q.reset();
            }
            for (_, (slots, table)) in p.tx_taken.drain() {
                p.tx_slots.extend(slots);
                p.tx_tables.extend(table);
            }
        }
    }

    // --- transmit ---

    /// Sends frames with empty headers: one publication and at most one kick per batch that fits.
    pub fn send<B: AsRef<[u8]>>(&mut self, pair: usize, frames: &[B]) {
        for f in frames {
            self.queue_frame(pair, &VnetHdr::default(), f.as_ref());
        }
        self.pairs[pair].tx.publish();
    }

    /// Sends one frame with this header (GSO, checksum offload).
    pub fn send_with(&mut self, pair: usize, hdr: &VnetHdr, bytes: &[u8]) {
        self.queue_frame(pair, hdr, bytes);
        self.pairs[pair].tx.publish();
    }

    /// Sends a frame from this guest address, header and data in one descriptor (it may cross regions).
    pub fn send_from(&mut self, pair: usize, gpa: u64, bytes: &[u8]) -> u16 {
        let n = self.hdr_len();
        self.mem.write(gpa, &VnetHdr::default().bytes()[..n]);
        self.mem.write(gpa + n as u64, bytes);
        let tx = &mut self.pairs[pair].tx;
        let head = tx.add(&[Desc::read(gpa, (n + bytes.len()) as u32)]);
        tx.publish();
        head
    }

    fn queue_frame(&mut self, pair: usize, hdr: &VnetHdr, bytes: &[u8]) {
        let mut data = hdr.bytes()[..self.hdr_len()].to_vec();
        data.extend_from_slice(bytes);
        let piece = (data.len().div_ceil(self.style.pieces)).clamp(1, SLOT as usize);
        let count = data.len().div_ceil(piece);
        let indirect = self.style.indirect && self.has(F_INDIRECT);
        let needed = if indirect { 1 } else { count };

        let deadline = Instant::now() + PATIENCE;
        self.reclaim(pair);
        while self.pairs[pair].tx.free_descriptors() < needed
            || self.pairs[pair].tx_slots.len() < count
        {
            self.pairs[pair].tx.publish();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                self.pairs[pair].tx.wait_used(left),
                "the back-end did not return transmit buffers in time ({} out)",
                self.pairs[pair].tx.outstanding()
            );
            self.reclaim(pair);
        }

        let p = &mut self.pairs[pair];
        let slots = p.tx_slots.split_off(p.tx_slots.len() - count);
        let chain: Vec<Desc> = data
            .chunks(piece)
            .zip(&slots)
            .map(|(bytes, &at)| {
                self.mem.write(at, bytes);
                Desc::read(at, bytes.len() as u32)
            })
            .collect();
        let table =
            indirect.then(|| p.tx_tables.pop().unwrap_or_else(|| self.mem.alloc(16 * 1024)));
        let head = match table {
            Some(at) => p.tx.add_indirect(at, &chain),
            None => p.tx.add(&chain),
        };
        p.tx_taken.insert(head, (slots, table));
    }

    /// Takes back the transmit buffers that the device is done with.
    pub fn reclaim(&mut self, pair: usize) -> usize {
        let p = &mut self.pairs[pair];
        let mut n = 0;
        while let Some((head, len)) = p.tx.pop_used() {
            // With an IN_ORDER batch only the last element carries a length.
            assert!(len == 0 || p.tx.in_order, "device claims to have written {len} bytes to TX");
            p.tx.release(head);
            if let Some((slots, table)) = p.tx_taken.remove(&head) {
                p.tx_slots.extend(slots);
                p.tx_tables.extend(table);
            }
            n += 1;
        }
        n
    }

    /// Waits until every transmitted buffer came back.
    pub fn drain_tx(&mut self, pair: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            self.reclaim(pair);
            if self.pairs[pair].tx.outstanding() == 0 {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.pairs[pair].tx.wait_used(left) {
                return false;
            }
        }
    }

    // --- receive ---

    /// Posts `n` receive buffers of one descriptor each.
    pub fn post_rx(&mut self, pair: usize, n: usize, size: u32) {
        for _ in 0..n {
            self.queue_rx(pair, &[size]);
        }
        self.pairs[pair].rx.publish();
    }

    /// Posts one receive buffer at exactly this place (other region, across a border).
    pub fn post_rx_at(&mut self, pair: usize, gpa: u64, size: u32) {
        let rx = &mut self.pairs[pair].rx;
        rx.add(&[Desc::write(gpa, size)]);
        rx.publish();
    }

    fn queue_rx(&mut self, pair: usize, sizes: &[u32]) {
        let p = &mut self.pairs[pair];
        let chain: Vec<Desc> = sizes
            .iter()
            .map(|&size| {
                let pooled = p.rx_pool.get_mut(&size).and_then(Vec::pop);
                let at = pooled.unwrap_or_else(|| self.mem.alloc(u64::from(size)));
                // Old bytes must not look like a frame that was never written.
                self.mem.write(at, &vec![0xee; size as usize]);
                Desc::write(at, size)
            })
            .collect();
        p.rx.add(&chain);
    }

    /// The next received frame, or None when none came in time.
    pub fn recv(&mut self, pair: usize, timeout: Duration) -> Option<Frame> {
        if !self.pairs[pair].rx.wait_used(timeout) {
            return None;
        }
        // Counted before anything of the frame is read: all its buffers must be among these.
        let visible = self.pairs[pair].rx.visible();
        let hdr_len = self.hdr_len();
        let (mut bytes, sizes) = self.take_rx(pair)?;
        if bytes.is_empty() && self.allow_empty {
            return self.recv(pair, timeout);
        }
        assert!(bytes.len() >= hdr_len, "received {} bytes, less than a header", bytes.len());
        let hdr = VnetHdr::parse(&bytes[..hdr_len]);
        bytes.drain(..hdr_len);
        let buffers = if self.has(F_MRG_RXBUF) { hdr.num_buffers } else { 1 };
        if self.has(F_MRG_RXBUF) || self.has(F_VERSION_1) {
            assert!(hdr.num_buffers >= 1, "num_buffers is 0");
        }
        assert!(
            visible >= usize::from(buffers),
            "half-published frame: {visible} of {buffers} buffers in the used ring"
        );
        let mut all = vec![sizes];
        for _ in 1..buffers {
            let (more, sizes) = self.take_rx(pair).expect("checked to be visible");
            assert!(!more.is_empty(), "an empty buffer inside a merged frame");
            bytes.extend(more);
            all.push(sizes);
        }
        if self.refill {
            for sizes in all {
                self.queue_rx(pair, &sizes);
            }
            self.pairs[pair].rx.publish();
        }
        Some(Frame { hdr, bytes, buffers })
    }

    /// The next received frame that passes the test; the others (a LAN is never silent) are dropped.
    pub fn recv_where(
        &mut self,
        pair: usize,
        timeout: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Frame> {
        let deadline = Instant::now() + timeout;
        loop {
            let frame = self.recv(pair, deadline.saturating_duration_since(Instant::now()))?;
            if wanted(&frame.bytes) {
                return Some(frame);
            }
        }
    }

    fn take_rx(&mut self, pair: usize) -> Option<(Vec<u8>, Vec<u32>)> {
        let p = &mut self.pairs[pair];
        let (head, len) = p.rx.pop_used()?;
        let buffers = p.rx.release(head);
        let room: u32 = buffers.iter().map(|b| b.1).sum();
        assert!(len <= room, "device says it wrote {len} bytes into {room}");
        let mut bytes = Vec::with_capacity(len as usize);
        for &(at, size) in &buffers {
            let n = (len as usize - bytes.len()).min(size as usize);
            bytes.extend(self.mem.read(at, n));
            p.rx_pool.entry(size).or_default().push(at);
        }
        Some((bytes, buffers.iter().map(|b| b.1).collect()))
    }
}
