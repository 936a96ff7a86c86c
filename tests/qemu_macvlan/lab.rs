//! The laboratory for bulk traffic: two guests with a device for each setting of the offloads, and
//! a LAN.
//!
//! Three witnesses judge a transfer: the bytes at its end (`testkit::bulk`); the back-end's
//! counters of the ports concerned before and after, which show how large the frames were; and the
//! wire (`testkit::inspector`). The abilities of both sides decide which frames may be large.
//!
//! What can go wrong: a guest that changes over to another of its devices has another MAC address,
//! which all other machines must learn: neighbours are forgotten at that moment.

use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use testkit::backend::Backend;
use testkit::bulk::Payload;
use testkit::guest::{Guest, GuestConfig, Nic};
use testkit::inspector::{Inspection, set_offloads};
use testkit::netns::{World, assert_nothing_left, wait_until};
use testkit::scene::{V4, V6};

const PAYLOAD: usize = 100 << 20;

/// The guests' rings: as the printed arguments make them, and as QEMU makes them by itself. Frames
/// from the LAN go to the guest or nowhere, so the short ring loses some, and TCP slows down for
/// that.
const RINGS: [&str; 2] =
    ["rx_queue_size=1024,tx_queue_size=1024", "rx_queue_size=256,tx_queue_size=256"];

/// Frames that tcpdump looks at in each transfer to the LAN.
const DUMPED: u32 = 1000;

/// The offloads of a guest's network device, in the order of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// All that the back-end offers.
    All,
    /// Checksums, no segmentation.
    NoTso,
    /// Nothing.
    Nothing,
}
pub use Offload::{All, NoTso, Nothing};

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

/// Two guests with all their devices, a LAN, and the payload to move between them.
pub struct Lab {
    guests: [Guest; 2],
    backend: Backend,
    world: World,
    _dir: TempDir,
    payload: Payload,
    mtu: u32,
    /// The device that each guest uses now.
    uses: [Offload; 2],
    /// How many pairs of ways were begun: decides about the IP version.
    round: u32,
}

impl Lab {
    pub fn new(mtu: u32) -> Lab {
        let world = World::with_mtu(mtu);
        // Frames that leave the parent are whole, all the way to the LAN's NIC.
        set_offloads(&world.host, World::PARENT, false);
        set_offloads(&world.switch, "p-lan", false);
        let dir = tempfile::tempdir().unwrap();
        let socket = |port: &str| dir.path().join(format!("{port}.sock"));
        let host_mtu = (mtu != 1500).then_some(mtu);
        let mut specs = Vec::new();
        let mut configs = Vec::new();
        for (guest, rings) in RINGS.iter().enumerate() {
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
                let options = format!("{rings}{}", offload.options());
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
    pub fn use_devices(&mut self, uses: [Offload; 2]) {
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
        // All machines know the addresses of the devices before.
        self.world.lan.ip("neigh flush dev eth0");
        for (guest, used) in self.guests.iter_mut().zip(uses) {
            guest.sh(&format!("ip neigh flush dev {}", used.link()));
            assert!(guest.pings(World::LAN_V4), "{used:?}");
        }
        assert!(self.guests[0].pings(V4[1]));
    }

    /// The IP versions of the two directions that come next. The other way round with the other
    /// MTU, and in the next round.
    fn next_versions(&mut self) -> [u8; 2] {
        self.round += 1;
        let turned = (self.round + u32::from(self.mtu == 1500)).is_multiple_of(2);
        if turned { [4, 6] } else { [6, 4] }
    }

    /// How many segments the payload makes; Linux uses time stamps.
    fn segments(&self, version: u8) -> u64 {
        let headers = if version == 4 { 20 + 32 } else { 40 + 32 };
        self.payload.bytes() as u64 / u64::from(self.mtu - headers)
    }

    /// The frames that the port of a guest's device has moved so far.
    fn moved(&self, guest: usize) -> Moved {
        Moved::of(&self.backend, &self.uses[guest].port(guest))
    }

    /// Both ways between the guests.
    pub fn between_guests(&mut self) {
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
    pub fn with_lan(&mut self, n: usize, lan_offloads: bool) {
        // The wire to the parent: frames that the LAN's NIC leaves unfinished pass the switch's
        // port, too.
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

    /// Datagrams that no frame can hold, to the LAN and to the sibling: the guests cut them up and
    /// put them together, with any device, and both sum them up.
    pub fn fragments(&mut self) {
        for n in 0..2 {
            for address in [World::LAN_V4, World::LAN_V6, V4[1 - n], V6[1 - n]] {
                self.guests[n].sh(&format!("ping -c 1 -W 5 -s 65000 {address}"));
            }
        }
    }

    /// No machine has met a bad checksum, and the program has refused nothing.
    pub fn verdict(mut self) {
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
    /// The frames dropped on the way to and from the guest, in the program's words.
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
