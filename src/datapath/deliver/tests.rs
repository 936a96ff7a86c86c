//! Deliveries into a ring with any buffers: what fits arrives whole, what does not costs one frame.

use super::*;
use crate::net::feature;
use crate::virtqueue::guest_map::{GuestMap, SharedMemory};
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::vring::VringConfig;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::buffers::Buffers;
use testkit::ring::{D_INDIRECT, D_NEXT, D_WRITE, Desc, Layout, RingMemory};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 64;
const DATA: u64 = 0x1_0000;
const SLOT: u64 = 0x1_2000;
const MERGEABLE: u64 = 1 << feature::VIRTIO_F_VERSION_1 | 1 << feature::VIRTIO_NET_F_MRG_RXBUF;
const NO_HEADER: [u8; HEADER] = [0; HEADER];

struct Bench {
    guest: Buffers<GuestMemoryMmap>,
    vring: Vring,
    scratch: RxScratch,
    backlog: RxBacklog,
    patient: bool,
}

impl Bench {
    fn new(features: u64) -> Bench {
        let size = 0x1_0000 + usize::from(SIZE) * SLOT as usize;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]).unwrap();
        let map = GuestMap::new(&SharedMemory::new(memory.clone()));
        let ring = testkit::ring::Ring::new(memory, Layout::at(0, SIZE), features);
        let (desc, avail, used) = (ring.desc, ring.avail, ring.used);
        let setup = RingSetup { size: SIZE, desc, avail, used, features, map };
        let mut vring = Vring::default();
        vring.apply(&VringConfig { ready: true, enabled: true, setup: Some(setup) }, &"test");
        let (scratch, backlog) = (RxScratch::default(), RxBacklog::default());
        Bench { guest: Buffers::new(ring, DATA, SLOT), vring, scratch, backlog, patient: false }
    }

    /// Offers a buffer; `flags` 2 is a good one.
    fn offer(&mut self, len: u32, flags: u16) {
        assert!(self.guest.offer(len, flags), "all buffers are out");
    }

    fn deliver(&mut self, header: &[u8; HEADER], bytes: &[u8]) {
        let (head, rest) = bytes.split_at(14);
        let (one, two) = rest.split_at(rest.len() / 3);
        let body = [one, two].map(GuestSlice::from);
        let frame = Frame { header, head, body: &body, len: bytes.len() };
        let backlog = self.patient.then_some(&mut self.backlog);
        Delivery::new(&mut self.vring, &mut self.scratch, backlog).frame(&frame).unwrap();
        self.vring.publish();
    }

    /// The guest has kicked, or `expired`. Whether something still waits.
    fn drain(&mut self, expired: bool) -> bool {
        let backlog = Some(&mut self.backlog);
        self.scratch.begin_turn();
        let drained = Delivery::new(&mut self.vring, &mut self.scratch, backlog).drain(expired);
        self.vring.publish();
        drained.unwrap() != Drained::Empty
    }

    /// Takes one buffer back: its content.
    fn take(&mut self) -> Option<Vec<u8>> {
        self.guest.take()
    }

    /// Takes one frame, from as many buffers as its header says.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let (mut whole, _) = self.guest.take_merged()?;
        Some(whole.split_off(HEADER))
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.vring.counters.dropped(reason)
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

#[test]
fn a_full_receiver_loses_the_frame_and_keeps_its_buffers() {
    let mut bench = Bench::new(MERGEABLE);
    bench.offer(1000, 2);
    bench.deliver(&NO_HEADER, &bytes(1500));
    assert_eq!(bench.dropped(DropReason::NoBuffers), 1);
    assert_eq!(bench.take(), None);
    bench.deliver(&NO_HEADER, &bytes(900));
    assert_eq!(bench.frame(), Some(bytes(900)), "the buffer was put back");
    bench.deliver(&NO_HEADER, &bytes(60));
    assert_eq!(bench.dropped(DropReason::NoBuffers), 2);
}

/// A guest with a short ring used to lose what the kernel had handed over in one block, though it gave
/// buffers back a moment later: half of its rate from the LAN.
#[test]
fn frames_from_the_wire_wait_for_buffers_in_order() {
    let mut bench = Bench::new(MERGEABLE);
    bench.patient = true;
    bench.offer(2000, 2);
    for len in [100, 200, 300] {
        bench.deliver(&NO_HEADER, &bytes(len));
    }
    assert_eq!(bench.frame(), Some(bytes(100)));
    bench.offer(2000, 2);
    bench.deliver(&NO_HEADER, &bytes(400));
    assert_eq!(bench.take(), None, "nothing overtakes what waits");
    assert!(bench.drain(false));
    assert_eq!(bench.frame(), Some(bytes(200)));
    (0..5).for_each(|_| bench.offer(2000, 2));
    assert!(!bench.drain(false));
    assert_eq!((bench.frame(), bench.frame()), (Some(bytes(300)), Some(bytes(400))));
    assert_eq!(bench.dropped(DropReason::NoBuffers), 0);
}

#[test]
fn a_frame_that_gets_too_few_buffers_does_not_block_for_ever() {
    let mut bench = Bench::new(MERGEABLE);
    bench.patient = true;
    bench.deliver(&NO_HEADER, &bytes(5000));
    bench.deliver(&NO_HEADER, &bytes(60));
    bench.offer(2000, 2);
    assert!(bench.drain(false));
    assert_eq!(bench.take(), None);
    assert!(!bench.drain(true), "its time is up");
    assert_eq!(bench.frame(), Some(bytes(60)));
    assert_eq!(bench.dropped(DropReason::NoRoom), 1);
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = Bench::new(MERGEABLE);
    bench.patient = true;
    (0..600).for_each(|_| bench.deliver(&NO_HEADER, &bytes(60)));
    assert_eq!(bench.dropped(DropReason::NoBuffers), 100);
}

#[test]
fn a_frame_that_no_ring_can_hold_is_told_apart() {
    let mut bench = Bench::new(MERGEABLE);
    (0..SIZE).for_each(|_| bench.offer(100, 2));
    bench.deliver(&NO_HEADER, &bytes(9000));
    assert_eq!(bench.dropped(DropReason::NoRoom), 1);
    let mut bench = Bench::new(1 << feature::VIRTIO_F_VERSION_1);
    bench.offer(100, 2);
    bench.offer(2000, 2);
    bench.deliver(&NO_HEADER, &bytes(200));
    assert_eq!(bench.dropped(DropReason::NoRoom), 1, "without mergeable buffers one must do");
}

#[test]
fn bad_buffers_cost_the_guest_its_buffers_and_not_the_frame() {
    let mut bench = Bench::new(MERGEABLE);
    for (len, flags) in [(2000, 0), (4, 2), (500, 2), (2000, 0), (2000, 2)] {
        bench.offer(len, flags);
    }
    bench.deliver(&NO_HEADER, &bytes(1500));
    for _ in 0..4 {
        assert_eq!(bench.take(), Some(Vec::new()), "given back unused, in order");
    }
    assert_eq!(bench.frame(), Some(bytes(1500)));
    assert_eq!(bench.dropped(DropReason::BadChain), 3);
}

#[test]
fn a_ring_that_is_disabled_or_gone_counts_no_guest() {
    let mut bench = Bench::new(MERGEABLE);
    bench.offer(2000, 2);
    bench.vring.enabled = false;
    bench.deliver(&NO_HEADER, &bytes(60));
    assert_eq!(bench.dropped(DropReason::NoGuest), 1);
    assert_eq!(bench.take(), None);
}

/// What the receiver did not take arrives repaired: here the checksum of a UDP datagram.
#[test]
fn a_missing_checksum_is_filled_in_for_a_guest_that_did_not_take_that() {
    let mut datagram = bytes(60);
    datagram[12..14].copy_from_slice(&[8, 0]);
    datagram[14] = 0x45;
    datagram[16..18].copy_from_slice(&46u16.to_be_bytes());
    datagram[20..22].fill(0);
    datagram[23] = 17;
    datagram[38..40].copy_from_slice(&26u16.to_be_bytes());
    datagram[40..42].copy_from_slice(&[0, 43]);
    let mut header = NO_HEADER;
    header[0] = 1;
    header[6..8].copy_from_slice(&34u16.to_le_bytes());
    header[8..10].copy_from_slice(&6u16.to_le_bytes());

    let mut bench = Bench::new(MERGEABLE | 1 << feature::VIRTIO_NET_F_GUEST_CSUM);
    bench.offer(2000, 2);
    bench.deliver(&header, &datagram);
    let passed = bench.take().unwrap();
    assert_eq!(passed[..10], header[..10], "accepted: untouched");
    assert_eq!(passed[12..], datagram);

    let mut bench = Bench::new(MERGEABLE);
    bench.offer(2000, 2);
    bench.deliver(&header, &datagram);
    let repaired = bench.take().unwrap();
    assert_eq!(repaired[..10], [0; 10]);
    let expected = !naive_sum(&datagram[34..60]);
    assert_eq!(repaired[12 + 40..12 + 42], expected.to_be_bytes());
}

fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_arrives_is_what_was_sent(
        merge: bool,
        steps in prop::collection::vec((14usize..9000, prop::collection::vec(1u32..5000, 0..6)), 1..40),
    ) {
        let features = if merge { MERGEABLE } else { 1 << feature::VIRTIO_F_VERSION_1 };
        let mut bench = Bench::new(features);
        let mut delivered = 0;
        for (len, buffers) in steps {
            for size in buffers {
                if bench.guest.ring.out() < SIZE {
                    bench.offer(size, 2);
                }
            }
            bench.deliver(&NO_HEADER, &bytes(len));
            let frames = bench.vring.counters.frames;
            while let Some(first) = bench.take() {
                if first.is_empty() {
                    continue;
                }
                let mut whole = first;
                let count = u16::from_le_bytes([whole[10], whole[11]]);
                prop_assert!(merge || count == 1);
                for _ in 1..count {
                    whole.extend(bench.take().unwrap());
                }
                prop_assert_eq!(&whole[HEADER..], &bytes(len)[..]);
                delivered += 1;
            }
            prop_assert_eq!(frames, delivered);
        }
    }
}

/// Makes everything that comes back available again, until it is dropped: as fast as it is given back.
struct Busy(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Busy {
    fn start(bench: &Bench) -> Busy {
        let (stop, ring) = (Arc::new(AtomicBool::new(false)), bench.guest.ring.clone());
        let stopped = Arc::clone(&stop);
        let done = ring.offer_all();
        let thread = std::thread::spawn(move || ring.offer_again(done, &stopped, || (), || ()));
        Busy(stop, Some(thread))
    }
}

impl std::ops::Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

/// One delivery went on for as long as the guest did: 3.0 million bad chains in 8 s, none published.
#[test]
fn bug_s1_a_guest_that_offers_only_bad_buffers_loses_its_ring() {
    for (len, flags) in [(0, 2), (2000, 0), (11, 2)] {
        let mut bench = Bench::new(MERGEABLE);
        (0..SIZE).for_each(|_| bench.offer(len, flags));
        let _busy = Busy::start(&bench);
        let frame = Frame { header: &NO_HEADER, head: &[1; 60], body: &[], len: 60 };
        let mut fault = None;
        let end = Instant::now() + Duration::from_secs(20);
        while fault.is_none() && Instant::now() < end {
            bench.scratch.begin_turn();
            let delivery = Delivery::new(&mut bench.vring, &mut bench.scratch, None).frame(&frame);
            bench.vring.publish();
            fault = delivery.err();
            std::thread::yield_now();
        }
        assert_eq!(fault, Some(Fault::Unusable), "{len} {flags}");
    }
}

/// A good buffer now and then keeps the ring alive, and what is read in a turn is bounded all the same.
#[test]
fn bug_s1_a_turn_reads_a_bounded_number_of_bad_buffers() {
    let mut bench = Bench::new(MERGEABLE);
    for index in 0..SIZE {
        bench.offer(2000, if index % 32 == 0 { 2 } else { 0 });
    }
    let _busy = Busy::start(&bench);
    let frame = Frame { header: &NO_HEADER, head: &[1; 60], body: &[], len: 60 };
    let read = |bench: &mut Bench| bench.vring.ring.as_mut().unwrap().queue().read_since(0);
    let end = Instant::now() + Duration::from_secs(20);
    while bench.vring.counters.frames < 1000 && Instant::now() < end {
        let before = read(&mut bench);
        bench.scratch.begin_turn();
        for _ in 0..256 {
            Delivery::new(&mut bench.vring, &mut bench.scratch, None).frame(&frame).unwrap();
            bench.vring.publish();
        }
        let turn = read(&mut bench) - before;
        assert!(turn <= 4096 + 256 * 9, "{turn} descriptors in one turn");
        std::thread::yield_now();
    }
    assert!(bench.vring.counters.frames >= 1000, "the good ones are used");
}

/// 256 frames into chains of a thousand descriptors took as long as 256,000 descriptors take.
#[test]
fn bug_f14_a_turn_reads_a_bounded_number_of_descriptors_of_a_receive_ring() {
    let mut bench = Bench::new(MERGEABLE);
    for index in 0..SIZE {
        let flags = if index == 63 { D_WRITE } else { D_WRITE | D_NEXT };
        let desc = Desc { addr: DATA + u64::from(index), len: 2, flags, next: Some(index + 1) };
        bench.guest.ring.memory.write(0x4000 + 16 * u64::from(index), &desc.bytes());
    }
    for index in 0..SIZE {
        bench.offer(16 * 64, D_INDIRECT);
        let table = Desc { addr: 0x4000, len: 16 * 64, flags: D_INDIRECT, next: None };
        bench.guest.ring.write_desc(index, &table);
    }
    let _busy = Busy::start(&bench);
    let frame = Frame { header: &NO_HEADER, head: &[1; 60], body: &[], len: 60 };
    for _ in 0..256 {
        Delivery::new(&mut bench.vring, &mut bench.scratch, None).frame(&frame).unwrap();
        bench.vring.publish();
        std::thread::yield_now();
    }
    let read = bench.vring.ring.as_mut().unwrap().queue().read_since(0);
    assert!(read <= 4096 + 256 * 9, "{read}");
    let frames = bench.vring.counters.frames;
    assert!(frames >= 10, "{frames}");
    assert_eq!(frames + bench.dropped(DropReason::NoBuffers), 256);
}
