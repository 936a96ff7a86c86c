//! The cost of one guest's frame or ring for its neighbours: findings 14 and 15.
//!
//! The same worker serves the neighbour. Its round trips are to the LAN and back: a frame out, a
//! frame in. Their times depend on the machine, which runs other tests too. So they are compared
//! with those beside a guest that floods with ordinary frames, measured in the same minute. The
//! processor time of a flood depends on less: it is the process's own.

use std::time::{Duration, Instant};

use crate::turns::{Storm, TYPES, rig, unharmed};
use testkit::driver::{D_INDIRECT, D_NEXT, D_WRITE, Desc};
use testkit::frames::{self, End};
use testkit::rig::{LAN_MAC, PortType, Rig, SECOND};
use testkit::userspace::{Bench, Guest, mac, mac_key};
use testkit::vmm::{Guest as Wishes, QemuOptions};

/// The median time of a neighbour's four frames, two out and two in.
fn neighbour(rig: &mut Rig) -> Duration {
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let begin = Instant::now();
            rig.unharmed();
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// The content of the first guest's ring.
#[derive(Clone, Copy, Debug)]
enum Chain {
    /// A frame that its port drops after an inspection: the usual cost of a turn, without the wire.
    Foreign,
    /// A thousand descriptors of so many bytes.
    Long(u32),
}

/// The neighbour's median while the first guest's ring is full of such chains.
fn beside(ports: PortType, chain: Chain, to_guest: bool) -> Duration {
    let mut rig = rig(ports);
    let guest = Wishes { rx_ring: 1024, tx_ring: 1024, ..Wishes::default() };
    let options = QemuOptions { guest, ..QemuOptions::default() };
    let (vmm, driver) = rig.guest(&options);
    let pair = &driver.pairs[0];
    let (ring, access) = if to_guest { (&pair.rx, D_WRITE) } else { (&pair.tx, 0) };
    let data = driver.mem.alloc(4096);
    let table = driver.mem.alloc(16 * 1024);
    driver.mem.write(data + 12, &frames::tagged(LAN_MAC, [2, 0, 0, 0, 0, 9], 0, 60));
    if let Chain::Long(len) = chain {
        for index in 0..1024u16 {
            let next = if index < 1023 { D_NEXT } else { 0 };
            let desc = Desc { addr: data, len, flags: access | next, next: Some(index + 1) };
            driver.mem.write(table + 16 * u64::from(index), &desc.bytes());
        }
    }
    for head in 0..ring.size {
        let (addr, len, flags) = match chain {
            Chain::Foreign => (data, 72, access),
            Chain::Long(_) => (table, 16 * 1024, D_INDIRECT),
        };
        ring.write_desc(head, &Desc { addr, len, flags, next: Some(0) });
    }
    let storm = Storm::start(ring);
    let median = neighbour(&mut rig);
    drop((storm, vmm, driver));
    unharmed(rig);
    median
}

/// Before: a turn of 256 chains with 1024 descriptors took as long as 262,144 descriptors do. The
/// neighbour's round trip went from 37 to 620 us where they were empty, and to 2597 us where each
/// had a byte.
#[test]
fn bug_f14_chains_of_a_thousand_descriptors_cost_the_neighbour_no_more_than_frames() {
    for ports in TYPES {
        let ordinary = beside(ports, Chain::Foreign, false);
        for len in [0, 1] {
            let median = beside(ports, Chain::Long(len), false);
            println!(
                "{ports:?}: {median:?} beside chains of {len} bytes, {ordinary:?} beside frames"
            );
            // Unoptimized, and four frames: one turn of 256 such chains took 64 times as long.
            let most = 3 * ordinary + Duration::from_millis(10);
            assert!(median < most, "{ports:?}, {len}: {median:?}, beside frames {ordinary:?}");
        }
    }
}

/// The same for buffers that frames from the LAN are put into: here the neighbour's frames go on
/// beside them.
#[test]
fn bug_f14_receive_buffers_of_a_thousand_descriptors() {
    for ports in TYPES {
        for len in [0, 1] {
            beside(ports, Chain::Long(len), true);
        }
    }
}

const PORTS: usize = 24;
const FLOODS: u32 = 20;

/// A LAN of guests that take no offloads, on one worker.
fn plain_guests() -> (Bench, Guest, Vec<Guest>) {
    let keys: Vec<String> = (0..PORTS).map(mac_key).collect();
    let bench = Bench::new(&keys, &["--workers=1"]);
    let sender = bench.guest(0);
    let plain = QemuOptions {
        guest: Wishes::default().without(!(1 << 32 | 1 << 30)),
        ..QemuOptions::default()
    };
    let all = (1..PORTS).map(|n| bench.guest_with(n, mac(n), &plain)).collect();
    (bench, sender, all)
}

/// Processor time that the process takes for a broadcast super-frame to be cut to `size`.
fn cost(bench: &Bench, sender: &mut Guest, guests: &mut [Guest], size: u16) -> Duration {
    let end = |mac, port| End { mac, ip: [10, 9, 0, port as u8], port };
    let data = vec![0x5a; 30_000];
    let (header, frame) =
        frames::tcp4_gso(end(sender.mac, 1), end(frames::BROADCAST, 2), 7, size, &data);
    sender.driver.style.pieces = 16;
    let before = bench.backend.processor();
    for _ in 0..FLOODS {
        sender.driver.send_with(0, &header, &frame);
        assert!(sender.driver.drain_tx(0, 5 * SECOND), "{size}: not given back");
    }
    let cost = (bench.backend.processor() - before) / FLOODS;
    guests.iter_mut().for_each(Guest::clear);
    cost
}

/// Before: the frame was cut anew for each of the receivers, and into up to 2048 segments for each:
/// 4.5 ms of the worker for one frame at 59 receivers, 75 ms at a thousand.
#[test]
fn bug_f15_a_broadcast_super_frame_is_cut_once_and_into_few() {
    let (bench, mut sender, mut guests) = plain_guests();
    for size in [1, 32, 1400] {
        let cost = cost(&bench, &mut sender, &mut guests, size);
        println!("{cost:?} for a super-frame of segments of {size} at {} receivers", guests.len());
        assert!(cost < Duration::from_micros(700), "{size}: {cost:?} for one frame");
    }
    // What is cut arrives, at every one of them.
    let end = |mac, port| End { mac, ip: [10, 9, 0, port as u8], port };
    let to = end(frames::BROADCAST, 2);
    let (header, frame) = frames::tcp4_gso(end(sender.mac, 1), to, 7, 1400, &[0x77; 5000]);
    sender.driver.send_with(0, &header, &frame);
    for guest in &mut guests {
        for len in [1400, 1400, 1400, 800] {
            let ours = |f: &[u8]| frames::segment(f).is_some_and(|s| s.data.starts_with(&[0x77]));
            let got = guest.recv_where(5 * testkit::rig::SECOND, ours).expect("a segment");
            let segment = frames::segment(&got.bytes).unwrap();
            assert_eq!((segment.data.len(), segment.sums_right), (len, true));
        }
    }
    let neighbour = bench.reaches_lan(&mut guests[0], SECOND);
    assert!(neighbour, "the neighbour has its network");
}
