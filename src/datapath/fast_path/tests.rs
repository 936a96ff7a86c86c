//! A run compared with the general way: for any frames and any buffers, the ring must read the
//! same.

use proptest::prelude::*;
use testkit::buffers::Buffers;
use testkit::ring::{Layout, Ring};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::datapath::deliver::{Delivery, RxScratch};
use crate::datapath::rx_backlog::RxBacklog;
use crate::net::ethernet::ETHERNET;
use crate::net::feature;
use crate::virtqueue::guest_map::{GuestMap, SharedMemory};
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::vring::{Vring, VringConfig};

const SIZE: u16 = 128;
const DATA: u64 = 0x1_0000;
const SLOT: u64 = 0x1000;
const MEMORY: usize = DATA as usize + SIZE as usize * SLOT as usize;
const FEATURES: u64 = 1 << feature::VIRTIO_F_VERSION_1 | 1 << feature::VIRTIO_NET_F_MRG_RXBUF;

/// A receive ring with these buffers, each of a length and with flags; 2 is a good one.
struct Receiver {
    memory: GuestMemoryMmap,
    vring: Vring,
}

impl Receiver {
    fn new(buffers: &[(u32, u16)], features: u64) -> Receiver {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let map = GuestMap::new(&SharedMemory::new(memory.clone()));
        let ring = Ring::new(memory.clone(), Layout::at(0, SIZE), features);
        let (desc, avail, used) = (ring.desc, ring.avail, ring.used);
        let mut guest = Buffers::new(ring, DATA, SLOT);
        assert!(buffers.iter().all(|&(len, flags)| guest.offer(len, flags)));
        let setup = RingSetup { size: SIZE, desc, avail, used, features, map };
        let mut vring = Vring::default();
        vring.apply(&VringConfig { ready: true, enabled: true, setup: Some(setup) }, &"test");
        Receiver { memory, vring }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; MEMORY];
        self.memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        bytes
    }
}

/// A frame in our own memory: what its header says, its bytes, and where its body is cut in two.
#[derive(Clone, Debug)]
struct Sent {
    header: [u8; HEADER],
    bytes: Vec<u8>,
    cut: Option<usize>,
}

impl Sent {
    fn body(&self) -> Vec<GuestSlice<'_>> {
        let rest = &self.bytes[ETHERNET..];
        let (one, two) = rest.split_at(self.cut.unwrap_or(0).min(rest.len()));
        let parts = if self.cut.is_some() { vec![one, two] } else { vec![two] };
        parts.into_iter().map(GuestSlice::from).collect()
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let header = prop_oneof![
        8 => Just([0; HEADER]),
        1 => Just([1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]),
        1 => Just([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let len = prop_oneof![14usize..20, 28usize..100, 100usize..3000];
    let cut = prop_oneof![8 => Just(None), 1 => (0usize..64).prop_map(Some)];
    (header, len, cut, any::<u8>()).prop_map(|(header, len, cut, seed)| {
        let mut bytes: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(7) ^ seed).collect();
        // Not IP: what asks for a checksum that its receiver does not take is refused, and counted.
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        Sent { header, bytes, cut }
    })
}

fn frames<'a>(
    sent: &'a [Sent],
    bodies: &'a [Vec<GuestSlice<'a>>],
) -> impl Iterator<Item = Frame<'a>> + Clone {
    sent.iter().zip(bodies).map(|(sent, body)| Frame {
        header: &sent.header,
        head: &sent.bytes[..ETHERNET],
        body,
        len: sent.bytes.len(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_run_is_what_its_frames_are_one_by_one(
        sent in prop::collection::vec(sent(), 1..100),
        buffers in prop::collection::vec(
            prop_oneof![6 => Just((2048, 2)), 1 => (0u32..200).prop_map(|len| (len, 2)), 1 => Just((2048, 0))],
            0..usize::from(SIZE),
        ),
        csum: bool,
    ) {
        let features = FEATURES | u64::from(csum) << feature::VIRTIO_NET_F_GUEST_CSUM;
        let bodies: Vec<_> = sent.iter().map(Sent::body).collect();
        let (mut together, mut apart) = (Receiver::new(&buffers, features), Receiver::new(&buffers, features));
        let (mut scratch, mut backlogs) = (RxScratch::default(), [RxBacklog::default(), RxBacklog::default()]);
        let [first, second] = &mut backlogs;
        Delivery::new(&mut together.vring, &mut scratch, Some(first)).frames(frames(&sent, &bodies)).unwrap();
        for frame in frames(&sent, &bodies) {
            Delivery::new(&mut apart.vring, &mut scratch, Some(&mut *second)).frame(&frame).unwrap();
        }
        together.vring.publish();
        apart.vring.publish();
        prop_assert_eq!(together.vring.counters, apart.vring.counters);
        prop_assert!(together.bytes() == apart.bytes(), "the rings differ");
        prop_assert_eq!(first.is_empty(), second.is_empty());
    }
}

/// The run itself, so that the property does not hold for want of one.
#[test]
fn usual_frames_go_in_one_run_and_the_first_unusual_one_ends_it() {
    let usual = Sent { header: [0; HEADER], bytes: vec![9; 64], cut: None };
    let cut = Sent { cut: Some(5), ..usual.clone() };
    let sent = [usual.clone(), usual.clone(), cut, usual];
    let bodies: Vec<_> = sent.iter().map(Sent::body).collect();
    let mut receiver = Receiver::new(&[(2048, 2); 8], FEATURES);
    let Vring { ring: Some(ring), counters, .. } = &mut receiver.vring else { panic!("no ring") };
    let (mut slots, mut all) = (Slots::default(), frames(&sent, &bodies));
    run(&mut ring.queue(), counters, Accepts::NONE, &mut slots, &mut all);
    assert_eq!(all.count(), 2, "the rest is left");
    assert_eq!(counters.frames, 2);
}
