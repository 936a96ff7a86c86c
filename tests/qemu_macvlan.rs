//! Userspace ports (`type=macvlan`) with real guests: bulk traffic, the modes, guests that come and go.
//!
//! There is no kernel device between these guests and the LAN, so what the kernel does for a macvtap is
//! done here: who gets a frame, and what a frame has to look like for whom. A sibling may be sent 64 KiB
//! in one frame without a checksum if it takes that, and the LAN must never see such a thing.
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
//! transfer also proves its setting by the back-end's own counters: super-frames only where both sides
//! take them, segments elsewhere. No kernel may have counted a bad checksum, and on the wire this file
//! and tcpdump look at each frame.
//!
//! **Modes.** The tables of `qemu_modes.rs`, which are the kernel's, differing only in what
//! `src/switch/mod.rs` says: private ports do not talk through a reflecting switch either.
//!
//! What can go wrong: guests without KVM are slow (some 50 MiB/s); the times are printed, not judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use common::backend::Backend;
use common::bulk::Payload;
use common::guest::{Guest, GuestConfig, Nic};
use common::inspector::{Inspection, set_offloads};
use common::netns::{World, WorldConfig, assert_nothing_left, wait_until};
use common::scene::{
    G1, G2, Host, LINK_LOCAL, Lan, MAC, Row, Scene, V4, V6, printed_mac, settles,
    two_guests_behave_as,
};

/// What a guest changes its MAC address to.
const NEW_MAC: &str = "52:54:00:00:00:99";

const PAYLOAD: usize = 100 << 20;

/// The guests' rings: as the program tells to make them, and as QEMU makes them by itself. Frames from
/// the LAN go to the guest or nowhere, so the short ring loses some, and TCP slows down for that.
const RINGS: [&str; 2] =
    ["rx_queue_size=1024,tx_queue_size=1024", "rx_queue_size=256,tx_queue_size=256"];

/// Frames that tcpdump looks at in each transfer to the LAN.
const DUMPED: u32 = 1000;

/// What a guest's network device can do, in the order of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offload {
    /// All that the back-end offers.
    All,
    /// Checksums, no segmentation.
    NoTso,
    /// Nothing.
    Nothing,
}
use Offload::{All, NoTso, Nothing};

impl Offload {
    const EACH: [Offload; 3] = [All, NoTso, Nothing];
    const NO_TSO: &str = "host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,\
                          guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

    /// Its properties in QEMU, to follow others.
    fn options(self) -> String {
        match self {
            All => String::new(),
            NoTso => format!(",{}", Offload::NO_TSO),
            Nothing => format!(",{},csum=off,guest_csum=off", Offload::NO_TSO),
        }
    }

    fn link(self) -> String {
        format!("eth{}", self as usize)
    }

    fn mac(self, guest: usize) -> String {
        format!("52:54:00:00:0{}:1{}", self as usize, guest + 1)
    }

    fn port(self, guest: usize) -> String {
        format!("vm{}-{}", guest + 1, self as usize)
    }
}

/// Two guests with all their devices, a LAN, and what to move between them.
struct Lab {
    guests: [Guest; 2],
    backend: Backend,
    world: World,
    _dir: TempDir,
    payload: Payload,
    mtu: u32,
    /// What each guest uses now.
    uses: [Offload; 2],
    /// How many pairs of ways were begun: decides about the IP version.
    round: u32,
}

impl Lab {
    fn new(mtu: u32) -> Lab {
        let world = World::with(&WorldConfig { mtu, ..WorldConfig::default() });
        // What leaves the parent is whole, all the way to the LAN's NIC.
        set_offloads(&world.host, World::PARENT, false);
        set_offloads(&world.switch, "p-lan", false);
        let dir = tempfile::tempdir().unwrap();
        let socket = |port: &str| dir.path().join(format!("{port}.sock"));
        let host_mtu = (mtu != 1500).then_some(mtu);
        let mut specs = Vec::new();
        let mut configs = Vec::new();
        for guest in 0..2 {
            let mut nics = Vec::new();
            for offload in Offload::EACH {
                let (port, mac) = (offload.port(guest), offload.mac(guest));
                let mut spec = format!(
                    "type=macvlan,socket={},parent={},name={port},mac={mac}",
                    socket(&port).display(),
                    World::PARENT
                );
                if let Some(mtu) = host_mtu {
                    spec.push_str(&format!(",mtu={mtu}"));
                }
                specs.push(spec);
                let options = format!("{}{}", RINGS[guest], offload.options());
                nics.push(Nic { host_mtu, options, ..Nic::vhost_user(socket(&port), &mac) });
            }
            let label = format!("vm{}", guest + 1);
            configs.push(GuestConfig { label, nics, memory: vec![512], ..GuestConfig::default() });
        }
        let args: Vec<&str> = specs.iter().flat_map(|spec| ["--port", spec]).collect();
        let backend = Backend::start(&world.host, &args);
        let mut guests = [Guest::start(&configs[0]), Guest::start(&configs[1])];
        guests.iter_mut().for_each(Guest::wait_boot);
        let payload = Payload::new(PAYLOAD);
        let uses = [All; 2];
        let mut lab = Lab { guests, backend, world, _dir: dir, payload, mtu, uses, round: 0 };
        lab.use_devices([All; 2]);
        lab
    }

    /// Each guest uses this device and no other.
    fn use_devices(&mut self, uses: [Offload; 2]) {
        for (n, guest) in self.guests.iter_mut().enumerate() {
            let (before, now) = (self.uses[n].link(), uses[n].link());
            guest.sh(&format!("ip addr flush dev {before}; ip link set {before} down"));
            guest.configure(&now, V4[n], V6[n]);
            assert_eq!(guest.sh(&format!("cat /sys/class/net/{now}/mtu")).trim(), {
                self.mtu.to_string()
            });
            let able = guest.sh(&format!("ethtool -k {now}"));
            let (tso, sums) = match uses[n] {
                All => ("on", "on"),
                NoTso => ("off", "on"),
                Nothing => ("off", "off"),
            };
            assert!(able.contains(&format!("\ntcp-segmentation-offload: {tso}")), "{able}");
            assert!(able.contains(&format!("\ntx-checksumming: {sums}")), "{able}");
        }
        self.uses = uses;
        // Everybody knows the addresses of the devices before.
        self.world.lan.ip("neigh flush dev eth0");
        for (guest, used) in self.guests.iter_mut().zip(uses) {
            guest.sh(&format!("ip neigh flush dev {}", used.link()));
            assert!(guest.pings(World::LAN_V4), "{used:?}");
        }
        assert!(self.guests[0].pings(V4[1]));
    }

    /// The IP versions of the two directions that come next. The other way round with the other MTU,
    /// and in the next round.
    fn next_versions(&mut self) -> [u8; 2] {
        self.round += 1;
        let turned = (self.round + u32::from(self.mtu == 1500)).is_multiple_of(2);
        if turned { [4, 6] } else { [6, 4] }
    }

    /// How many segments the payload makes; Linux uses time stamps.
    fn segments(&self, version: u8) -> u64 {
        let headers = if version == 4 { 20 + 32 } else { 40 + 32 };
        self.payload.len() as u64 / u64::from(self.mtu - headers)
    }

    /// What the port of the device that a guest uses has moved so far.
    fn moved(&self, guest: usize) -> Moved {
        Moved::of(&self.backend, &self.uses[guest].port(guest))
    }

    /// Both ways between the guests.
    fn between_guests(&mut self) {
        let versions = self.next_versions();
        for ((from, to), version) in [(0, 1), (1, 0)].into_iter().zip(versions) {
            let before = [self.moved(from), self.moved(to)];
            let address = if version == 4 { V4[to] } else { V6[to] };
            let [first, second] = &mut self.guests;
            let (sender, receiver) = if from == 0 { (first, second) } else { (second, first) };
            let took = self.payload.guest_to_guest(sender, receiver, address);
            let after = [self.moved(from), self.moved(to)];
            let sent = after[0].from_guest - before[0].from_guest;
            let received = after[1].to_guest - before[1].to_guest;
            let (a, b) = (self.uses[from], self.uses[to]);
            let way = format!("guest {from} ({a:?}) to guest {to} ({b:?}), IPv{version}");
            self.tell(&way, took, &format!("sent {sent}, received {received}; {}", after[1].drops));
            self.judge(&format!("{way}: sent"), sent, version, a == All);
            self.judge(&format!("{way}: received"), received, version, a == All && b == All);
        }
    }

    /// Both ways between a guest and the LAN, whose own offloads are on or off.
    fn with_lan(&mut self, n: usize, lan_offloads: bool) {
        // The wire to the parent: what the LAN's NIC leaves unfinished passes the switch's port, too.
        set_offloads(&self.world.switch, "p-host", lan_offloads);
        set_offloads(&self.world.lan, "eth0", lan_offloads);
        let used = self.uses[n];
        let word = if lan_offloads { "on" } else { "off" };

        let [version, back] = self.next_versions();
        let address = lan_address(version);
        let before = self.moved(n);
        let took = self.payload.lan_to_guest(&self.world.lan, &mut self.guests[n], address);
        let after = self.moved(n);
        let received = after.to_guest - before.to_guest;
        let way = format!("LAN (TSO {word}) to guest {n} ({used:?}), IPv{version}");
        self.tell(&way, took, &format!("received {received}; {}", after.drops));
        self.judge(&way, received, version, lan_offloads && used == All);

        let version = back;
        let address = lan_address(version);
        let inspection = Inspection::begin(&self.world.lan, "eth0", DUMPED);
        let took = self.payload.guest_to_lan(&mut self.guests[n], &self.world.lan, address);
        let seen = inspection.end();
        let sent = self.moved(n).from_guest - after.from_guest;
        let way = format!("guest {n} ({used:?}) to LAN (TSO {word}), IPv{version}");
        self.tell(&way, took, &format!("sent {sent}, {seen:?}"));
        self.judge(&way, sent, version, used == All);
        assert_eq!(seen.wrong, 0, "{way}: wrong checksums on the wire");
        assert_eq!(seen.tcpdump.1, 0, "{way}: wrong checksums, says tcpdump");
        assert!(seen.longest <= self.mtu as usize + 14, "{way}: {} bytes in a frame", seen.longest);
        assert!(seen.frames >= self.segments(version) / 4, "{way}: too few frames looked at");
        assert!(seen.tcpdump.0 >= DUMPED as usize / 2, "{way}: tcpdump has seen too few");
    }

    fn tell(&self, way: &str, took: Duration, rest: &str) {
        let rate = (PAYLOAD >> 20) as f64 / took.as_secs_f64();
        eprintln!("MTU {}: {way}: {took:.1?} ({rate:.0} MiB/s), {rest}", self.mtu);
    }

    /// Super-frames, far fewer than there are segments, or one frame for each segment.
    fn judge(&self, way: &str, moved: Count, version: u8, large: bool) {
        let segments = self.segments(version);
        match large {
            true => assert!(moved.frames < segments / 2, "{way}: {moved} of {segments} segments"),
            false => assert!(moved.frames >= segments, "{way}: {moved} of {segments} segments"),
        }
    }

    /// Datagrams that no frame can hold, to the LAN and to the sibling: cut up and put together by the
    /// guests, whatever their devices can do, and summed up by both.
    fn fragments(&mut self) {
        for n in 0..2 {
            for address in [World::LAN_V4, World::LAN_V6, V4[1 - n], V6[1 - n]] {
                self.guests[n].sh(&format!("ping -c 1 -W 5 -s 65000 {address}"));
            }
        }
    }

    /// Nobody has met a bad checksum, and the program has refused nothing.
    fn verdict(mut self) {
        for n in 0..2 {
            assert_eq!(bad_checksums(&self.guests[n].sh("cat /proc/net/snmp")), 0, "guest {n}");
            for offload in Offload::EACH {
                let port = offload.port(n);
                let drops = Moved::of(&self.backend, &port).drops;
                for reason in ["header", "refused", "repaired", "long", "chain", "foreign"] {
                    assert!(!drops.contains(reason), "{port}: {drops}");
                }
            }
        }
        assert_eq!(bad_checksums(&self.world.lan.sh("cat /proc/net/snmp")), 0, "the LAN");
        drop(self);
        assert_nothing_left();
    }
}

fn lan_address(version: u8) -> &'static str {
    if version == 4 { World::LAN_V4 } else { World::LAN_V6 }
}

/// TCP segments (of both IP versions) that a kernel has found to have a bad checksum.
fn bad_checksums(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names.split(' ').position(|name| name == "InCsumErrors").unwrap();
    values.split(' ').nth(column).unwrap().parse().unwrap()
}

/// Frames and bytes.
#[derive(Clone, Copy, Debug)]
struct Count {
    frames: u64,
    bytes: u64,
}

impl std::ops::Sub for Count {
    type Output = Count;

    fn sub(self, before: Count) -> Count {
        Count { frames: self.frames - before.frames, bytes: self.bytes - before.bytes }
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames of {} bytes", self.frames, self.bytes / self.frames.max(1))
    }
}

/// A port's counters, which the program logs when it gets SIGUSR1.
#[derive(Clone, Debug)]
struct Moved {
    from_guest: Count,
    to_guest: Count,
    /// What was dropped on the way to and from the guest, in the program's words.
    drops: String,
}

impl Moved {
    fn of(backend: &Backend, port: &str) -> Moved {
        let lead = format!("port {port}: from the guest: ");
        let told = |log: &str| log.matches(&lead).count();
        let before = told(&backend.log());
        backend.signal(Signal::SIGUSR1);
        // The whole line, not its beginning.
        let new = || {
            let log = backend.log();
            told(&log) > before && log.ends_with('\n')
        };
        assert!(wait_until(Duration::from_secs(5), new), "{port}: counters are not told");
        let log = backend.log();
        let line = log.rsplit(&lead).next().and_then(|rest| rest.lines().next()).unwrap();
        let (from, to) = line.split_once("; to the guest: ").unwrap();
        let drops = [from, to].map(|side| {
            side.split_once("dropped: ").map_or_else(|| "no drops".to_string(), |(_, d)| d.into())
        });
        Moved { from_guest: count(from), to_guest: count(to), drops: drops.join(" / ") }
    }
}

/// `17 frames (4711 bytes), ...`.
fn count(text: &str) -> Count {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let mut next = || numbers.next().and_then(|word| word.parse().ok()).unwrap();
    Count { frames: next(), bytes: next() }
}

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
        // The second guest is the first one's like: there the LAN has what the guest has not.
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

/// What only the switch's reflection lets pass.
const ISOLATED: Row = Row {
    hairpin: false,
    guest_to_guest: false,
    guest_to_host: false,
    host_to_guest: false,
    everybody: &[Lan],
};

#[test]
fn bridge_joins_the_guests_and_hairpin_the_host() {
    let mut scene = Scene::pair("type=macvlan,mode=bridge");
    let plain = Row { guest_to_guest: true, everybody: &[G2, Lan], ..ISOLATED };
    let reflected = Row {
        hairpin: true,
        guest_to_guest: true,
        guest_to_host: true,
        host_to_guest: true,
        everybody: &[G2, Host, Lan],
    };
    two_guests_behave_as(&mut scene, &[plain, reflected]);
    scene.verdict();
}

#[test]
fn vepa_needs_the_switch_for_everything() {
    let mut scene = Scene::pair("type=macvlan,mode=vepa");
    let reflected = Row {
        hairpin: true,
        guest_to_guest: true,
        guest_to_host: true,
        host_to_guest: true,
        everybody: &[G2, Host, Lan],
    };
    two_guests_behave_as(&mut scene, &[ISOLATED, reflected]);
    scene.verdict();
}

/// Stricter than the kernel: guests that know each other's addresses beforehand do not talk either,
/// reflecting switch or not. (The kernel's behaviour, which `compat` is to have, is in `qemu_modes.rs`.)
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

/// The guest has the parent's address and all that comes in, the host nothing; when the guest takes
/// another address, the parent does. The end gives everything back, be it `kill -9`.
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

    // The guest takes another address, and says something so that it shows.
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

/// Siblings and the LAN find a guest by the addresses that it has just made up, and a clash of addresses
/// is noticed: neighbour discovery is multicast to groups that no NIC knows of. The host says nothing.
#[test]
fn guests_are_found_by_siblings_and_from_outside() {
    let mut scene = Scene::pair("type=macvlan,mode=bridge");
    let taken = "2001:db8::abcd:11";
    let extra = "2001:db8::ef01:22";
    for guest in &mut scene.guests {
        guest.sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
    }
    for address in [taken, extra] {
        scene.guests[0].sh(&format!("ip addr add {address}/64 dev eth0"));
    }
    for address in [taken, extra] {
        settles(&mut scene.guests[0], address, false);
        assert!(scene.guests[1].pings(address), "{address}, by a sibling");
        assert!(scene.world.lan.pings(address), "{address}, by the LAN");
    }
    for [address, owner] in [[taken, "of a sibling"], [World::LAN_V6, "of the LAN"]] {
        scene.guests[1].sh(&format!("ip addr add {address}/64 dev eth0"));
        settles(&mut scene.guests[1], address, true);
        assert!(scene.guests[0].pings(address), "{owner}: {address}");
    }
    // Link-local addresses, too, and by question and answer alone: one answer, from the owner.
    for from in [G1, G2, Lan] {
        for (to, address) in LINK_LOCAL.iter().enumerate().filter(|(n, _)| *n != from as usize) {
            let text = scene.run_at(from, &format!("busybox ping -c 2 -W 2 {address}%eth0")).text;
            assert!(text.contains(" bytes from "), "{from:?} to guest {to}: {text}");
            assert!(!text.contains("DUP"), "{from:?} to guest {to}: {text}");
        }
    }
    let parent = scene.world.host.mac(World::PARENT);
    for (address, owner) in [(World::HOST_V4, parent.as_str()), (V4[0], MAC[0]), (V4[1], MAC[1])] {
        let text = scene.world.lan.run(&format!("busybox arping -b -c 2 -I eth0 {address}")).text;
        let replies: Vec<&str> = text.lines().filter(|line| line.contains("reply from")).collect();
        assert_eq!(replies.len(), 2, "one answer to each question: {text}");
        assert!(replies.iter().all(|line| line.contains(owner)), "{owner} alone: {text}");
    }
    let text = scene.guests[0].run(&format!("arping -b -c 2 -I eth0 {}", V4[1])).text;
    assert_eq!(text.matches("reply from").count(), 2, "{text}");
    assert!(text.contains(MAC[1]), "{text}");
    let text = scene.guests[0].run(&format!("arping -b -c 2 -I eth0 {}", World::HOST_V4)).text;
    assert!(text.contains("Received 0 "), "the host is not reached: {text}");
    scene.verdict();
}

/// A guest reboots, its QEMU is killed, the back-end is killed: the sibling goes on, and the guest is
/// reached again.
#[test]
fn guests_and_the_back_end_come_and_go() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = |n: usize| dir.path().join(format!("vm{n}.sock"));
    let specs: Vec<String> = (0..2)
        .map(|n| {
            let (path, mac) = (socket(n), MAC[n]);
            let path = path.display();
            format!("type=macvlan,socket={path},parent={},name=vm{n},mac={mac}", World::PARENT)
        })
        .collect();
    let args: Vec<&str> = specs.iter().flat_map(|spec| ["--port", spec]).collect();
    let mut backend = Backend::start(&world.host, &args);
    let start = |n: usize| Guest::start(&GuestConfig::vhost_user("vm", socket(n), MAC[n]));
    let (mut guest, mut sibling) = (start(0), start(1));
    sibling.wait_boot();
    sibling.configure("eth0", V4[1], V6[1]);
    let works = |guest: &mut Guest, sibling: &mut Guest, when: &str| {
        for address in [World::LAN_V4, World::LAN_V6, V4[1], V6[1]] {
            assert!(guest.pings(address), "{when}: {address} does not answer the guest");
        }
        assert!(world.lan.pings(V4[0]) && world.lan.pings(V6[0]), "{when}: from the LAN");
        assert!(sibling.pings(V4[0]) && sibling.pings(V6[0]), "{when}: from the sibling");
    };
    let boots = |guest: &mut Guest, sibling: &mut Guest, when: &str| {
        guest.configure("eth0", V4[0], V6[0]);
        works(guest, sibling, when);
    };
    guest.wait_boot();
    boots(&mut guest, &mut sibling, "at first");

    guest.reboot();
    boots(&mut guest, &mut sibling, "after a reboot");
    guest.reset();
    boots(&mut guest, &mut sibling, "after a reset");

    guest.kill();
    assert!(sibling.pings(World::LAN_V4), "the sibling without the guest");
    assert!(sibling.silent(V4[0]), "nobody answers for a guest that has gone");
    drop(guest);
    let mut guest = start(0);
    guest.wait_boot();
    boots(&mut guest, &mut sibling, "in another QEMU");

    backend.kill();
    assert!(guest.silent(V4[1]), "without a back-end");
    backend = Backend::start(&world.host, &args);
    let back = || backend.log().matches("front-end (process ").count() >= 2;
    assert!(wait_until(Duration::from_secs(10), back), "the guests do not come back");
    works(&mut guest, &mut sibling, "with another back-end");
    assert!(backend.stop(Duration::from_secs(2)).success());
    drop((guest, sibling, backend, world));
    assert_nothing_left();
}
