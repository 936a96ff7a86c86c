//! Bulk traffic with a real guest: 100 MiB of TCP each way must arrive as it was sent.
//!
//! Every combination of MTU (1500, 9000), queue pairs (1, 4) and segmentation offload (on, off)
//! takes other ways through the rings: one frame per descriptor chain or 64 KiB in one, one receive
//! buffer or forty merged, one pair or several at the same time on several workers. One boot serves
//! both settings of the offload, as it can be switched at run time.
//!
//! Each test also proves from the guest's own counters that it tested what it says: with the
//! offload far fewer frames leave than there are segments, without it none fewer; with four pairs
//! several of them carried a share both ways. The pair of a connection is chosen by a hash, so
//! eight connections share out well: all in one pair happens once in 16,000 runs.
//!
//! What can go wrong: guests without KVM are slow (some 50 MiB/s); the times are printed, not
//! judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Sub;

use testkit::backend::Backend;
use testkit::exchange::{Exchange, longest_datagram_both_ways};
use testkit::guest::{Guest, GuestConfig, Nic};
use testkit::netns::World;

const PAYLOAD: usize = 100 << 20;
const MAC: &str = "52:54:00:00:00:11";

/// IPv4 and TCP headers, with the time stamps that Linux uses.
const HEADERS: u64 = 20 + 32;

#[test]
fn tcp_both_ways_with_mtu_1500_and_one_pair() {
    tcp_both_ways(1500, 1);
}

#[test]
fn tcp_both_ways_with_mtu_1500_and_four_pairs() {
    tcp_both_ways(1500, 4);
}

#[test]
fn tcp_both_ways_with_mtu_9000_and_one_pair() {
    tcp_both_ways(9000, 1);
}

#[test]
fn tcp_both_ways_with_mtu_9000_and_four_pairs() {
    tcp_both_ways(9000, 4);
}

fn tcp_both_ways(mtu: u32, pairs: u16) {
    let world = World::with_mtu(mtu);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm1.sock");
    let (number, size) = (pairs.to_string(), mtu.to_string());
    let mut args = vec!["--parent", World::PARENT, "--socket-path", socket.to_str().unwrap()];
    args.extend(["--name", "vm1", "--mac", MAC, "--queue-pairs", &number]);
    if mtu != 1500 {
        args.extend(["--mtu", &size]);
    }
    let _backend = Backend::start(&world.host, &args);
    let mut config = GuestConfig::vhost_user("vm1", &socket, MAC);
    config.memory = vec![384];
    let host_mtu = (mtu != 1500).then_some(mtu);
    config.nics = vec![Nic { queue_pairs: pairs, host_mtu, ..Nic::vhost_user(&socket, MAC) }];
    let mut guest = Guest::boot(&config);
    guest.configure("eth0", "192.0.2.11", "2001:db8::11");
    assert_eq!(guest.sh("cat /sys/class/net/eth0/mtu").trim(), size);
    if pairs > 1 {
        // The driver uses as many as the guest has processors by itself.
        let channels = guest.sh("ethtool -l eth0");
        let now = channels.split("Current").nth(1).unwrap_or_default();
        assert!(now.contains(&format!("Combined:\t{pairs}")), "{channels}");
    }
    assert!(guest.pings(World::LAN_V4));

    let exchange = Exchange::new(&world.lan, PAYLOAD, if pairs > 1 { 8 } else { 1 });
    for tso in ["on", "off"] {
        guest.sh(&format!("ethtool -K eth0 tso {tso}"));
        let state = guest.sh("ethtool -k eth0");
        assert!(state.contains(&format!("tcp-segmentation-offload: {tso}\n")), "{state}");

        let before = queues(&mut guest, pairs);
        let to_guest = exchange.to_guest(&mut guest);
        let between = queues(&mut guest, pairs);
        let from_guest = exchange.to_lan(&mut guest);
        let after = queues(&mut guest, pairs);

        let received: Vec<Moved> =
            (0..usize::from(pairs)).map(|n| between[n].0 - before[n].0).collect();
        let sent: Vec<Moved> = (0..usize::from(pairs)).map(|n| after[n].1 - between[n].1).collect();
        let segments = exchange.bytes() as u64 / (u64::from(mtu) - HEADERS);
        eprintln!(
            "MTU {mtu}, {pairs} pair(s), TSO {tso}: to the guest {to_guest:.1?} {received:?}, \
             from the guest {from_guest:.1?} {sent:?}, {segments} segments"
        );
        let frames: u64 = sent.iter().map(|moved| moved.frames).sum();
        match tso {
            "on" => assert!(frames < segments / 2, "{frames} frames for {segments} segments"),
            _ => assert!(frames >= segments, "{frames} frames for {segments} segments"),
        }
        if pairs > 1 {
            for moved in [&received, &sent] {
                let busy = moved.iter().filter(|moved| moved.bytes > PAYLOAD as u64 / 100).count();
                assert!(busy >= 2, "only {busy} pair(s) carried traffic: {moved:?}");
            }
        }
    }
}

/// What one queue of the guest's driver has moved.
#[derive(Clone, Copy, Debug)]
struct Moved {
    frames: u64,
    bytes: u64,
}

impl Sub for Moved {
    type Output = Moved;

    fn sub(self, before: Moved) -> Moved {
        Moved { frames: self.frames - before.frames, bytes: self.bytes - before.bytes }
    }
}

/// What the guest's driver has received and sent so far, by queue pair.
fn queues(guest: &mut Guest, pairs: u16) -> Vec<(Moved, Moved)> {
    let text = guest.sh("ethtool -S eth0");
    let count = |name: String| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(&name)?.strip_prefix(':'))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in: {text}"))
    };
    let moved = |queue: String| Moved {
        frames: count(format!("{queue}_packets")),
        bytes: count(format!("{queue}_bytes")),
    };
    (0..pairs).map(|n| (moved(format!("rx_queue_{n}")), moved(format!("tx_queue_{n}")))).collect()
}

#[test]
fn the_longest_datagram_goes_both_ways_in_fragments() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm1.sock");
    let path = socket.to_str().unwrap();
    let args = ["--parent", World::PARENT, "--socket-path", path, "--name", "vm1", "--mac", MAC];
    let _backend = Backend::start(&world.host, &args);
    let mut guest = Guest::boot(&GuestConfig::vhost_user("vm1", &socket, MAC));
    guest.configure("eth0", "192.0.2.11", "2001:db8::11");
    assert!(guest.pings(World::LAN_V4));
    longest_datagram_both_ways(&world.lan, &mut guest);
    // ICMP checks the whole of it in both kernels, and IPv6 cuts up at the sender alone.
    for address in [World::LAN_V4, World::LAN_V6] {
        guest.sh(&format!("ping -c 2 -W 3 -s 65000 {address}"));
    }
}
