//! Turns of the data path on one thread, for callgrind to count.
//!
//! `tests/budget.rs` runs this under valgrind, which counts the instructions of each packet. Only
//! the code in [`measured_turn`] counts. [`case_is_over`] makes callgrind write down its counts and
//! begin anew. The cost of all other code, guests included, does not matter. No worker runs and no
//! thread waits, so the same build gives the same counts.
//!
//! The far ends are real: two guests' rings in ordinary memory, a packet socket, and a macvtap
//! device on one end of a veth, whose other end is the wire. System calls count only with their
//! instructions outside the kernel, which are few.
//!
//! ```text
//! turns PARENT WIRE        a line for each case: its name, and how many packets were counted
//! ```
//!
//! What can go wrong: the program needs root and a network namespace of its own, with the two ends
//! of a veth in it, up and without IPv6. A turn that does not move its frames ends the program,
//! because a count would mean nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use testkit::buffers::Buffers;
use testkit::ring::{self, D_WRITE, Layout, RingMemory};
use vhost_user_macvtap::datapath::attachment::Attachment;
use vhost_user_macvtap::datapath::backing::Backing;
use vhost_user_macvtap::datapath::egress::EgressPort;
use vhost_user_macvtap::datapath::forwarding_view::{ForwardingView, SwitchHandle};
use vhost_user_macvtap::datapath::port::PortData;
use vhost_user_macvtap::datapath::port::mac_policy::MacPolicy;
use vhost_user_macvtap::datapath::queue_pair::QueuePair;
use vhost_user_macvtap::datapath::scratch::Scratch;
use vhost_user_macvtap::datapath::side::Side;
use vhost_user_macvtap::datapath::uplink_queue::UplinkQueue;
use vhost_user_macvtap::host::macvtap::Macvtap;
use vhost_user_macvtap::host::macvtap::closing::close_all;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::host::packet_socket;
use vhost_user_macvtap::host::spec::MacvtapSpec;
use vhost_user_macvtap::net::feature;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;
use vhost_user_macvtap::net::vnet_hdr::HEADER;
use vhost_user_macvtap::switch::{Groups, ParentFacts, Rules, Table};
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::{PacketQueue, PacketSockets};
use vhost_user_macvtap::uplink::tap::TapQueue;
use vhost_user_macvtap::virtqueue::guest_map::{GuestMap, SharedMemory};
use vhost_user_macvtap::virtqueue::ring_setup::RingSetup;
use vhost_user_macvtap::virtqueue::vring::VringConfig;
use vhost_user_macvtap::worker::pool::Pool;
use vhost_user_macvtap::worker::slot::WorkerSlot;
use vhost_user_macvtap::worker::task::Budget;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Packets of one turn: a batch.
const BATCH: u16 = 64;
/// Turns before the counted ones, in which the dynamic linker and all first uses finish.
const WARM: usize = 4;
/// Turns that are counted.
const TURNS: usize = 16;
/// Descriptors of every ring.
const RING: u16 = 256;
/// Bytes of a guest's buffer.
const BUFFER: u32 = 2048;
/// A Linux guest's features, as far as they change the code path.
const FEATURES: u64 = 1 << feature::VIRTIO_F_VERSION_1
    | 1 << feature::VIRTIO_NET_F_MRG_RXBUF
    | 1 << feature::VIRTIO_RING_F_INDIRECT_DESC
    | 1 << feature::VIRTIO_RING_F_EVENT_IDX;

const A: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 1]);
const B: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 2]);
const LAN: Mac = Mac([0x52, 0x54, 0, 0xbb, 0, 9]);

/// The counted code: everything between this function's beginning and its end.
#[inline(never)]
fn measured_turn(turn: &mut dyn FnMut()) {
    turn();
}

/// Callgrind writes down its counts when this is entered.
#[inline(never)]
fn case_is_over(name: &str) {
    println!("{name} {}", black_box(TURNS * usize::from(BATCH)));
}

/// Where a ring's buffers begin.
const BUFFERS: u64 = 0x1_0000;
/// What a ring takes of the guest's memory.
const SIZE: u64 = BUFFERS + RING as u64 * BUFFER as u64;

type Ring = Buffers<GuestMemoryMmap>;

/// A ring at `base`, with its buffers behind it.
fn ring(memory: &GuestMemoryMmap, base: u64) -> Ring {
    let ring = ring::Ring::new(memory.clone(), Layout::at(base, RING), FEATURES);
    Buffers::new(ring, base + BUFFERS, u64::from(BUFFER))
}

/// Makes buffers of this length available for one turn.
fn offer(ring: &mut Ring, len: u32, flags: u16) {
    while ring.ring.take().is_some() {}
    (0..BATCH).for_each(|_| assert!(ring.offer(len, flags), "all buffers are out"));
}

/// How many of the offered buffers have not come back.
fn out(ring: &Ring) -> u16 {
    ring.ring.out() - ring.ring.ready()
}

fn wish(ring: &Ring, map: &Arc<GuestMap>) -> VringConfig {
    let ring = &ring.ring;
    let setup = RingSetup {
        size: RING,
        desc: ring.desc,
        avail: ring.avail,
        used: ring.used,
        features: FEATURES,
        map: Arc::clone(map),
    };
    VringConfig { ready: true, enabled: true, setup: Some(setup) }
}

/// A guest with one queue pair.
struct Guest {
    mac: Mac,
    data: Arc<PortData>,
    pair: Arc<QueuePair>,
    sends: Ring,
    receives: Ring,
}

impl Guest {
    /// A guest that will send frames of `size` bytes to `to`.
    fn new(mac: Mac, to: Mac, size: usize, backing: Backing, slot: WorkerSlot<Scratch>) -> Guest {
        let notifier = Arc::new(EventFd::new().unwrap());
        let data = Arc::new(PortData::new("guest", MacPolicy::Deny, notifier));
        data.set_device(mac, 1500);
        let pair = Arc::new(QueuePair::new(0, Arc::clone(&data), slot));
        pair.set_backing(backing);
        let whole = [(GuestAddress(0), 2 * SIZE as usize)];
        let memory = GuestMemoryMmap::from_ranges(&whole).unwrap();
        let map = GuestMap::new(&SharedMemory::new(memory.clone()));
        let (sends, receives) = (ring(&memory, 0), ring(&memory, SIZE));
        for index in 0..RING {
            memory.write(sends.place(index) + HEADER as u64, &frame(to, mac, size));
        }
        pair.expect_front_end();
        pair.apply(Side::FromGuest, &wish(&sends, &map));
        pair.apply(Side::ToGuest, &wish(&receives, &map));
        Guest { mac, data, pair, sends, receives }
    }

    fn rules(&self) -> Rules {
        Rules {
            mode: Mode::Bridge,
            mac: self.mac,
            up: true,
            compat: false,
            sources: Vec::new(),
            nodst: false,
            reserved: true,
            mtu: 1500,
            groups: Arc::new(Groups::all()),
        }
    }

    fn egress_port(&self) -> EgressPort {
        EgressPort { port: Some(Arc::clone(&self.data)), queues: vec![self.pair.clone()] }
    }
}

fn frame(to: Mac, from: Mac, size: usize) -> Vec<u8> {
    // An experimental EtherType (IEEE 802), which no machine answers.
    let mut frame = [&to.0[..], &from.0[..], &[0x88, 0xb5]].concat();
    frame.resize(size, 0x5a);
    frame
}

/// Both directions of one guest, counted: `feed` makes `BATCH` packets arrive at the far end.
struct Turns {
    scratch: Scratch,
    /// The prefix of each case's name.
    size: usize,
}

impl Turns {
    /// Frames that the guest sends; `into` is the receiver, if it is here.
    fn sent(&mut self, name: &str, guest: &mut Guest, mut into: Option<&mut Guest>) {
        for turn in 0..WARM + TURNS {
            if let Some(into) = &mut into {
                offer(&mut into.receives, BUFFER, D_WRITE);
            }
            offer(&mut guest.sends, (HEADER + self.size) as u32, 0);
            let budget = Budget::at(Instant::now());
            let mut act = || {
                black_box(guest.pair.turn(Side::FromGuest, budget, &mut self.scratch));
            };
            if turn < WARM {
                act()
            } else {
                measured_turn(&mut act)
            }
            assert_eq!(out(&guest.sends), 0, "{name}: turn {turn}: frames are left");
            let lost = into.as_ref().map_or(0, |into| out(&into.receives));
            assert_eq!(lost, 0, "{name}: turn {turn}: frames did not arrive");
        }
        case_is_over(&format!("{name}-{}", self.size));
    }

    /// Frames that the guest receives: `send` puts one on the wire, `act` is one turn.
    fn received(
        &mut self,
        name: &str,
        ring: &mut Ring,
        send: impl Fn(),
        mut act: impl FnMut(&mut Scratch),
    ) {
        for turn in 0..WARM + TURNS {
            offer(ring, BUFFER, D_WRITE);
            (0..BATCH).for_each(|_| send());
            // A turn that finds only a part of them needs another one, which adds a little.
            for attempt in 0.. {
                assert!(attempt < 20, "{name}: turn {turn}: {} frames do not arrive", out(ring));
                // The kernel hands over a block that is not full after a millisecond or two.
                std::thread::sleep(Duration::from_millis(10));
                let mut act = || act(&mut self.scratch);
                if turn < WARM {
                    act()
                } else {
                    measured_turn(&mut act)
                }
                if out(ring) == 0 {
                    break;
                }
            }
        }
        case_is_over(&format!("{name}-{}", self.size));
    }
}

/// Two guests on a switch, and the parent's wire.
fn switch(
    turns: &mut Turns,
    parent: (u32, Mac),
    wire: &PacketQueue,
    slots: [WorkerSlot<Scratch>; 3],
) {
    let [own, one, other] = slots;
    let switch = Arc::new(SwitchHandle::default());
    let uplink_queue = Arc::new(UplinkQueue::new("parent", Arc::clone(&switch), own));
    uplink_queue.replace(Some(Box::new(packet_queue(parent.0, SocketFilter::Guests))));
    let size = turns.size;
    let guest = |mac, to, port, slot| {
        let attachment = Attachment {
            switch: Arc::clone(&switch),
            port,
            uplink_queue: Arc::clone(&uplink_queue),
            groups: None,
        };
        Guest::new(mac, to, size, Backing::Switch(attachment), slot)
    };
    let (mut a, mut b) = (guest(A, B, 0, one), guest(B, LAN, 1, other));
    let facts = ParentFacts { mac: parent.1, up: true, mtu: 1500 };
    let table = Table::new(vec![a.rules(), b.rules()], facts);
    switch.show(ForwardingView { table, egress_ports: vec![a.egress_port(), b.egress_port()] });
    turns.sent("guest-to-guest", &mut a, Some(&mut b));
    turns.sent("guest-to-packet-socket", &mut b, None);
    let arriving = frame(A, LAN, size);
    let send = || wire.send_one(&arriving).expect("room on the wire");
    let now = Instant::now();
    turns.received("packet-socket-to-guest", &mut a.receives, send, |scratch| {
        black_box(uplink_queue.turn(now, scratch));
    });
    switch.show(ForwardingView::default());
}

/// One guest on a kernel device.
fn kernel(
    turns: &mut Turns,
    tap: &Arc<TapQueue>,
    mac: Mac,
    wire: &PacketQueue,
    slot: WorkerSlot<Scratch>,
) {
    let mut guest = Guest::new(mac, LAN, turns.size, Backing::Tap(Arc::clone(tap)), slot);
    turns.sent("guest-to-macvtap", &mut guest, None);
    let arriving = frame(mac, LAN, turns.size);
    let send = || wire.send_one(&arriving).expect("room on the wire");
    let pair = Arc::clone(&guest.pair);
    let budget = Budget::at(Instant::now());
    turns.received("macvtap-to-guest", &mut guest.receives, send, |scratch| {
        black_box(pair.turn(Side::ToGuest, budget, scratch));
    });
    pair.set_backing(Backing::Nothing);
}

fn packet_queue(index: u32, admit: SocketFilter) -> PacketQueue {
    let receive = packet_socket::receiving().expect("a packet socket");
    let send = packet_socket::sending().expect("a packet socket");
    let sockets = PacketSockets { receive, send };
    PacketQueue::open(index, admit, sockets).expect("a packet socket on the device")
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [parent, wire] = &names[..] else { panic!("turns PARENT WIRE") };
    let mut netlink = Netlink::open().expect("netlink");
    let mut find = |name: &str| {
        let link = netlink.link_by_name(name).expect("netlink").expect("a device of that name");
        (link.index, link.mac)
    };
    let (index, wire) = (find(parent), find(wire));
    let wire = packet_queue(wire.0, SocketFilter::Everything);
    // Slots of a worker that has ended: this thread runs all turns.
    let mut pool = Pool::start(1, Duration::ZERO).expect("a worker");
    let mut slots: Vec<WorkerSlot<Scratch>> = (0..8).map(|_| pool.slot()).collect();
    drop(pool);
    let mut slot = || slots.pop().expect("a slot");
    for size in [64, 1514] {
        let mut turns = Turns { scratch: Scratch::default(), size };
        switch(&mut turns, index, &wire, [slot(), slot(), slot()]);
    }
    let spec = MacvtapSpec {
        name: format!("turns{}", std::process::id()),
        parent: parent.clone(),
        mode: Mode::Bridge,
        mac: Some(A),
        mtu: None,
        queues: 1,
        sources: Vec::new(),
    };
    let mut device = Macvtap::open(&mut netlink, &spec).expect("a macvtap device");
    let tap = device.take_queues().pop().expect("a queue");
    let tap = Arc::new(TapQueue::new(tap));
    for size in [64, 1514] {
        let mut turns = Turns { scratch: Scratch::default(), size };
        kernel(&mut turns, &tap, device.mac(), &wire, slot());
    }
    assert!(close_all([device], &mut netlink).is_empty(), "the device stays");
}
