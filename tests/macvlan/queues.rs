//! Several queue pairs and several workers: a flow stays on one queue and in order, and no frame
//! comes twice.
//!
//! The kernel spreads the parent's received frames over our sockets by flow, and we spread them
//! over the guest's queues. Two sockets that both received a frame would deliver it twice; a flow
//! that changed its queue could overtake itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use testkit::frames::{self, End, Mac};
use testkit::rig::{LAN_MAC, SECOND, SILENCE};
use testkit::userspace::{Bench, Guest, mac, mac_key};
use testkit::vmm::QemuOptions;

/// Together fewer frames than one queue has buffers, so that none is lost however they are spread.
const FLOWS: u16 = 36;
const EACH: u32 = 5;

fn bench() -> Bench {
    let keys = [0, 1].map(|n| mac_key(n) + ",queue-pairs=4");
    Bench::new(&keys, &["--workers", "2"])
}

fn options() -> QemuOptions {
    QemuOptions { pairs: 4, ..Default::default() }
}

/// Frame `number` of a flow.
fn of_flow(from: Mac, to: Mac, flow: u16, number: u32) -> Vec<u8> {
    let end = |mac: Mac, port| End { mac, ip: [10, 9, mac[3], mac[5]], port };
    frames::udp4(end(from, 1000 + flow), end(to, 7), &number.to_be_bytes())
}

/// Takes the frames of every queue until all are silent: for each queue the flows and numbers in
/// their order.
fn taken(guest: &mut Guest) -> Vec<Vec<(u16, u32)>> {
    let mut queues = vec![Vec::new(); guest.driver.pairs.len()];
    let mut last = Instant::now();
    while last.elapsed() < SILENCE {
        for (pair, queue) in queues.iter_mut().enumerate() {
            while let Some(frame) = guest.driver.recv(pair, Duration::from_millis(1)) {
                let Some(segment) = frames::segment(&frame.bytes) else { continue };
                assert!(segment.sums_right, "a frame was damaged");
                let number = u32::from_be_bytes(segment.data[..4].try_into().unwrap());
                queue.push((segment.ports.0 - 1000, number));
                last = Instant::now();
            }
        }
    }
    queues
}

/// Every flow whole, in order, once, on one queue. Returns the number of queues that had flows.
fn judged(queues: &[Vec<(u16, u32)>], what: &str) -> usize {
    let mut homes: BTreeMap<u16, BTreeSet<usize>> = BTreeMap::new();
    let mut numbers: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for (queue, frames) in queues.iter().enumerate() {
        for &(flow, number) in frames {
            homes.entry(flow).or_default().insert(queue);
            numbers.entry(flow).or_default().push(number);
        }
    }
    let wanted: Vec<u32> = (0..EACH).collect();
    for flow in 0..FLOWS {
        assert_eq!(homes.get(&flow).map(BTreeSet::len), Some(1), "{what}: queues of flow {flow}");
        assert_eq!(numbers.get(&flow), Some(&wanted), "{what}: frames of flow {flow}");
    }
    queues.iter().filter(|frames| !frames.is_empty()).count()
}

#[test]
fn flows_from_the_wire_come_on_several_queues_each_on_one_in_order_and_once() {
    let bench = bench();
    let mut guest = bench.guest_with(0, mac(0), &options());
    let _sibling = bench.guest_with(1, mac(1), &options());
    for round in 0..3 {
        taken(&mut guest);
        for number in 0..EACH {
            for flow in 0..FLOWS {
                bench.wire.send(&of_flow(LAN_MAC, mac(0), flow, number));
            }
        }
        let used = judged(&taken(&mut guest), "from the wire");
        assert!(used >= 3, "round {round}: {FLOWS} flows on {used} queues");
    }
    assert_eq!(bench.dropped_for(0, "no buffers"), 0);
}

/// The sender has put each flow on one of its queues; the receiver finds it on one of its own.
#[test]
fn flows_between_guests_come_on_several_queues_each_on_one_in_order_and_once() {
    let bench = bench();
    let mut from = bench.guest_with(0, mac(0), &options());
    let mut to = bench.guest_with(1, mac(1), &options());
    taken(&mut to);
    for number in 0..EACH {
        for pair in 0..4 {
            let flows = (0..FLOWS).filter(|flow| usize::from(flow % 4) == pair);
            let batch: Vec<_> = flows.map(|flow| of_flow(mac(0), mac(1), flow, number)).collect();
            from.driver.send(pair, &batch);
        }
    }
    assert_eq!(judged(&taken(&mut to), "between guests"), 4);
}

/// Queues that the guest does not use get nothing, whatever the kernel's own spreading.
#[test]
fn flows_stay_whole_when_the_guest_uses_fewer_queues() {
    let bench = bench();
    let mut guest = bench.guest_with(0, mac(0), &options());
    for used in [1, 2, 4, 3] {
        guest.vmm.guest_sets_pairs(4, used);
        bench.wait_for_wire(&mut guest, SECOND);
        taken(&mut guest);
        for number in 0..EACH {
            for flow in 0..FLOWS {
                bench.wire.send(&of_flow(LAN_MAC, mac(0), flow, number));
            }
        }
        let queues = taken(&mut guest);
        for (pair, frames) in queues.iter().enumerate().skip(used) {
            assert!(
                frames.is_empty(),
                "{used} queues in use, {} frames on queue {pair}",
                frames.len()
            );
        }
        assert!(judged(&queues, "fewer queues") <= used);
    }
}
