//! A hundred guests on one parent; and among twenty, one that reconnects, and one that takes
//! nothing.

use std::time::Duration;

use crate::stream::Stream;
use testkit::frames;
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE, fresh_tag};
use testkit::userspace::{Bench, Guest, mac};
use testkit::vmm::QemuOptions;

const PORTS: usize = 100;

/// All guests, each of which the LAN reaches.
fn everybody(bench: &Bench, ports: usize) -> Vec<Guest> {
    (0..ports).map(|port| bench.guest(port)).collect()
}

#[test]
fn each_of_a_hundred_guests_reaches_every_other_one_and_the_lan() {
    let bench = Bench::bridge(PORTS, &[]);
    let mut guests = everybody(&bench, PORTS);
    bench.wire.clear();
    // Both ways between each two: every ordered pair. The frames name their sender and receiver.
    let base = fresh_tag() << 20;
    let frame = |from: usize, to: usize| {
        let tag = base + (from * PORTS + to) as u64;
        frames::tagged(mac(to), mac(from), tag, 60 + (from + to) % 1400)
    };
    for from in 0..PORTS {
        let others = (0..PORTS).filter(|&to| to != from);
        let batch: Vec<_> = others.clone().map(|to| frame(from, to)).collect();
        guests[from].driver.send(0, &batch);
        for to in others {
            let found = guests[to].driver.recv(0, ARRIVAL);
            let found = found.unwrap_or_else(|| panic!("t{from} to t{to}: nothing came"));
            assert!(found.bytes == frame(from, to), "t{from} to t{to}: another frame came");
        }
    }
    for from in 0..PORTS {
        let tag = fresh_tag();
        let frame = frames::tagged(frames::BROADCAST, mac(from), tag, 300);
        guests[from].driver.send(0, std::slice::from_ref(&frame));
        for to in (0..PORTS).filter(|&to| to != from) {
            let found = guests[to].driver.recv(0, ARRIVAL);
            let found = found.unwrap_or_else(|| panic!("t{from}'s broadcast did not reach t{to}"));
            assert!(found.bytes == frame, "t{from}'s broadcast to t{to}: another frame came");
        }
        // The first frame that the LAN has seen since: nothing between siblings was on the wire.
        let on_lan = bench.wire.recv(ARRIVAL);
        assert!(on_lan.as_ref() == Some(&frame), "t{from}'s broadcast on the LAN: {on_lan:?}");
    }
    std::thread::sleep(SILENCE);
    for (port, guest) in guests.iter_mut().enumerate() {
        let more = guest.driver.recv(0, Duration::ZERO);
        assert!(more.is_none(), "t{port} got a frame twice, or its own: {more:?}");
    }
}

#[test]
fn a_guest_that_comes_and_goes_costs_the_others_nothing() {
    let bench = Bench::bridge(20, &[]);
    let mut guests = everybody(&bench, 20);
    let last = guests.pop().unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (one, other) = (guests.pop().unwrap(), guests.pop().unwrap());
        streams.push(Stream::start(one, other));
    }
    bench.leaves(last);
    let reconnect = |times: usize| {
        for _ in 0..times {
            bench.leaves(bench.guest(19));
        }
        std::thread::sleep(SILENCE);
        let usage = &bench.backend;
        (usage.fds().len(), usage.threads().len(), usage.private_kib())
    };
    let before = reconnect(10);
    let after = reconnect(50);
    println!("descriptors, threads, KiB: {before:?}, {after:?}");
    assert_eq!((before.0, before.1), (after.0, after.1), "descriptors, threads");
    assert!(after.2 < before.2 + 512, "memory: {} KiB, then {} KiB", before.2, after.2);
    for stream in streams {
        stream.stop();
    }
}

/// Each guest's queue is its own: a guest without buffers loses its frames, and no other guest
/// loses one.
#[test]
fn a_guest_that_takes_nothing_loses_only_its_own_frames() {
    let bench = Bench::bridge(8, &["--workers", "1"]);
    let mut deaf = bench.connect(0, mac(0), &QemuOptions::default());
    let mut others: Vec<Guest> = (1..8).map(|port| bench.guest(port)).collect();
    deaf.driver.refill = false;
    bench.wait_for_wire(&mut deaf, SECOND);
    let (mut sender, mut witness) = (others.pop().unwrap(), others.pop().unwrap());
    let streams: Vec<_> =
        (0..2).map(|_| Stream::start(others.pop().unwrap(), others.pop().unwrap())).collect();
    // Frames that it does not read use up its buffers.
    let posted = deaf.driver.pairs[0].rx.outstanding() as u64;
    assert_eq!(bench.dropped_for(0, "no buffers"), 0);
    for _ in 0..10 {
        let frame = || frames::tagged(mac(0), sender.mac, fresh_tag(), 500);
        let batch: Vec<_> = (0..100).map(|_| frame()).collect();
        sender.driver.send(0, &batch);
        assert!(sender.driver.drain_tx(0, ARRIVAL), "the sender has to wait for a deaf guest");
        bench.wire.send(&frames::tagged(mac(0), LAN_MAC, fresh_tag(), 500));
        // The sender itself still reaches all other guests.
        let tag = fresh_tag();
        sender.send(witness.mac, tag);
        assert!(witness.gets(tag, ARRIVAL), "a frame beside those for the deaf guest");
        assert!(
            bench.reaches_lan(&mut sender, ARRIVAL) && bench.reached_from_lan(&mut sender, ARRIVAL)
        );
    }
    streams.iter().for_each(|stream| stream.runs_on(500));
    // All that found no buffer, but for those from the LAN: they wait for it.
    let most = 10 * 101 - posted;
    let lost = bench.dropped_for(0, "no buffers");
    assert!((most - 10..most).contains(&lost), "{lost} of {most}: {}", bench.counters(0));
    for port in 1..8 {
        assert_eq!(bench.dropped_for(port, "no buffers"), 0, "{}", bench.counters(port));
    }
    for stream in streams {
        stream.stop();
    }
    // It can still send, and takes again when it wants to.
    assert!(bench.reaches_lan(&mut deaf, ARRIVAL));
    deaf.driver.refill = true;
    deaf.driver.post_rx(0, 50, 2048);
    deaf.clear();
    assert!(bench.reached_from_lan(&mut deaf, ARRIVAL));
}
