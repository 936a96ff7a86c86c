//! Who reaches whom, mode by mode, with real guests and the IP stacks of four machines.
//!
//! Two guests (in passthru mode one) have ports on one parent; the host that carries them and a
//! machine on the LAN stand for everybody else. Each mode is tried behind a plain switch and behind
//! one that reflects (hairpin, "reflective relay"), which is switched on under the running guests.
//! What must pass is pinged over IPv4 and IPv6, and so must stay silent what must not: the tables
//! below are the documentation's, which was measured with the kernel's own macvlan devices.
//!
//! Unicast says little about broadcast and multicast, which go other ways: so a guest also pings
//! everybody (192.0.2.255 and ff02::1), and exactly the right machines may answer, each once.
//!
//! Neighbours are forgotten before each check. A machine that was asked knows who asked, so without
//! this a connection that cannot start in one direction would work after the other one was tried.
//!
//! A guest that changes its MAC address tells nobody, and the LAN goes on sending to the old one until
//! its neighbour entry is gone: the checks after a change forget the LAN's neighbours first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use common::backend::Backend;
use common::guest::{Guest, GuestConfig};
use common::netns::{Netns, Output, World, assert_nothing_left, wait_until};

/// The guests' addresses, in the order of the guests.
const MAC: [&str; 2] = ["52:54:00:00:00:11", "52:54:00:00:00:12"];
const V4: [&str; 2] = ["192.0.2.11", "192.0.2.12"];
const V6: [&str; 2] = ["2001:db8::11", "2001:db8::12"];
const LINK_LOCAL: [&str; 2] = ["fe80::5054:ff:fe00:11", "fe80::5054:ff:fe00:12"];

/// What a guest changes its MAC address to.
const NEW_MAC: &str = "52:54:00:00:00:99";

/// A machine of the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    G1,
    G2,
    Host,
    Lan,
    /// A second machine on the LAN, in the scenes that have one.
    Other,
}
use Who::{G1, G2, Host, Lan, Other};

impl Who {
    fn addresses(self) -> [&'static str; 2] {
        match self {
            G1 => [V4[0], V6[0]],
            G2 => [V4[1], V6[1]],
            Host => [World::HOST_V4, World::HOST_V6],
            Lan => [World::LAN_V4, World::LAN_V6],
            Other => ["192.0.2.101", "2001:db8::101"],
        }
    }
}

/// One parent, its back-end, and the guests. Dropped in the order of the fields.
struct Scene {
    guests: Vec<Guest>,
    backend: Backend,
    other: Option<Netns>,
    world: World,
    _dir: TempDir,
    wrong: Vec<String>,
}

impl Scene {
    /// Starts a back-end with a port for each entry of `ports` (keys of `--port`), and its guests with
    /// these MAC addresses.
    fn new(world: World, ports: &[String], macs: &[&str]) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let socket = |n: usize| -> PathBuf { dir.path().join(format!("vm{n}.sock")) };
        let specs: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(n, keys)| {
                let n = n + 1;
                format!("socket={},parent={},name=vm{n},{keys}", socket(n).display(), World::PARENT)
            })
            .collect();
        let args: Vec<&str> = specs.iter().flat_map(|spec| ["--port", spec]).collect();
        let backend = Backend::start(&world.host, &args);
        let mut guests: Vec<Guest> = (1..=ports.len())
            .map(|n| {
                let label = format!("vm{n}");
                Guest::start(&GuestConfig::vhost_user(&label, socket(n), macs[n - 1]))
            })
            .collect();
        for (n, guest) in guests.iter_mut().enumerate() {
            guest.wait_boot();
            guest.configure("eth0", V4[n], V6[n]);
            guest.sh(ANSWER_BROADCAST);
        }
        for netns in [&world.host, &world.lan] {
            netns.sh(ANSWER_BROADCAST);
        }
        Scene { guests, backend, other: None, world, _dir: dir, wrong: Vec::new() }
    }

    /// Two guests in this mode.
    fn pair(mode: &str) -> Scene {
        let ports: Vec<String> = MAC.iter().map(|mac| format!("mode={mode},mac={mac}")).collect();
        Scene::new(World::new(), &ports, &MAC)
    }

    /// Plugs a second machine into the LAN.
    fn add_other(&mut self) {
        let other = Netns::new("other");
        self.world.plug(&other, "eth0", "p-other");
        for (address, len) in Other.addresses().into_iter().zip([24, 64]) {
            other.add_address("eth0", &format!("{address}/{len}"));
        }
        other.sh(ANSWER_BROADCAST);
        self.other = Some(other);
    }

    /// A machine that is a namespace.
    fn netns(&self, who: Who) -> &Netns {
        match who {
            Host => &self.world.host,
            Lan => &self.world.lan,
            Other => self.other.as_ref().expect("a second machine on the LAN"),
            G1 | G2 => panic!("{who:?} is a guest"),
        }
    }

    /// Runs a command at one of the machines.
    fn run_at(&mut self, who: Who, script: &str) -> Output {
        match who {
            G1 => self.guests[0].run(script),
            G2 => self.guests[1].run(script),
            _ => self.netns(who).run(script),
        }
    }

    /// Everybody forgets whom it knows.
    fn forget(&mut self) {
        for guest in &mut self.guests {
            guest.sh("ip neigh flush dev eth0");
        }
        for netns in [&self.world.host, &self.world.lan].into_iter().chain(&self.other) {
            netns.ip("neigh flush dev eth0");
        }
    }

    /// Whether `from` reaches `address` must be as `expected`.
    fn check(&mut self, hairpin: bool, from: Who, to: Who, expected: bool) {
        for address in to.addresses() {
            self.forget();
            let as_expected = match (from, expected) {
                (G1, true) => self.guests[0].pings(address),
                (G1, false) => self.guests[0].silent(address),
                (G2, true) => self.guests[1].pings(address),
                (G2, false) => self.guests[1].silent(address),
                (_, true) => self.netns(from).pings(address),
                (_, false) => self.netns(from).silent(address),
            };
            if !as_expected {
                let word = if expected { "must reach" } else { "must not reach" };
                self.wrong.push(format!("hairpin {hairpin}: {from:?} {word} {to:?} at {address}"));
            }
        }
    }

    /// Exactly these machines must answer when `from` pings everybody, each once.
    fn check_everybody(&mut self, hairpin: bool, from: Who, expected: &[Who]) {
        let mut names: BTreeMap<String, Who> = BTreeMap::new();
        for who in [G1, G2, Host, Lan, Other] {
            names.insert(who.addresses()[0].to_string(), who);
        }
        names.insert(LINK_LOCAL[0].to_string(), G1);
        names.insert(LINK_LOCAL[1].to_string(), G2);
        names.insert(link_local(&self.world.host), Host);
        names.insert(link_local(&self.world.lan), Lan);
        if let Some(other) = &self.other {
            names.insert(link_local(other), Other);
        }
        let expected: BTreeSet<Who> = expected.iter().copied().collect();

        for everybody in ["192.0.2.255", "ff02::1"] {
            let mut answered: BTreeSet<Who> = BTreeSet::new();
            // An answer may need a neighbour to be found first, and come too late for its ping.
            for _ in 0..3 {
                let script = format!("busybox ping -c 2 -W 1 -I eth0 {everybody}");
                let text = self.run_at(from, &script).text;
                let mut answers: BTreeMap<(Who, &str), u32> = BTreeMap::new();
                for line in text.lines() {
                    let Some((_, answer)) = line.split_once(" bytes from ") else { continue };
                    let (address, rest) = answer.split_once(": ").unwrap();
                    let sequence = rest.split_whitespace().next().unwrap();
                    let who = names.get(address).unwrap_or_else(|| panic!("{address}? {text}"));
                    *answers.entry((*who, sequence)).or_default() += 1;
                }
                for ((who, sequence), count) in answers {
                    // A sender hears itself, inside its own machine.
                    if who == from {
                        continue;
                    }
                    answered.insert(who);
                    if count > 1 {
                        self.wrong.push(format!(
                            "hairpin {hairpin}: {from:?} to {everybody}: {who:?} answered {sequence} \
                             {count} times"
                        ));
                    }
                }
                if answered.is_superset(&expected) {
                    break;
                }
            }
            if answered != expected {
                self.wrong.push(format!(
                    "hairpin {hairpin}: {from:?} to {everybody}: {answered:?} answered, \
                     not {expected:?}"
                ));
            }
        }
    }

    fn verdict(self) {
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        drop(self);
        assert_nothing_left();
    }
}

/// Linux ignores pings to everybody over IPv4 unless told.
const ANSWER_BROADCAST: &str = "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts";

/// The link-local address of a namespace's `eth0`.
fn link_local(netns: &Netns) -> String {
    let text = netns.ip("-6 -o addr show dev eth0 scope link");
    let address = text.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next());
    address.unwrap_or_else(|| panic!("no link-local address: {text}")).to_string()
}

/// What the documentation says about a mode, with and without hairpin. The LAN always reaches the
/// guests and they it.
struct Row {
    hairpin: bool,
    guest_to_guest: bool,
    guest_to_host: bool,
    host_to_guest: bool,
    /// Who hears what the first guest says to everybody.
    everybody: &'static [Who],
}

fn two_guests_behave_as(scene: &mut Scene, rows: &[Row]) {
    for row in rows {
        let on = row.hairpin;
        scene.world.set_hairpin(on);
        scene.check(on, G1, G2, row.guest_to_guest);
        scene.check(on, G2, G1, row.guest_to_guest);
        scene.check(on, G1, Host, row.guest_to_host);
        scene.check(on, Host, G1, row.host_to_guest);
        for guest in [G1, G2] {
            scene.check(on, guest, Lan, true);
            scene.check(on, Lan, guest, true);
        }
        scene.check_everybody(on, G1, row.everybody);
        let others: &[Who] = if scene.other.is_some() { &[Other] } else { &[] };
        scene.check_everybody(on, Lan, &[&[G1, G2, Host], others].concat());
    }
}

#[test]
fn bridge_joins_the_guests_and_hairpin_the_host() {
    let mut scene = Scene::pair("bridge");
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
    let mut scene = Scene::pair("vepa");
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

/// The kernel only stops what is said to everybody, which is enough to keep neighbours from being
/// found. Guests that know each other's addresses beforehand do talk through a reflecting switch.
#[test]
fn private_guests_do_not_find_each_other() {
    let mut scene = Scene::pair("private");
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

/// A port in source mode hears the listed addresses and nobody else, whomever they speak to. Here each
/// guest lists the other and the LAN machine, and nobody lists the second LAN machine or the host.
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

/// The MAC address that the program tells to give QEMU for these arguments.
fn printed_mac(netns: &Netns, args: &[&str]) -> String {
    let args: Vec<&str> = args.iter().copied().chain(["qemu-args"]).collect();
    let printed = Backend::run(netns, &args, Duration::from_secs(5));
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let text = printed.stdout;
    let mac = text.split("mac=").nth(1).and_then(|rest| rest.get(..17));
    mac.unwrap_or_else(|| panic!("no MAC address in: {text}")).to_string()
}

/// The guest is given the parent itself: its MAC address, and all that comes in. When the guest takes
/// another address the parent has it too, and it gets its own back at the end.
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

    // The guest takes another address, and says something so that it shows.
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

    assert!(!scene.backend.log().contains("foreign MAC"), "counters were not asked for yet");
    scene.backend.signal(Signal::SIGUSR1);
    scene.backend.wait_for_log(" foreign MAC; to the guest: ", Duration::from_secs(2));

    // Its own address works at once.
    scene.guests[0].sh(&format!("ip link set eth0 address {}", MAC[0]));
    scene.check(false, G1, Lan, true);
    scene.check(false, Lan, G1, true);

    // The counters are also told when the guest leaves.
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
    scene.backend.wait_for_log(" has gone", Duration::from_secs(2));
    let own = || scene.world.host.mac("vm1") == MAC[0];
    assert!(wait_until(Duration::from_secs(2), own), "the device keeps the old guest's address");
    let lost = wait_until(Duration::from_millis(500), || !own());
    assert!(!lost, "the device has taken the old guest's address again");
    scene.guests.clear();
    scene.verdict();
}

/// Waits until the guest has checked whether anybody else has the address; it must be so, or not.
fn settles(guest: &mut Guest, address: &str, clash: bool) {
    let mut text = String::new();
    let done = wait_until(Duration::from_secs(10), || {
        text = guest.sh(&format!("ip addr show dev eth0 | grep {address}"));
        text.contains("dadfailed") || !text.contains("tentative")
    });
    assert!(done, "still undecided: {text}");
    assert_eq!(text.contains("dadfailed"), clash, "{text}");
}

/// Guests find each other by IPv6 without the host lifting a finger, detect a clash of addresses, and
/// the host stays mute: no address of its own on their devices, and no answer in their name.
#[test]
fn guests_find_each_other_and_the_host_stays_mute() {
    let mut scene = Scene::pair("bridge");
    // Addresses that have nothing to do with any MAC address, this time with the check for clashes.
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
    // Nor when the guest has gone and only its device is left.
    scene.guests[1].kill();
    scene.guests.truncate(1);
    asked_by_lan(&scene, World::HOST_V4, &parent);
    let answer = scene.guests[0].run(&format!("arping -b -c 3 -I eth0 {}", World::HOST_V4));
    assert!(answer.text.contains("Received 0 "), "{}", answer.text);
    scene.verdict();
}
