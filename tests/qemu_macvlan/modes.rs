//! Reachability through userspace ports, mode by mode: the kernel's tables, with real IP stacks.
//!
//! The rows are those of `qemu_modes.rs`, tried in the same scene. Only private ports differ, as
//! `src/switch/mod.rs` says. `tests/oracle/main.rs` covers the frames in every corner. This test
//! shows that neighbours are found, or not, and that machines can ping each other.

use std::time::Duration;

use testkit::netns::{World, wait_until};
use testkit::scene::{G1, G2, Host, Lan, MAC, Row, Scene, V4, printed_mac, two_guests_behave_as};

/// The new MAC address of a guest.
const NEW_MAC: &str = "52:54:00:00:00:99";

/// The pairs that only the switch's reflection connects.
const ISOLATED: Row = Row {
    hairpin: false,
    guest_to_guest: false,
    guest_to_host: false,
    host_to_guest: false,
    everybody: &[Lan],
};

/// All machines reach each other, by a switch that sends frames back.
const ALL_REFLECTED: Row = Row {
    hairpin: true,
    guest_to_guest: true,
    guest_to_host: true,
    host_to_guest: true,
    everybody: &[G2, Host, Lan],
};

#[test]
fn bridge_joins_the_guests_and_hairpin_the_host() {
    let mut scene = Scene::pair("type=macvlan,mode=bridge");
    let plain = Row { guest_to_guest: true, everybody: &[G2, Lan], ..ISOLATED };
    two_guests_behave_as(&mut scene, &[plain, ALL_REFLECTED]);
    scene.verdict();
}

#[test]
fn vepa_needs_the_switch_for_everything() {
    let mut scene = Scene::pair("type=macvlan,mode=vepa");
    two_guests_behave_as(&mut scene, &[ISOLATED, ALL_REFLECTED]);
    scene.verdict();
}

/// Stricter than the kernel: guests that know each other's addresses beforehand do not talk either,
/// reflecting switch or not. (The kernel's behaviour, which `compat` is to have, is in
/// `qemu_modes.rs`.)
#[test]
fn private_guests_do_not_even_talk_when_they_know_each_other() {
    let mut scene = Scene::pair("type=macvlan,mode=private");
    let reflected = Row { hairpin: true, host_to_guest: true, ..ISOLATED };
    two_guests_behave_as(&mut scene, &[ISOLATED, reflected]);
    for (n, other) in [(0, 1), (1, 0)] {
        scene.guests[n].sh(&format!("arp -s {} {}", V4[other], MAC[other]));
    }
    assert!(scene.guests[0].silent(V4[1]), "static neighbours, reflected unicast");
    // It is the switch that keeps them apart, not a neighbour that was not found.
    scene.guests[0].sh(&format!("arp -s {} {}", World::LAN_V4, scene.world.lan.mac("eth0")));
    assert!(scene.guests[0].pings(World::LAN_V4), "static neighbour on the LAN");
    scene.verdict();
}

/// The guest has the parent's address and all received frames, the host nothing; when the guest
/// takes another address, the parent does. The end gives everything back, even after `kill -9`.
#[test]
fn passthru_hands_the_parent_to_the_guest() {
    let world = World::new();
    let parent = world.host.mac(World::PARENT);
    assert!(world.host.pings(World::LAN_V4), "the host, before");
    let args = ["--type", "macvlan", "--parent", World::PARENT, "--mode", "passthru"];
    let printed = printed_mac(&world.host, &[&args[..], &["--socket-path", "vm1.sock"]].concat());
    assert_eq!(printed, parent);

    let mut scene = Scene::new(world, &["type=macvlan,mode=passthru".to_string()], &[&printed]);
    for hairpin in [false, true] {
        scene.world.set_hairpin(hairpin);
        scene.check(hairpin, G1, Host, false);
        scene.check(hairpin, Host, G1, false);
        scene.check(hairpin, Host, Lan, false);
        scene.check(hairpin, G1, Lan, true);
        scene.check(hairpin, Lan, G1, true);
    }
    scene.world.set_hairpin(false);

    // The guest takes another address, and sends a frame so that it shows.
    scene.guests[0].sh(&format!("ip link set eth0 address {NEW_MAC}"));
    scene.guests[0].run(&format!("ping -c 1 -W 1 {}", World::LAN_V4));
    let followed = || scene.world.host.mac(World::PARENT) == NEW_MAC;
    assert!(wait_until(Duration::from_secs(2), followed), "the parent has not followed");
    scene.check(false, G1, Lan, true);
    scene.check(false, Lan, G1, true);

    scene.backend.kill();
    let own = || scene.world.host.mac(World::PARENT) == parent;
    assert!(wait_until(Duration::from_secs(2), own), "the parent keeps the guest's address");
    scene.world.lan.ip("neigh flush dev eth0");
    assert!(scene.world.host.pings(World::LAN_V4), "the host, afterwards");
    scene.verdict();
}
