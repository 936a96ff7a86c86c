//! Two guests, the host that carries them and a machine on the LAN: which of them reach each other.
//!
//! A [`Scene`] is a [`World`] with a back-end and its guests. [`Scene::check`] tests whether one
//! machine reaches another over IPv4 and over IPv6; [`Scene::check_everybody`] tests which machines
//! receive a broadcast and a multicast. [`Scene::verdict`] reports all collected failures together.
//!
//! Unicast says little about broadcast and multicast, which go other ways. So a machine also pings
//! all machines (192.0.2.255 and ff02::1), and exactly the right ones may answer, each once.
//!
//! Neighbours are forgotten before each check. A machine learns the address of one that asks it.
//! Without this a connection that cannot start in one direction would work after the other one was
//! tried.
//!
//! A test can only wait to see that a machine stays silent, and guests are slow. The two IP
//! versions are independent and are therefore tested side by side.
//!
//! What can go wrong: a guest that cannot keep up for two seconds looks silent. That would hide a
//! fault only where silence is right, and show as one where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::backend::Backend;
use crate::guest::{Guest, GuestConfig};
use crate::netns::{Netns, Output, World, assert_nothing_left, wait_until};

/// The guests' addresses, in the order of the guests.
pub const MAC: [&str; 2] = ["52:54:00:00:00:11", "52:54:00:00:00:12"];
pub const V4: [&str; 2] = ["192.0.2.11", "192.0.2.12"];
pub const V6: [&str; 2] = ["2001:db8::11", "2001:db8::12"];
pub const LINK_LOCAL: [&str; 2] = ["fe80::5054:ff:fe00:11", "fe80::5054:ff:fe00:12"];

/// A machine of the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    G1,
    G2,
    Host,
    Lan,
    /// A second machine on the LAN, in the scenes that have one.
    Other,
}
pub use Who::{G1, G2, Host, Lan, Other};

impl Who {
    pub fn addresses(self) -> [&'static str; 2] {
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
pub struct Scene {
    pub guests: Vec<Guest>,
    pub backend: Backend,
    pub other: Option<Netns>,
    pub world: World,
    _dir: TempDir,
    pub wrong: Vec<String>,
}

impl Scene {
    /// Starts a back-end with a port for each entry of `ports` (keys of `--port`), and its guests
    /// with these MAC addresses.
    pub fn new(world: World, ports: &[String], macs: &[&str]) -> Scene {
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

    /// Two guests whose ports have these keys: `mode=vepa`.
    pub fn pair(keys: &str) -> Scene {
        let ports: Vec<String> = MAC.iter().map(|mac| format!("{keys},mac={mac}")).collect();
        Scene::new(World::new(), &ports, &MAC)
    }

    /// Plugs a second machine into the LAN.
    pub fn add_other(&mut self) {
        let other = Netns::new("other");
        self.world.plug(&other, "eth0", "p-other");
        for (address, len) in Other.addresses().into_iter().zip([24, 64]) {
            other.add_address("eth0", &format!("{address}/{len}"));
        }
        other.sh(ANSWER_BROADCAST);
        self.other = Some(other);
    }

    /// A machine that is a namespace.
    pub fn netns(&self, who: Who) -> &Netns {
        match who {
            Host => &self.world.host,
            Lan => &self.world.lan,
            Other => self.other.as_ref().expect("a second machine on the LAN"),
            G1 | G2 => panic!("{who:?} is a guest"),
        }
    }

    /// Runs a command at one of the machines.
    pub fn run_at(&mut self, who: Who, script: &str) -> Output {
        match who {
            G1 => self.guests[0].run(script),
            G2 => self.guests[1].run(script),
            _ => self.netns(who).run(script),
        }
    }

    /// All machines forget their neighbours.
    pub fn forget(&mut self) {
        for guest in &mut self.guests {
            guest.sh("ip neigh flush dev eth0");
        }
        for netns in [&self.world.host, &self.world.lan].into_iter().chain(&self.other) {
            netns.ip("neigh flush dev eth0");
        }
    }

    /// Whether `from` reaches `to`, over IPv4 and over IPv6, must be as `expected`.
    pub fn check(&mut self, hairpin: bool, from: Who, to: Who, expected: bool) {
        self.forget();
        // Neighbours need to be found first: five tries where an answer is due.
        let once = |address: &str| match expected {
            true => format!(
                "(for i in 1 2 3 4 5; do busybox ping -c 1 -W 1 {address} && break; done; true)"
            ),
            false => format!("busybox ping -c 2 -W 1 {address}"),
        };
        let [v4, v6] = to.addresses();
        let text = self.run_at(from, &format!("{} & {} & wait", once(v4), once(v6))).text;
        for address in [v4, v6] {
            let answered = text.contains(&format!(" bytes from {address}:"));
            if answered != expected {
                let word = if expected { "must reach" } else { "must not reach" };
                self.wrong.push(format!("hairpin {hairpin}: {from:?} {word} {to:?} at {address}"));
            }
        }
    }

    /// Exactly these machines must answer when `from` pings all machines, each once.
    pub fn check_everybody(&mut self, hairpin: bool, from: Who, expected: &[Who]) {
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

        // An answer may need a neighbour to be found first, and come too late for its ping.
        let everybody = ["192.0.2.255", "ff02::1"];
        let mut answered = [BTreeSet::new(), BTreeSet::new()];
        for _ in 0..3 {
            let pings = everybody.map(|group| format!("busybox ping -c 2 -W 1 -I eth0 {group} &"));
            let text = self.run_at(from, &format!("{} wait", pings.join(" "))).text;
            let mut answers: BTreeMap<(Who, usize, &str), u32> = BTreeMap::new();
            for line in text.lines() {
                let Some((_, answer)) = line.split_once(" bytes from ") else { continue };
                let (address, rest) = answer.split_once(": ").unwrap();
                let sequence = rest.split_whitespace().next().unwrap();
                let who = names.get(address).unwrap_or_else(|| panic!("{address}? {text}"));
                let version = usize::from(address.contains(':'));
                *answers.entry((*who, version, sequence)).or_default() += 1;
            }
            for ((who, version, sequence), count) in answers {
                // A sender receives its own ping, inside its own machine.
                if who == from {
                    continue;
                }
                answered[version].insert(who);
                if count > 1 {
                    self.wrong.push(format!(
                        "hairpin {hairpin}: {from:?} to {}: {who:?} answered {sequence} {count} times",
                        everybody[version]
                    ));
                }
            }
            if answered.iter().all(|answered| answered.is_superset(&expected)) {
                break;
            }
        }
        for (answered, group) in answered.iter().zip(everybody) {
            if *answered != expected {
                self.wrong.push(format!(
                    "hairpin {hairpin}: {from:?} to {group}: {answered:?} answered, \
                     not {expected:?}"
                ));
            }
        }
    }

    /// Nothing was wrong, and nothing is left behind.
    pub fn verdict(self) {
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        drop(self);
        assert_nothing_left();
    }
}

/// Linux ignores broadcast pings over IPv4 by default.
const ANSWER_BROADCAST: &str = "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts";

/// The link-local address of a namespace's `eth0`.
pub fn link_local(netns: &Netns) -> String {
    let text = netns.ip("-6 -o addr show dev eth0 scope link");
    let address = text.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next());
    address.unwrap_or_else(|| panic!("no link-local address: {text}")).to_string()
}

/// The documented reachability of a mode, with and without hairpin. The LAN always reaches the
/// guests, and they reach the LAN.
pub struct Row {
    pub hairpin: bool,
    pub guest_to_guest: bool,
    pub guest_to_host: bool,
    pub host_to_guest: bool,
    /// The machines that receive a broadcast of the first guest.
    pub everybody: &'static [Who],
}

/// Each row is true.
pub fn two_guests_behave_as(scene: &mut Scene, rows: &[Row]) {
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
/// The MAC address that the program prints for QEMU with these arguments.
pub fn printed_mac(netns: &Netns, args: &[&str]) -> String {
    let args: Vec<&str> = args.iter().copied().chain(["qemu-args"]).collect();
    let printed = Backend::run(netns, &args, Duration::from_secs(5));
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let text = printed.stdout;
    let mac = text.split("mac=").nth(1).and_then(|rest| rest.get(..17));
    mac.unwrap_or_else(|| panic!("no MAC address in: {text}")).to_string()
}

/// Waits until the guest has checked whether another machine has the address; `true` expects one.
pub fn settles(guest: &mut Guest, address: &str, clash: bool) {
    let mut text = String::new();
    let done = wait_until(Duration::from_secs(10), || {
        text = guest.sh(&format!("ip addr show dev eth0 | grep {address}"));
        text.contains("dadfailed") || !text.contains("tentative")
    });
    assert!(done, "still undecided: {text}");
    assert_eq!(text.contains("dadfailed"), clash, "{text}");
}
