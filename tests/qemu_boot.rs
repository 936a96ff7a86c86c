//! The test guest itself: it boots, runs commands, comes back after a reboot, and leaves nothing.
//!
//! All other `qemu_` tests depend on this. It needs no back-end: when it fails, look at the guest
//! (or at missing packages), not at the program under test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use testkit::guest::{Guest, GuestConfig, Nic};
use testkit::netns::{World, assert_nothing_left};

#[test]
fn a_guest_boots_runs_commands_and_reboots() {
    let mut guest = Guest::boot(&GuestConfig {
        memory: vec![96, 96],
        memory_slots: 1,
        ..GuestConfig::default()
    });

    let output = guest.run("echo out; echo err >&2; exit 7");
    assert_eq!((output.text.as_str(), output.status), ("out\nerr\n", 7));
    assert_eq!(guest.sh("printf '%s' \"a 'b' $((1 + 1))\n@r1 0 3\""), "a 'b' 2\n@r1 0 3");
    assert_eq!(guest.run_for("sleep 100", Duration::from_secs(1)).status, 137);
    assert_eq!(guest.sh("head -c 50000 /dev/zero | tr '\\0' x").len(), 50_000);
    assert!(guest.sh("ethtool --version").contains("ethtool"));

    let before = guest.memory_kib();
    guest.plug_memory(128);
    assert!(guest.memory_kib() >= before + 128_000, "{before}");

    guest.sh("touch /tmp/mark");
    guest.reboot();
    assert!(!guest.run("ls /tmp/mark").ok());
    assert!(guest.memory_kib() >= before + 128_000, "{before}");
    guest.reset();
    assert!(guest.console().is_ascii());
    assert_eq!(guest.qmp("query-status").unwrap()["status"], "running");
    drop(guest);
    assert_nothing_left();
}

/// Requests used to be lost: PID 1's `read` forgot half a line when a child ended meanwhile; and a
/// UART, which the control port was, lost one now and then (testkit/src/guest.rs, "The control
/// port").
#[test]
fn quick_requests_are_all_answered() {
    let mut guest = Guest::boot(&GuestConfig::default());
    for request in 0..300 {
        let output = guest.run_for(&format!("echo {request}"), Duration::from_secs(5));
        assert_eq!(output.text, format!("{request}\n"));
    }
}

/// A guest at a plain tap device: the world works, and its addresses are where tests expect them.
#[test]
fn a_guest_reaches_the_lan_through_a_tap() {
    let world = World::new();
    world.switch.ip("tuntap add tap0 mode tap");
    world.switch.ip("link set tap0 master br0 up");
    let config =
        GuestConfig { nics: vec![Nic::tap("tap0", "52:54:00:00:00:11")], ..GuestConfig::default() };
    let mut guest = Guest::start_in(Some(&world.switch), &config);
    assert!(world.host.pings(World::LAN_V4));
    assert!(world.host.pings(World::LAN_V6));
    guest.wait_boot();
    guest.configure("eth0", "192.0.2.11", "2001:db8::11");
    for address in [World::LAN_V4, World::LAN_V6, World::HOST_V4, World::HOST_V6] {
        assert!(guest.pings(address), "{address}");
    }
    assert!(guest.silent("192.0.2.99"));
    drop(guest);
    drop(world);
    assert_nothing_left();
}
