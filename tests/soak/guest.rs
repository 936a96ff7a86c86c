//! Deeds of a guest alone: its rings, its descriptors, its frames.

use std::time::{Duration, Instant};

use super::party::Party;
use testkit::driver::{D_INDIRECT, D_NEXT, D_WRITE, Desc, VnetHdr};
use testkit::frames;
use testkit::rig::{LAN_MAC, fresh_tag};

const NOWHERE: u64 = 0x7f00_0000_0000;
/// The duration of a deed that can be done in a loop.
const LOOP: Duration = Duration::from_millis(300);

/// Made available again as fast as they are returned: a worker that searches for a good one never
/// ends.
pub fn useless_receive_buffers(party: &mut Party) {
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    let at = driver.mem.alloc(4096);
    let rx = &mut driver.pairs[0].rx;
    let kinds =
        [Desc::write(at, 0), Desc::read(at, 2048), Desc::write(NOWHERE, 64), Desc::write(at, 5)];
    let bad = rng.pick(&kinds);
    for slot in 0..rx.size {
        rx.write_desc(slot, &bad);
        rx.set_avail_entry(slot, slot);
    }
    let (end, start) = (Instant::now() + LOOP, rx.used_idx());
    rx.set_avail_idx(start.wrapping_add(rx.size));
    rx.kick();
    while Instant::now() < end {
        let used = rx.used_idx();
        rx.set_avail_idx(used.wrapping_add(rx.size));
    }
    party.leave();
}

pub fn frames_of_the_cable(party: &mut Party) {
    let mac = party.mac;
    let (_, driver) = party.guest();
    for (last, kind) in
        [(0u8, 0x0027u16), (1, 0x8808), (2, 0x8809), (3, 0x888e), (0xe, 0x88cc), (0, 0x8100)]
    {
        let group = [1, 0x80, 0xc2, 0, 0, last];
        driver.send(0, &[frames::ethernet(group, mac, kind, &[0; 46])]);
    }
    driver.drain_tx(0, Duration::from_secs(1));
}

/// The LAN's and a neighbour's among them.
pub fn foreign_sources(party: &mut Party) {
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    for n in 0..64u8 {
        let bytes = rng.bytes(6);
        let other = [0x52, 0x54, 0, 0xdd, 0, n % 16];
        let random = [2, bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]];
        let source = rng.pick(&[LAN_MAC, other, random, [0; 6], [0xff; 6]]);
        driver.send(0, &[frames::tagged(LAN_MAC, source, fresh_tag(), 60)]);
    }
    driver.drain_tx(0, Duration::from_secs(1));
}

/// 256 chains of 1024 descriptors in a turn: all of them one byte, or empty.
pub fn longest_chains(party: &mut Party) {
    let len = party.rng.below(2) as u32;
    let (_, driver) = party.guest();
    let (at, table) = (driver.mem.alloc(4096), driver.mem.alloc(16 * 1024));
    let chain: Vec<u8> = (0..1024u16)
        .flat_map(|n| {
            let next = (n < 1023).then_some(n + 1);
            let flags = if next.is_some() { D_NEXT } else { 0 };
            Desc { addr: at, len, flags, next }.bytes()
        })
        .collect();
    driver.mem.write(table, &chain);
    let tx = &mut driver.pairs[0].tx;
    for slot in 0..tx.size {
        tx.write_desc(slot, &Desc { addr: table, len: 16 * 1024, flags: D_INDIRECT, next: None });
        tx.set_avail_entry(slot, slot);
    }
    let end = Instant::now() + LOOP;
    while Instant::now() < end {
        let used = tx.used_idx();
        tx.set_avail_idx(used.wrapping_add(tx.size));
        tx.kick();
    }
    party.leave();
}

/// Cut anew for every receiver without offloads.
pub fn super_frames_for_all(party: &mut Party) {
    let mac = party.mac;
    let size = party.rng.pick(&[0u16, 1, 32, 1448, u16::MAX]);
    let (_, driver) = party.guest();
    let from = frames::End { mac, ip: [10, 9, 0, 1], port: 1111 };
    let to = frames::End { mac: frames::BROADCAST, ip: [10, 9, 0, 255], port: 2222 };
    let (mut hdr, frame) = frames::tcp4_gso(from, to, 1, 1448, &[0x5a; 1900]);
    hdr.gso_size = size;
    for _ in 0..2 {
        driver.send_with(0, &hdr, &frame);
    }
    driver.drain_tx(0, Duration::from_secs(1));
}

pub fn broken_chains(party: &mut Party) {
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    for _ in 0..100 {
        let (addr, len) =
            (rng.pick(&[0, 0x10_0000, NOWHERE, u64::MAX - 10, (64 << 20) - 50]), rng.next() as u32);
        let flags = rng.below(8) as u16;
        let next = rng.pick(&[
            None,
            Some(0),
            Some(256),
            Some(u16::MAX),
            Some(driver.pairs[0].tx.next_head()),
        ]);
        let desc = Desc { addr, len: rng.pick(&[0, 1, 12, 100, len, u32::MAX]), flags, next };
        let head = driver.pairs[0].tx.add(&[desc]);
        driver.pairs[0].tx.publish();
        driver.pairs[0].tx.wait_returned(head, Duration::from_millis(500));
    }
}

pub fn broken_tables(party: &mut Party) {
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    let table = driver.mem.alloc(65536);
    for _ in 0..100 {
        driver.mem.write(table, &rng.bytes(256));
        let len = rng.pick(&[0, 15, 16, 17, 32, 4096, 0xffff_fff0]);
        let addr = rng.pick(&[table, table + 8, NOWHERE]);
        let head = driver.pairs[0].tx.add(&[Desc { addr, len, flags: D_INDIRECT, next: None }]);
        driver.pairs[0].tx.publish();
        driver.pairs[0].tx.wait_returned(head, Duration::from_millis(500));
    }
}

pub fn wild_indices(party: &mut Party) {
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    for _ in 0..50 {
        let queue =
            if rng.below(2) == 0 { &mut driver.pairs[0].tx } else { &mut driver.pairs[0].rx };
        let (index, head) = (queue.avail_idx(), rng.next() as u16);
        queue.set_avail_entry(index, head);
        queue.set_avail_idx(index.wrapping_add(rng.pick(&[1, 257, 0x8000, 0xfff0])));
        queue.kick();
    }
    party.leave();
}

pub fn random_headers(party: &mut Party) {
    let mac = party.mac;
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    let from = frames::End { mac, ip: [10, 9, 0, 1], port: 1111 };
    let to = frames::End { mac: LAN_MAC, ip: [10, 9, 0, 9], port: 2222 };
    for _ in 0..200 {
        let mut frame = frames::udp4(from, to, &[0x5a; 1000]);
        frame.truncate(rng.below(frame.len() as u64 + 1) as usize);
        driver.send_with(0, &VnetHdr::parse(&rng.bytes(12)), &frame);
    }
    driver.drain_tx(0, Duration::from_secs(1));
}

/// Tables, rings and indices: any values.
pub fn random_rings(party: &mut Party) {
    let mut rng = party.fork();
    let (_, driver) = party.guest();
    let end = Instant::now() + LOOP;
    while Instant::now() < end {
        let queue = if rng.below(2) == 0 { &driver.pairs[0].tx } else { &driver.pairs[0].rx };
        let places = [(queue.desc, 16 * 256), (queue.avail, 4 + 2 * 256)];
        let (place, len) = rng.pick(&places);
        let count = 1 + rng.below(32) as usize;
        driver.mem.write(place + rng.below(len - count as u64), &rng.bytes(count));
        let flags = rng.pick(&[D_WRITE, D_NEXT, 0]);
        queue.write_desc(
            rng.below(256) as u16,
            &Desc { addr: 0x10_0000, len: 1500, flags, next: None },
        );
        driver.pairs[0].tx.kick();
        driver.pairs[0].rx.kick();
    }
    party.leave();
}
