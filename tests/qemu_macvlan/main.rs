//! Userspace ports (`type=macvlan`) with real guests: bulk traffic, the modes, guests that come and
//! go.
//!
//! There is no kernel device between these guests and the LAN. So the program does the kernel's
//! work for a macvtap: it chooses the receivers, and gives each a frame in a form that it accepts.
//! A sibling may be sent 64 KiB in one frame without a checksum if it accepts that, and the LAN
//! must never see such a frame.
//!
//! **Bulk traffic.** 100 MiB of TCP each way between two guests, and between each of them and the LAN.
//! Varied are the offloads of both sides, the MTU (1500, 9000) and the IP version. Guests have a network
//! device for each setting of the offloads (all; no segmentation; no checksums either), of which they
//! use one at a time, so one boot serves all. The LAN's NIC has its own switch, by which super-frames
//! arrive at the parent or finished frames do; the other direction is always a real wire, on which every
//! frame must be whole. Everything with everything would be 120 transfers and take a quarter of an hour.
//! Each of 26 ways (machines, direction, offloads) is gone once with each MTU, over IPv4 with the one and
//! IPv6 with the other. All settings of both sides occur between the guests and between the first guest and
//! the LAN; the second guest and the LAN try half of them. So any two values occur together, and most
//! sets of three.
//!
//! Equal checksums at both ends say little about the way there, as TCP repairs everything. So each
//! transfer also proves its setting by the back-end's own counters: super-frames only where both
//! sides take them, segments elsewhere. No kernel may have counted a bad checksum, and on the wire
//! the test looks at each frame, and tcpdump at the first thousand.
//!
//! **Modes.** The tables of `qemu_modes.rs`, which are the kernel's, differing only in what
//! `src/switch/mod.rs` says: private ports do not talk through a reflecting switch either.
//!
//! What can go wrong: guests without KVM are slow (some 50 MiB/s); the times are printed, not
//! judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;
mod life;
mod modes;

use std::net::UdpSocket;

use lab::{All, Lab, NoTso, Nothing};
use testkit::exchange::in_netns;
use testkit::inspector::{Inspection, set_offloads};
use testkit::netns::World;

#[test]
fn tcp_every_way_with_mtu_1500() {
    tcp_every_way(1500);
}

#[test]
fn tcp_every_way_with_mtu_9000() {
    tcp_every_way(9000);
}

fn tcp_every_way(mtu: u32) {
    let mut lab = Lab::new(mtu);
    // From the LAN first: a guest sends what it has got from there.
    for same in [All, NoTso] {
        lab.use_devices([same; 2]);
        lab.with_lan(0, true);
        lab.with_lan(0, false);
        // The second guest is like the first one, so the LAN now has other offloads than the guest.
        lab.with_lan(1, same == NoTso);
        lab.between_guests();
    }
    for different in [[All, NoTso], [NoTso, All], [Nothing, All]] {
        lab.use_devices(different);
        lab.between_guests();
    }
    for lan_offloads in [true, false] {
        lab.with_lan(0, lan_offloads);
    }
    lab.fragments();
    lab.verdict();
}

/// The checks for bad checksums must find one that is there: a veth shows unfinished frames.
#[test]
fn the_inspection_finds_what_is_unfinished() {
    let world = World::new();
    for offloads in [true, false] {
        set_offloads(&world.lan, "eth0", offloads);
        let inspection = Inspection::begin(&world.host, World::PARENT, 1);
        in_netns(&world.lan, || {
            let socket = UdpSocket::bind((World::LAN_V4, 0)).unwrap();
            socket.send_to(b"hello", (World::HOST_V4, 9)).unwrap();
        });
        let seen = inspection.end();
        assert_eq!((seen.frames, seen.wrong), (1, u64::from(offloads)), "{seen:?}");
        assert_eq!(seen.tcpdump.1, usize::from(offloads), "{seen:?}");
    }
}
