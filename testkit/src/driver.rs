//! The guest's side of the rings: a virtio-net driver in a test process.
//!
//! It does what Linux's virtio_net does, in the strictest reading of the specification, so that a
//! back-end that works with Linux only by luck fails here. Its rings ([`Queue`]) are strict, and so
//! are its checks of frames:
//! - a received frame that says "I take 3 buffers" must have all 3 in the used ring at the moment
//!   the driver saw the first (virtio 1.2, 5.1.6.4.1); a half-published frame panics, Linux would
//!   log "buffers missing" and drop it;
//! - a used TX buffer has length 0, for the device wrote nothing to it.
//!
//! [`Driver`] is a set of queue pairs with frames going in and out. The VMM ([`crate::vmm`]) makes
//! drivers and sends the back-end the places of their rings; this file does not use the socket.
//!
//! Specification: virtio 1.2, section 5.1.6 (network device operation).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::memory::Memory;
pub use crate::queue::{F_IN_ORDER, Queue};
pub use crate::ring::{D_INDIRECT, D_NEXT, D_WRITE, Desc, F_EVENT_IDX};

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
pub const F_PROTOCOL: u64 = 1 << 30;
pub const F_VERSION_1: u64 = 1 << 32;
pub const F_LOG_ALL: u64 = 1 << 26;

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
    /// Skip receive buffers that come back empty: the device returns a broken one like that. If
    /// off, an empty one is a failure.
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
                q.set_features(features);
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

    /// Sends a frame from this guest address, header and data in one descriptor (it may cross
    /// regions).
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
            assert!(len == 0 || p.tx.in_order(), "device claims to have written {len} bytes to TX");
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

    /// The next received frame that passes the test; the others (a LAN is never silent) are
    /// dropped.
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
