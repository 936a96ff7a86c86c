//! Guests on one switch, turn by turn, with the test in the worker's place. There is no parent: what is
//! for the wire is lost and counted, unless a test says what the wire does.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use testkit::buffers::Buffers;
use testkit::ring::{Desc, Layout, RingMemory};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::*;
use crate::datapath::backing::Backing;
use crate::datapath::deliver::RxScratch;
use crate::datapath::egress::{Egress, EgressPort};
use crate::datapath::flood::Flood;
use crate::datapath::forwarding_view::{ForwardingView, SwitchHandle};
use crate::datapath::port::mac_policy::MacPolicy;
use crate::datapath::queue_pair::QueuePair;
use crate::datapath::side::Side;
use crate::datapath::tx_batch::TxScratch;
use crate::datapath::uplink_queue::UplinkQueue;
use crate::datapath::work_limit::TURN_FRAMES;
use crate::net::feature;
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::net::vnet_hdr::HEADER;
use crate::switch::{ParentFacts, Rules, Table};
use crate::uplink::faulty::FaultyUplink;
use crate::virtqueue::fetch::get;
use crate::virtqueue::guest_map::{GuestMap, SharedMemory};
use crate::virtqueue::ring::Ring;
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::vring::VringConfig;
use crate::worker::pool::Pool;
use crate::worker::task::{Budget, Outcome};

const SIZE: u16 = 256;
/// The receive ring stands behind the transmit ring.
const RING: u64 = 0x4000;
const DATA: u64 = 0x1_0000;
const SLOT: u64 = 0x800;
const FEATURES: u64 = 1 << feature::VIRTIO_F_VERSION_1 | 1 << feature::VIRTIO_NET_F_MRG_RXBUF;

fn mac(port: usize) -> Mac {
    Mac([2, 0, 0, 0, (port >> 8) as u8, port as u8])
}

/// One guest: its memory with both rings.
struct Guest {
    pair: Arc<QueuePair>,
    sends: Buffers<GuestMemoryMmap>,
    receives: Buffers<GuestMemoryMmap>,
}

impl Guest {
    fn send(&mut self, frame: &[u8]) {
        // What has been sent is of no interest.
        while self.sends.take().is_some() {}
        assert!(self.sends.send(&[&[0; HEADER], frame].concat()), "all buffers are out");
    }

    fn offer(&mut self, count: usize) {
        (0..count).for_each(|_| assert!(self.receives.post(SLOT as u32), "all buffers are out"));
    }

    /// The tags of the frames that have come.
    fn take(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.receives.take()).map(|bytes| bytes[HEADER + 14]).collect()
    }

    /// How many of its frames were taken from it.
    fn done(&self) -> u16 {
        self.sends.ring.used_idx()
    }

    fn turn(&self, scratch: &mut Scratch) -> Outcome {
        self.pair.turn(Side::FromGuest, Budget::at(Instant::now()), scratch)
    }

    fn dropped(&self, reason: DropReason) -> (u64, u64) {
        let (out, into) = self.pair.counters();
        (out.dropped(reason), into.dropped(reason))
    }
}

fn frame(to: Mac, from: usize, tag: u8) -> Vec<u8> {
    [&to.0[..], &mac(from).0, &[0x88, 0xb5], &[tag; 50]].concat()
}

/// So many guests in bridge mode, with all buffers offered, on a parent that is up.
fn guests(count: usize) -> (Pool<Scratch>, Vec<Guest>) {
    let (pool, all, _) = attached_guests(count);
    (pool, all)
}

/// The same, with an attachment to their switch.
fn attached_guests(count: usize) -> (Pool<Scratch>, Vec<Guest>, Attachment) {
    let mut pool = Pool::start(1, std::time::Duration::from_micros(5)).unwrap();
    let switch = Arc::new(SwitchHandle::default());
    let uplink_queue = Arc::new(UplinkQueue::new("none", Arc::clone(&switch), pool.slot()));
    let notifier = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
    let (mut all, mut egress_ports, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..count {
        let data = Arc::new(PortData::new("p", MacPolicy::Deny, Arc::clone(&notifier)));
        data.set_device(mac(id), 1500);
        let pair = Arc::new(QueuePair::new(0, Arc::clone(&data), pool.slot()));
        let attachment = Attachment {
            switch: Arc::clone(&switch),
            port: id as u16,
            uplink_queue: Arc::clone(&uplink_queue),
            groups: None,
        };
        pair.set_backing(Backing::Switch(attachment));
        let size = DATA + 2 * u64::from(SIZE) * SLOT;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size as usize)]).unwrap();
        let map = GuestMap::new(&SharedMemory::new(memory.clone()));
        let buffers = |at: u64, data: u64| {
            let ring = testkit::ring::Ring::new(memory.clone(), Layout::at(at, SIZE), FEATURES);
            Buffers::new(ring, data, SLOT)
        };
        let (sends, receives) = (buffers(0, DATA), buffers(RING, DATA + u64::from(SIZE) * SLOT));
        for (side, ring) in [(Side::FromGuest, &sends.ring), (Side::ToGuest, &receives.ring)] {
            let setup = RingSetup {
                size: SIZE,
                desc: ring.desc,
                avail: ring.avail,
                used: ring.used,
                features: FEATURES,
                map: Arc::clone(&map),
            };
            pair.apply(side, &VringConfig { ready: true, enabled: true, setup: Some(setup) });
        }
        let mut guest = Guest { pair: Arc::clone(&pair), sends, receives };
        guest.offer(usize::from(SIZE));
        all.push(guest);
        egress_ports.push(EgressPort { port: Some(data), queues: vec![pair] });
        rules.push(Rules {
            mode: Mode::Bridge,
            mac: mac(id),
            up: true,
            compat: false,
            sources: Vec::new(),
            nodst: false,
            reserved: true,
            mtu: 1500,
            groups: Arc::new(Groups::all()),
        });
    }
    let facts = ParentFacts { mac: Mac([2, 9, 9, 9, 9, 9]), up: true, mtu: 1500 };
    switch.show(ForwardingView { table: Table::new(rules, facts), egress_ports });
    let attachment = Attachment { switch, port: 0, uplink_queue, groups: None };
    (pool, all, attachment)
}

#[test]
fn receivers_get_their_frames_in_order_and_broadcasts_in_between() {
    let (_pool, mut all) = guests(3);
    let to = [mac(1), mac(2), Mac::BROADCAST, mac(2), mac(1), mac(0), mac(1)];
    for (tag, to) in (0..).zip(to) {
        all[0].send(&frame(to, 0, tag));
    }
    assert_eq!(all[0].turn(&mut Scratch::default()), Outcome::Idle);
    assert_eq!(all[0].done(), 7);
    assert_eq!(all[1].take(), [0, 2, 4, 6]);
    assert_eq!(all[2].take(), [1, 2, 3]);
    assert_eq!(all[0].take(), [5], "what it sent to itself");
    assert_eq!(all[0].dropped(DropReason::NoDevice).0, 1, "the broadcast's copy for the wire");
}

#[test]
fn a_refused_frame_is_lost_alone_and_a_full_uplink_loses_none() {
    let script = [Ok(1), Err(Errno::ENOBUFS), Ok(2), Err(Errno::EAGAIN)];
    let uplink = FaultyUplink::new(script);
    let taken = uplink.taken();
    let (_pool, mut all, attachment) = attached_guests(1);
    attachment.uplink_queue.replace(Some(Box::new(uplink)));
    let mut scratch = Scratch::default();
    let lan = Mac([2, 7, 7, 7, 7, 7]);
    (0..6).for_each(|tag| all[0].send(&frame(lan, 0, tag)));
    let tags = || taken.lock().unwrap().iter().map(|frame| frame[14]).collect::<Vec<_>>();
    all[0].turn(&mut scratch);
    assert_eq!((tags(), all[0].done()), (vec![0, 2, 3], 4), "the rest is back in the ring");
    assert_eq!(all[0].dropped(DropReason::Refused).0, 1);
    all[0].turn(&mut scratch);
    assert_eq!((tags(), all[0].done()), (vec![0, 2, 3, 4, 5], 6));
}

#[test]
fn a_guest_that_takes_nothing_loses_its_own_frames_only() {
    let (_pool, mut all) = guests(3);
    let mut scratch = Scratch::default();
    for round in 0..4 {
        for tag in 0..100 {
            all[0].send(&frame(mac(1), 0, tag));
            all[0].send(&frame(mac(2), 0, tag));
            if tag % 50 == 49 {
                assert_eq!(all[0].turn(&mut scratch), Outcome::Idle);
                let came = all[2].take();
                assert_eq!(came, (tag - 49..=tag).collect::<Vec<_>>(), "round {round}");
                all[2].offer(50);
            }
        }
    }
    assert_eq!(all[1].take().len(), usize::from(SIZE));
    assert_eq!(all[1].dropped(DropReason::NoBuffers), (0, 400 - u64::from(SIZE)));
}

/// A turn of broadcasts used to cost as many copies as frames times ports, and a guest that flooded
/// took nearly all of its worker's time.
#[test]
fn a_turn_of_broadcasts_is_as_long_as_one_of_unicasts() {
    let (_pool, mut all) = guests(100);
    for tag in 0..200 {
        all[0].send(&frame(Mac::BROADCAST, 0, tag));
    }
    let mut scratch = Scratch::default();
    assert_eq!(all[0].turn(&mut scratch), Outcome::More);
    let frames = usize::from(all[0].done());
    assert!((1..=TURN_FRAMES / 99 + 1).contains(&frames), "{frames} floods in one turn");
    let mut turns = 1;
    while all[0].turn(&mut scratch) == Outcome::More {
        turns += 1;
    }
    assert!(turns > 50, "{turns}");
    let expected: Vec<u8> = (0..200).collect();
    assert!(all[1..].iter_mut().all(|guest| guest.take() == expected), "none lost, in order");
}

/// A worker that polls a ring must not have asked for kicks, and one that goes to sleep must have.
#[test]
fn a_guest_is_asked_to_kick_when_it_is_not_polled() {
    let (_pool, mut all) = guests(2);
    let mut scratch = Scratch::default();
    let flag = |guest: &Guest| {
        let ring = &guest.sends.ring;
        ring.memory.load16(ring.used)
    };
    let polled = Budget { busy_poll: true, ..Budget::at(Instant::now()) };
    all[0].send(&frame(mac(1), 0, 7));
    let turn = all[0].pair.turn(Side::FromGuest, polled, &mut scratch);
    assert_eq!(turn, Outcome::Polling { moved: true });
    assert_eq!(flag(&all[0]), 1, "no kicks wanted");
    assert_eq!(all[1].take(), [7], "what was moved is published all the same");
    let turn = all[0].pair.turn(Side::FromGuest, polled, &mut scratch);
    assert_eq!(turn, Outcome::Polling { moved: false });
    assert_eq!(all[0].turn(&mut scratch), Outcome::Idle);
    assert_eq!(flag(&all[0]), 0, "kicks wanted");
}

#[test]
fn a_foreign_source_goes_nowhere() {
    let (_pool, mut all) = guests(2);
    all[0].send(&frame(mac(1), 7, 0));
    all[0].send(&frame(mac(1), 0, 1));
    all[0].turn(&mut Scratch::default());
    assert_eq!(all[1].take(), [1]);
    assert_eq!(all[0].dropped(DropReason::ForeignMac).0, 1);
}

/// The longest legal chain: more pieces than the kernel takes in one message, twice in a batch.
#[test]
fn a_frame_in_more_pieces_than_a_message_holds_arrives_whole() {
    let mut scratch = TxScratch::default();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
    let map = GuestMap::new(&SharedMemory::new(memory.clone()));
    let (size, avail, used) = (1024u16, 0x8000u64, 0xa000u64);
    let mut driver =
        testkit::ring::Ring::new(memory.clone(), Layout { size, desc: 0, avail, used }, FEATURES);
    for index in 0..size {
        let (flags, next) = (u16::from(index + 1 < size), Some(index + 1));
        driver.write_desc(index, &Desc { addr: 0x1_0000 + u64::from(index), len: 1, flags, next });
    }
    let bytes: Vec<u8> = (0..1024).map(|at| (at % 251) as u8).collect();
    memory.write(0x1_0000, &bytes);
    driver.offer(0);
    driver.offer(0);
    driver.publish();
    let setup = RingSetup { size, desc: 0, avail, used, features: FEATURES, map };
    let mut ring = Ring::start(&setup).unwrap();
    // The second one has to wait: there is one place for such.
    for expected in [BatchEnd::Full, BatchEnd::Empty] {
        let mut queue = ring.queue();
        let (batch, end) = scratch.fill(&mut queue, FEATURES, &mut WorkLimit::TURN.clone());
        assert_eq!((end, batch.entries.len()), (expected, 1));
        let frame = batch.frame(&batch.entries[0]).unwrap();
        assert_eq!((frame.len, frame.body.len()), (1024 - HEADER, 1));
        let mut rest = vec![0; frame.len - 14];
        get(frame.body, &mut rest);
        assert_eq!(rest, bytes[HEADER + 14..]);
        queue.add_used(batch.entries[0].chain, 0);
    }
}

/// An egress that looks at how often the sender's attachment is referred to while a turn delivers.
#[derive(Debug)]
struct CloneCounter {
    attachment: Attachment,
    seen: Mutex<Vec<[usize; 2]>>,
}

fn references(attachment: &Attachment) -> [usize; 2] {
    [Arc::strong_count(&attachment.switch), Arc::strong_count(&attachment.uplink_queue)]
}

impl Egress for CloneCounter {
    fn deliver(&self, _: &[Frame<'_>], _: Origin, _: &mut RxScratch, _: Option<&mut Flood>) {
        self.seen.lock().unwrap().push(references(&self.attachment));
    }
}

#[test]
fn a_turn_clones_nothing_of_its_attachment() {
    let (_pool, mut all, attachment) = attached_guests(2);
    let counter = Arc::new(CloneCounter { attachment: attachment.clone(), seen: Mutex::default() });
    let view = attachment.switch.view();
    let mut egress_ports = view.egress_ports.clone();
    egress_ports[1].queues = vec![counter.clone()];
    attachment.switch.show(ForwardingView { table: view.table.clone(), egress_ports });
    drop(view);
    let idle = references(&attachment);
    all[0].send(&frame(mac(1), 0, 7));
    assert_eq!(all[0].turn(&mut Scratch::default()), Outcome::Idle);
    assert_eq!(*counter.seen.lock().unwrap(), [idle]);
}
