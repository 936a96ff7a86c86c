//! Reachability, mode by mode, with real guests and the IP stacks of four machines.
//!
//! Two guests (in passthru mode one) have ports on one parent. The host that carries them and a
//! machine on the LAN stand for all other machines. Each mode is tried behind a plain switch and
//! behind one that reflects (hairpin, "reflective relay"), which is switched on under the running
//! guests. The tests ping over IPv4 and IPv6, and check both the pairs that must reach each other
//! and those that must not. The tables below are the documentation's, which was measured with the
//! kernel's own macvlan devices.
//!
//! A guest does not announce a change of its MAC address, and the LAN goes on sending to the old
//! one until its neighbour entry expires: the checks after a change forget the LAN's neighbours
//! first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use testkit::netns::{World, wait_until};
use testkit::scene::{
    G1, G2, Host, Lan, MAC, Other, Row, Scene, V4, printed_mac, settles, two_guests_behave_as,
};

/// The new MAC address of a guest.
const NEW_MAC: &str = "52:54:00:00:00:99";

#[test]
fn bridge_joins_the_guests_and_hairpin_the_host() {
    let mut scene = Scene::pair("mode=bridge");
    let rows = [
        Row {
            hairpin: false,
            guest_to_guest: true,
            guest_to_host: false,
            host_to_guest: false,
            everybody: &[G2, Lan],
        },
        Row {
            hairpin: true,
            guest_to_guest: true,
            guest_to_host: true,
            host_to_guest: true,
            everybody: &[G2, Host, Lan],
        },
    ];
    two_guests_behave_as(&mut scene, &rows);
    scene.verdict();
}

#[test]
fn vepa_needs_the_switch_for_everything() {
    let mut scene = Scene::pair("mode=vepa");
    let rows = [
        Row {
            hairpin: false,
            guest_to_guest: false,
            guest_to_host: false,
            host_to_guest: false,
            everybody: &[Lan],
        },
        Row {
            hairpin: true,
            guest_to_guest: true,
            guest_to_host: true,
            host_to_guest: true,
            everybody: &[G2, Host, Lan],
        },
    ];
    two_guests_behave_as(&mut scene, &rows);
    scene.verdict();
}

/// The kernel stops only broadcasts and multicasts, which is enough to keep neighbours from being
/// found. Guests that know each other's addresses beforehand do talk through a reflecting switch.
#[test]
fn private_guests_do_not_find_each_other() {
    let mut scene = Scene::pair("mode=private");
    let rows = [
        Row {
            hairpin: false,
            guest_to_guest: false,
            guest_to_host: false,
            host_to_guest: false,
            everybody: &[Lan],
        },
        Row {
            hairpin: true,
            guest_to_guest: false,
            guest_to_host: false,
            host_to_guest: true,
            everybody: &[Lan],
        },
    ];
    two_guests_behave_as(&mut scene, &rows);

    for (n, other) in [(0, 1), (1, 0)] {
        scene.guests[n].sh(&format!("arp -s {} {}", V4[other], MAC[other]));
    }
    assert!(scene.guests[0].pings(V4[1]), "static neighbours, reflected unicast");
    scene.world.set_hairpin(false);
    assert!(scene.guests[0].silent(V4[1]), "static neighbours, nobody reflects");
    scene.verdict();
}

/// A port in source mode receives frames of the listed addresses only, whatever their destination.
/// Here each guest lists the other and the LAN machine; the second LAN machine and the host are on
/// no list.
#[test]
fn source_hears_only_whom_it_lists() {
    let world = World::new();
    let lan = world.lan.mac("eth0");
    let ports = [
        format!("mode=source,mac={},source={lan}+{}", MAC[0], MAC[1]),
        format!("mode=source,mac={},source={lan}+{}", MAC[1], MAC[0]),
    ];
    let mut scene = Scene::new(world, &ports, &MAC);
    scene.add_other();
    scene.check(false, Other, Lan, true);
    let rows = [
        Row {
            hairpin: false,
            guest_to_guest: false,
            guest_to_host: false,
            host_to_guest: false,
            everybody: &[Lan],
        },
        Row {
            hairpin: true,
            guest_to_guest: true,
            guest_to_host: false,
            host_to_guest: false,
            everybody: &[G2, Lan],
        },
    ];
    two_guests_behave_as(&mut scene, &rows);
    for guest in [G1, G2] {
        scene.check(true, guest, Other, false);
        scene.check(true, Other, guest, false);
    }
    scene.check_everybody(true, Other, &[Host, Lan]);
    scene.verdict();
}

/// The guest is given the parent itself: its MAC address, and all received frames. When the guest
/// takes another address the parent has it too, and it gets its own back at the end.
#[test]
fn passthru_hands_the_parent_to_the_guest() {
    let world = World::new();
    let parent = world.host.mac(World::PARENT);
    assert!(world.host.pings(World::LAN_V4), "the host, before");
    let args = ["--parent", World::PARENT, "--mode", "passthru", "--socket-path", "vm1.sock"];
    let printed = printed_mac(&world.host, &args);
    assert_eq!(printed, parent);

    let mut scene = Scene::new(world, &["mode=passthru".to_string()], &[&printed]);
    assert_eq!(scene.guests[0].sh("cat /sys/class/net/eth0/address").trim(), parent);
    for hairpin in [false, true] {
        scene.world.set_hairpin(hairpin);
        scene.check(hairpin, G1, Host, false);
        scene.check(hairpin, Host, G1, false);
        scene.check(hairpin, Host, Lan, false);
        scene.check(hairpin, G1, Lan, true);
        scene.check(hairpin, Lan, G1, true);
    }
    scene.world.set_hairpin(false);
    let wrong = std::mem::take(&mut scene.wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The guest takes another address, and sends a frame so that it shows.
    scene.guests[0].sh(&format!("ip link set eth0 address {NEW_MAC}"));
    scene.guests[0].run(&format!("ping -c 1 -W 1 {}", World::LAN_V4));
    let followed = || scene.world.host.mac(World::PARENT) == NEW_MAC;
    assert!(wait_until(Duration::from_secs(2), followed), "the parent has not followed");
    scene.check(false, G1, Lan, true);
    scene.check(false, Lan, G1, true);
    assert!(scene.wrong.is_empty(), "after the change: {}", scene.wrong.join("\n"));
    let seen = scene.world.lan.ip("neigh show dev eth0");
    assert!(seen.contains(NEW_MAC), "the LAN sees {seen}");

    let begin = Instant::now();
    let status = scene.backend.stop(Duration::from_secs(5));
    let took = begin.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(500), "took {took:?}");
    assert_eq!(scene.world.host.mac(World::PARENT), parent);
    assert!(!scene.world.host.has_link("vm1"));
    scene.world.lan.ip("neigh flush dev eth0");
    assert!(scene.world.host.pings(World::LAN_V4), "the host, afterwards");
    scene.verdict();
}

/// A single guest in bridge mode with this `mac-changes`.
fn one_guest(mac_changes: &str) -> Scene {
    let port = format!("mode=bridge,mac={},mac-changes={mac_changes}", MAC[0]);
    Scene::new(World::new(), &[port], &MAC[..1])
}

#[test]
fn a_denied_mac_address_gets_nothing_out() {
    let mut scene = one_guest("deny");
    scene.check(false, G1, Lan, true);
    scene.guests[0].sh(&format!("ip link set eth0 address {NEW_MAC}"));
    scene.check(false, G1, Lan, false);
    scene.check(false, Lan, G1, false);
    let seen = scene.world.lan.ip("neigh show");
    assert!(!seen.contains(NEW_MAC), "the LAN has seen it: {seen}");
    assert_eq!(scene.world.host.mac("vm1"), MAC[0]);

    let log = scene.backend.log();
    assert!(log.contains(NEW_MAC), "the log does not name the address: {log}");
    assert!(!log.contains(" foreign MAC; to the guest: "), "counters were not asked for yet");
    scene.backend.signal(Signal::SIGUSR1);
    scene.backend.wait_for_log(" foreign MAC; to the guest: ", Duration::from_secs(2));

    // Its own address works at once.
    scene.guests[0].sh(&format!("ip link set eth0 address {}", MAC[0]));
    scene.check(false, G1, Lan, true);
    scene.check(false, Lan, G1, true);

    // The counters are also logged when the guest disconnects.
    scene.guests[0].kill();
    let told = || scene.backend.log().matches(" foreign MAC; to the guest: ").count() == 2;
    assert!(wait_until(Duration::from_secs(2), told), "not told when the guest left");
    scene.guests.clear();
    scene.verdict();
}

#[test]
fn an_allowed_mac_address_is_followed() {
    let mut scene = one_guest("allow");
    scene.check(false, G1, Lan, true);
    scene.guests[0].sh(&format!("ip link set eth0 address {NEW_MAC}"));
    scene.guests[0].run(&format!("ping -c 1 -W 1 {}", World::LAN_V4));
    let followed = || scene.world.host.mac("vm1") == NEW_MAC;
    assert!(wait_until(Duration::from_secs(2), followed), "the device has not followed");
    scene.check(false, G1, Lan, true);
    scene.check(false, Lan, G1, true);
    let seen = scene.world.lan.ip("neigh show dev eth0");
    assert!(seen.contains(NEW_MAC), "the LAN sees {seen}");
    scene.backend.signal(Signal::SIGUSR1);
    scene.backend.wait_for_log("port vm1: from the guest: ", Duration::from_secs(2));
    assert!(!scene.backend.log().contains("foreign MAC"), "nothing was foreign");

    // The next guest starts with the address that was configured.
    scene.guests[0].kill();
    scene.backend.wait_for_log(" has disconnected", Duration::from_secs(2));
    let own = || scene.world.host.mac("vm1") == MAC[0];
    assert!(wait_until(Duration::from_secs(2), own), "the device keeps the old guest's address");
    let lost = wait_until(Duration::from_millis(500), || !own());
    assert!(!lost, "the device has taken the old guest's address again");
    scene.guests.clear();
    scene.verdict();
}

/// Guests find each other by IPv6 without the host's help, and detect a clash of addresses. The
/// host stays mute: it has no address on their devices, and does not answer for them.
#[test]
fn guests_find_each_other_and_the_host_stays_mute() {
    let mut scene = Scene::pair("mode=bridge");
    // Addresses that are not derived from any MAC address, this time with the check for clashes.
    let taken = "2001:db8::abcd:11";
    scene.guests[0].sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
    scene.guests[0].sh(&format!("ip addr add {taken}/64 dev eth0"));
    settles(&mut scene.guests[0], taken, false);
    assert!(scene.guests[1].pings(taken), "found by a neighbour solicitation");
    assert!(scene.world.lan.pings(taken));
    scene.guests[1].sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
    scene.guests[1].sh(&format!("ip addr add {taken}/64 dev eth0"));
    settles(&mut scene.guests[1], taken, true);

    for device in ["vm1", "vm2"] {
        let addresses = scene.world.host.ip(&format!("-o addr show dev {device}"));
        assert_eq!(addresses.trim(), "", "{device}");
    }
    let parent = scene.world.host.mac(World::PARENT);
    let asked_by_lan = |scene: &Scene, address: &str, owner: &str| {
        let text = scene.world.lan.run(&format!("busybox arping -b -c 3 -I eth0 {address}")).text;
        let replies: Vec<&str> = text.lines().filter(|line| line.contains("reply from")).collect();
        assert_eq!(replies.len(), 3, "one answer to each question: {text}");
        assert!(replies.iter().all(|line| line.contains(owner)), "{owner} alone: {text}");
    };
    asked_by_lan(&scene, World::HOST_V4, &parent);
    asked_by_lan(&scene, V4[0], MAC[0]);
    let answer = scene.guests[0].run(&format!("arping -b -c 3 -I eth0 {}", World::HOST_V4));
    assert!(answer.text.contains("Received 0 "), "{}", answer.text);
    // Nor when the guest has disconnected and only its device is left.
    scene.guests[1].kill();
    scene.guests.truncate(1);
    asked_by_lan(&scene, World::HOST_V4, &parent);
    let answer = scene.guests[0].run(&format!("arping -b -c 3 -I eth0 {}", World::HOST_V4));
    assert!(answer.text.contains("Received 0 "), "{}", answer.text);
    scene.verdict();
}
