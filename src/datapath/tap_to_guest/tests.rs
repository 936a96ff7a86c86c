//! The receive direction against a guest with any buffers, at any pace. A datagram socket stands in for
//! the tap: it keeps frames apart and truncates what does not fit, as a tap does.

use super::*;
use crate::net::vnet_hdr::HEADER;
use crate::virtqueue::guest_map::{GuestMap, SharedMemory};
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::vring::VringConfig;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use proptest::prelude::*;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::buffers::Buffers;
use testkit::ring::{Layout, Ring};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 64;
const DATA: u64 = 0x1_0000;
/// Room for one buffer of the largest size.
const SLOT: u64 = 0x1_2000;

struct Bench {
    guest: Buffers<GuestMemoryMmap>,
    vring: Vring,
    tap: TapQueue,
    receive: Receive,
    wire: OwnedFd,
}

impl Bench {
    fn new(features: u64) -> Bench {
        let size = 0x1_0000 + usize::from(SIZE) * SLOT as usize;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]).unwrap();
        let map = GuestMap::new(&SharedMemory::new(memory.clone()));
        let ring = Ring::new(memory, Layout::at(0, SIZE), features);
        let (desc, avail, used) = (ring.desc, ring.avail, ring.used);
        let setup = RingSetup { size: SIZE, desc, avail, used, features, map };
        let flags = SockFlag::SOCK_NONBLOCK;
        let (wire, tap) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap();
        setsockopt(&wire, sockopt::SndBuf, &(4 << 20)).unwrap();
        let mut vring = Vring::default();
        let tap = TapQueue::new(tap);
        vring.apply(&VringConfig { ready: true, enabled: true, setup: Some(setup) }, &"test");
        let guest = Buffers::new(ring, DATA, SLOT);
        Bench { guest, vring, tap, receive: Receive::default(), wire }
    }

    fn put(&self, frame: &[u8]) {
        let whole = [&[0; HEADER], frame].concat();
        nix::unistd::write(&self.wire, &whole).unwrap();
    }

    fn turn(&mut self, expired: bool) -> TurnEnd {
        self.receive.turn(&mut self.vring, Some(&self.tap), expired, &"test")
    }
}

/// Takes one frame back, and how many buffers it came in.
fn taken(guest: &mut Buffers<GuestMemoryMmap>) -> Option<(Vec<u8>, u16)> {
    let (mut bytes, buffers) = guest.take_merged()?;
    Some((bytes.split_off(HEADER), buffers))
}

const MERGEABLE: u64 = 1 << feature::VIRTIO_F_VERSION_1 | 1 << feature::VIRTIO_NET_F_MRG_RXBUF;

fn frame(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// With mergeable buffers of any size that a full ring can hold a frame in, every frame arrives
    /// whole and in order, however few buffers there are at a time.
    #[test]
    fn every_frame_arrives_whole_and_in_order(
        buffers in proptest::collection::vec(1100u32..5000, 1..12),
        lens in proptest::collection::vec(
            prop_oneof![14usize..100, 1000usize..3000, 60_000usize..65_500],
            1..10,
        ),
        pace in 1usize..20,
    ) {
        let mut bench = Bench::new(MERGEABLE);
        for (number, &len) in lens.iter().enumerate() {
            bench.put(&frame(number, len));
        }
        let (mut next, mut got) = (0usize, Vec::new());
        for _ in 0..10_000 {
            if got.len() == lens.len() {
                break;
            }
            for _ in 0..pace {
                bench.guest.post(buffers[next % buffers.len()]);
                next += 1;
            }
            bench.turn(false);
            while let Some((bytes, count)) = taken(&mut bench.guest) {
                prop_assert!(count >= 1);
                got.push(bytes);
            }
        }
        prop_assert_eq!(bench.vring.counters.dropped(DropReason::NoRoom), 0);
        prop_assert_eq!(got.len(), lens.len(), "all frames");
        for (number, (bytes, &len)) in got.iter().zip(&lens).enumerate() {
            prop_assert!(bytes == &frame(number, len), "frame {}", number);
        }
    }
}

#[test]
fn without_mergeable_buffers_a_frame_takes_one_chain_or_is_dropped() {
    let mut bench = Bench::new(1 << feature::VIRTIO_F_VERSION_1);
    for len in [2000, 60, 1514, 64] {
        bench.put(&frame(0, len));
    }
    for _ in 0..8 {
        bench.guest.post(1526);
    }
    assert_eq!(bench.turn(false), TurnEnd::Idle);
    for len in [60, 1514, 64] {
        assert_eq!(taken(&mut bench.guest), Some((frame(0, len), 1)), "{len}");
    }
    assert_eq!(taken(&mut bench.guest), None);
    assert_eq!(bench.vring.counters.dropped(DropReason::NoRoom), 1);
}

#[test]
fn cve_2020_16843_a_guest_with_too_few_buffers_does_not_freeze() {
    let mut bench = Bench::new(MERGEABLE);
    bench.put(&frame(0, 60_000));
    bench.put(&frame(1, 60));
    assert!(bench.guest.post(1526));
    assert_eq!(bench.turn(false), TurnEnd::Starved { waiting: true });
    assert_eq!(bench.turn(false), TurnEnd::Starved { waiting: true }, "it waits for more buffers");
    // No more come: the frame goes, the next one gets through.
    assert_eq!(bench.turn(true), TurnEnd::Starved { waiting: false });
    assert_eq!(taken(&mut bench.guest), Some((frame(1, 60), 1)));
    assert_eq!(bench.vring.counters.dropped(DropReason::NoRoom), 1);
}

#[test]
fn without_buffers_the_frames_stay_in_the_tap() {
    let mut bench = Bench::new(MERGEABLE);
    bench.put(&frame(0, 100));
    assert_eq!(bench.turn(false), TurnEnd::Starved { waiting: false });
    assert_eq!(bench.turn(true), TurnEnd::Starved { waiting: false }, "nothing to give up");
    bench.guest.post(2048);
    assert_eq!(bench.turn(false), TurnEnd::Starved { waiting: false });
    assert_eq!(taken(&mut bench.guest), Some((frame(0, 100), 1)));
}

#[test]
fn a_turn_is_bounded() {
    let mut bench = Bench::new(MERGEABLE);
    for _ in 0..SIZE {
        bench.guest.post(1526);
    }
    let mut delivered = 0;
    for round in 0.. {
        // The socket holds a limited number of datagrams: refill it as a flood would.
        while nix::unistd::write(&bench.wire, &[0; HEADER + 60]).is_ok() {}
        let turn = bench.turn(false);
        while taken(&mut bench.guest).is_some() {
            delivered += 1;
            bench.guest.post(1526);
        }
        if delivered >= 2 * TURN_FRAMES {
            break;
        }
        assert!(round < 100, "{turn:?}");
        assert!(bench.vring.counters.frames as usize <= (round + 1) * TURN_FRAMES);
    }
}

#[test]
fn stale_frames_are_discarded_and_counted() {
    let mut bench = Bench::new(MERGEABLE);
    for number in 0..5 {
        bench.put(&frame(number, 60));
    }
    bench.receive.discard_stale(&mut bench.vring, &bench.tap);
    assert_eq!(bench.vring.counters.dropped(DropReason::Stale), 5);
    bench.guest.post(2048);
    assert_eq!(bench.turn(false), TurnEnd::Idle);
    assert_eq!(taken(&mut bench.guest), None);
}

/// The turn went on for as long as the guest made such buffers available again.
#[test]
fn bug_s1_a_guest_that_offers_only_bad_buffers_loses_its_ring_and_no_turn() {
    for len in [0, 11] {
        let mut bench = Bench::new(MERGEABLE);
        while bench.guest.post(len) {}
        let stop = Arc::new(AtomicBool::new(false));
        let (ring, stopped) = (bench.guest.ring.clone(), Arc::clone(&stop));
        let done = ring.offer_all();
        let busy = std::thread::spawn(move || ring.offer_again(done, &stopped, || (), || ()));
        let end = Instant::now() + Duration::from_secs(20);
        while bench.vring.ring.is_some() && Instant::now() < end {
            bench.turn(false);
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        assert!(bench.vring.ring.is_none(), "more bad chains in a row than the ring is long");
        assert!(bench.vring.counters.dropped(DropReason::BadChain) <= u64::from(SIZE));
    }
}

/// Where super-frames are expected, each frame offers all the chains taken ahead to the kernel: up to a thousand
/// pieces for a frame of 60 bytes, and 256 such frames in a turn.
#[test]
fn bug_f14_what_is_offered_to_the_kernel_is_charged() {
    let mut bench = Bench::new(MERGEABLE);
    while bench.guest.post(1500) {}
    bench.receive.calm = CALM;
    (0..50).for_each(|number| bench.put(&frame(number, 60)));
    bench.turn(false);
    let taken = std::iter::from_fn(|| taken(&mut bench.guest)).count();
    assert_eq!(taken, 50);
    // 64 chains of one descriptor were read, and 43 or 44 were offered with each of the first frames.
    assert!(bench.receive.left < TURN_DESCRIPTORS - 64 - 20 * 43, "{}", bench.receive.left);
}
