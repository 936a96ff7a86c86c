//! The bench: one process with userspace ports on one parent, guests, and the LAN.
//!
//! `rig.rs` has two ports and a bystander; here there may be a hundred, of any mode. Port `n` is
//! called `tn`, and [`mac`]`(n)` is its address unless the test gives none.
//!
//! What can go wrong: a port takes frames only after the control thread has processed the start of
//! its guest's rings, shortly after the handshake. [`Bench::guest`] therefore repeats a frame each
//! way until it arrives.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::driver::{Driver, Frame};
use crate::exchange::in_netns;
use crate::frames::{self, Mac};
use crate::netns::{World, wait_until};
use crate::rig::{LAN_MAC, SECOND, fresh_tag, open_wire};
use crate::vmm::{QemuOptions, Vmm};
use crate::wire::Wire;

/// Between two attempts to get a frame through.
const TRY: Duration = Duration::from_millis(20);

/// The address of port `n`.
pub fn mac(n: usize) -> Mac {
    [0x52, 0x54, 0, 0xcc, (n >> 8) as u8, n as u8]
}

/// The key that gives port `n` its address.
pub fn mac_key(n: usize) -> String {
    format!("mac={}", frames::mac_text(mac(n)))
}

/// A connected guest.
pub struct Guest {
    pub driver: Driver,
    pub vmm: Vmm,
    /// The address that it uses.
    pub mac: Mac,
}

impl Guest {
    /// A guest at this socket, with receive buffers on all of its queue pairs.
    pub fn at(socket: &std::path::Path, mac: Mac, o: &QemuOptions) -> Guest {
        let mut vmm = Vmm::connect(socket);
        let mut driver = vmm.start_like_qemu72(o);
        for pair in 0..o.pairs {
            driver.post_rx(pair, 200, 2048);
        }
        if o.pairs > 1 {
            vmm.guest_sets_pairs(o.pairs, o.pairs);
        }
        Guest { driver, vmm, mac }
    }

    /// Sends one tagged frame.
    pub fn send(&mut self, to: Mac, tag: u64) {
        self.driver.send(0, &[frames::tagged(to, self.mac, tag, 60)]);
    }

    /// Whether the frame with this tag comes.
    pub fn gets(&mut self, tag: u64, timeout: Duration) -> bool {
        self.recv_where(timeout, |f| frames::tag_of(f) == Some(tag)).is_some()
    }

    /// The next frame of any pair that passes the test; others are dropped.
    pub fn recv_where(
        &mut self,
        timeout: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Frame> {
        let pairs = self.driver.pairs.len();
        if pairs == 1 {
            return self.driver.recv_where(0, timeout, wanted);
        }
        let end = Instant::now() + timeout;
        loop {
            for pair in 0..pairs {
                let found = self.driver.recv_where(pair, Duration::from_millis(1), &wanted);
                if found.is_some() {
                    return found;
                }
            }
            if Instant::now() >= end {
                return None;
            }
        }
    }

    /// Throws away what has come.
    pub fn clear(&mut self) {
        for pair in 0..self.driver.pairs.len() {
            while self.driver.recv(pair, Duration::ZERO).is_some() {}
        }
    }
}

/// One process, its parent, the LAN.
pub struct Bench {
    pub backend: Backend,
    pub wire: Wire,
    pub world: World,
    dir: TempDir,
    args: Vec<String>,
}

impl Bench {
    /// `count` bridge ports with addresses of their own.
    pub fn bridge(count: usize, extra: &[&str]) -> Bench {
        let keys: Vec<String> = (0..count).map(mac_key).collect();
        Bench::new(&keys, extra)
    }

    /// A port for each of `keys`, beside socket, parent and name.
    pub fn new<K: AsRef<str>>(keys: &[K], extra: &[&str]) -> Bench {
        Bench::in_world(World::new(), keys, extra)
    }

    /// The same in a world that was prepared. It has no IPv6 from here on: nothing is sent by
    /// itself.
    pub fn in_world<K: AsRef<str>>(world: World, keys: &[K], extra: &[&str]) -> Bench {
        hush(&world);
        let dir = TempDir::new().unwrap();
        let mut args = vec!["--type=macvlan".to_owned()];
        for (n, keys) in keys.iter().enumerate() {
            let socket = dir.path().join(format!("{n}.sock"));
            args.push("--port".to_owned());
            let own = format!("socket={},parent=eth0,name=t{n}", socket.display());
            args.push(if keys.as_ref().is_empty() {
                own
            } else {
                format!("{own},{}", keys.as_ref())
            });
        }
        args.extend(extra.iter().map(|word| (*word).to_owned()));
        let backend = start(&world, &args);
        let wire = open_wire(&world);
        Bench { backend, wire, world, dir, args }
    }

    /// The same command line once more.
    pub fn start_again(&mut self) {
        self.backend = start(&self.world, &self.args);
    }

    pub fn socket(&self, port: usize) -> PathBuf {
        self.dir.path().join(format!("{port}.sock"))
    }

    /// A guest that may not be on the network yet.
    pub fn connect(&self, port: usize, mac: Mac, o: &QemuOptions) -> Guest {
        Guest::at(&self.socket(port), mac, o)
    }

    /// A guest with the port's address, on the network.
    pub fn guest(&self, port: usize) -> Guest {
        self.guest_with(port, mac(port), &QemuOptions::default())
    }

    /// The same with another address or other options.
    pub fn guest_with(&self, port: usize, mac: Mac, o: &QemuOptions) -> Guest {
        let mut guest = self.connect(port, mac, o);
        self.wait_for_wire(&mut guest, 5 * SECOND);
        guest
    }

    /// Repeats a frame each way until both have arrived, and returns how long that took.
    pub fn wait_for_wire(&self, guest: &mut Guest, timeout: Duration) -> Duration {
        let start = Instant::now();
        let (mut out, mut into) = (false, false);
        while !(out && into) {
            let took = start.elapsed();
            assert!(took < timeout, "no wire after {took:?} (out {out}, in {into})");
            if !out {
                out = self.reaches_lan(guest, TRY);
            }
            if !into {
                into = self.reached_from_lan(guest, TRY);
            }
        }
        start.elapsed()
    }

    /// Whether one frame of the guest's gets to the LAN.
    pub fn reaches_lan(&self, guest: &mut Guest, timeout: Duration) -> bool {
        let tag = fresh_tag();
        guest.send(LAN_MAC, tag);
        self.wire.recv_tag(tag, timeout).is_some()
    }

    /// Whether one frame from the LAN to the guest's address gets there.
    pub fn reached_from_lan(&self, guest: &mut Guest, timeout: Duration) -> bool {
        let to = guest.mac;
        self.reached_at(guest, to, timeout)
    }

    /// The same for a frame to any address.
    pub fn reached_at(&self, guest: &mut Guest, to: Mac, timeout: Duration) -> bool {
        let tag = fresh_tag();
        self.wire.send(&frames::tagged(to, LAN_MAC, tag, 60));
        guest.gets(tag, timeout)
    }

    /// A guest disconnects; returns once the process has released everything that it held for the
    /// guest. Does not watch the log, where lines about connections are limited.
    pub fn leaves(&self, guest: Guest) {
        let with = self.backend.fds().len();
        drop(guest);
        let noticed = wait_until(2 * SECOND, || self.backend.fds().len() < with);
        assert!(noticed, "a front-end's leaving is not noticed");
    }

    /// How often the log contains this text.
    pub fn said(&self, text: &str) -> usize {
        self.backend.log().matches(text).count()
    }

    pub fn wait_said(&self, text: &str, times: usize, timeout: Duration) {
        let enough = wait_until(timeout, || self.said(text) >= times);
        assert!(enough, "the log says '{text}' only {} times in {timeout:?}", self.said(text));
    }

    /// The port's counters, which the process logs at SIGUSR1.
    pub fn counters(&self, port: usize) -> String {
        let start = format!("port t{port}: from the guest:");
        let before = self.said(&start);
        self.backend.signal(Signal::SIGUSR1);
        self.wait_said(&start, before + 1, 5 * SECOND);
        let log = self.backend.log();
        let line = log.lines().rev().find(|line| line.contains(&start)).unwrap();
        line.split_once(&start).unwrap().1.to_owned()
    }

    /// How many frames the port has dropped for this reason, in both directions together.
    pub fn dropped_for(&self, port: usize, reason: &str) -> u64 {
        let line = self.counters(port);
        let parts = line.split([',', ';', ':']).filter_map(|part| part.trim().split_once(' '));
        parts.filter(|(_, why)| *why == reason).filter_map(|(n, _)| n.parse::<u64>().ok()).sum()
    }
}

fn start(world: &World, args: &[String]) -> Backend {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Backend::start(&world.host, &args)
}

/// No IPv6: what a test has not sent is not there.
pub fn hush(world: &World) {
    for ns in [&world.host, &world.lan] {
        ns.set_ipv6("all", false);
        ns.set_ipv6("default", false);
    }
}

/// The parent's state as other programs see it: address, flags, promiscuity and allmulti counts,
/// and the addresses that it takes.
pub fn state_of_parent(world: &World) -> String {
    let link = world.host.ip("-d link show eth0");
    let filters = world.host.sh("bridge fdb show dev eth0; ip maddress show dev eth0");
    without_remarks(&format!("{link}{filters}"))
}

/// Without iproute2's remark about the far end of a veth that is about to be deleted, perhaps by
/// another test.
pub fn without_remarks(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("Error:"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The host's own stack and the LAN's, without neighbour discovery in between.
pub struct HostTalk {
    host: UdpSocket,
    lan: UdpSocket,
}

impl HostTalk {
    /// A socket on each side. The neighbours are fixed, so a failure concerns the path and not the
    /// neighbour discovery.
    pub fn new(world: &World) -> HostTalk {
        let (host_mac, lan_mac) = (world.host.mac("eth0"), world.lan.mac("eth0"));
        let (host_ip, lan_ip) = (World::HOST_V4, World::LAN_V4);
        world.host.ip(&format!("neigh replace {lan_ip} lladdr {lan_mac} nud permanent dev eth0"));
        world.lan.ip(&format!("neigh replace {host_ip} lladdr {host_mac} nud permanent dev eth0"));
        let socket = |netns, ip: &'static str| {
            let socket = in_netns(netns, move || UdpSocket::bind((ip, 7777)).unwrap());
            socket.set_read_timeout(Some(TRY)).unwrap();
            socket
        };
        // Not bound to an address, so that it receives broadcasts.
        HostTalk { host: socket(&world.host, "0.0.0.0"), lan: socket(&world.lan, lan_ip) }
    }

    /// Whether a datagram gets there and another one back, at the first attempt.
    pub fn works(&self) -> bool {
        let there = fresh_tag().to_be_bytes();
        self.host.send_to(&there, (World::LAN_V4, 7777)).is_ok()
            && received(&self.lan, &there)
            && self.answered()
    }

    /// Whether a datagram from the LAN reaches the host.
    pub fn answered(&self) -> bool {
        let back = fresh_tag().to_be_bytes();
        self.lan.send_to(&back, (World::HOST_V4, 7777)).is_ok() && received(&self.host, &back)
    }

    /// Whether a broadcast of the LAN reaches the host.
    pub fn hears_broadcast(&self) -> bool {
        let call = fresh_tag().to_be_bytes();
        self.lan.set_broadcast(true).unwrap();
        self.lan.send_to(&call, ("192.0.2.255", 7777)).unwrap();
        received(&self.host, &call)
    }

    /// Whether the host's stack gets a raw datagram of the LAN from this address.
    pub fn hears(&self, wire: &Wire, from: Mac, to: Mac) -> bool {
        let data = fresh_tag().to_be_bytes();
        let end = |mac, ip: &str| {
            let ip: std::net::Ipv4Addr = ip.parse().unwrap();
            frames::End { mac, ip: ip.octets(), port: 7777 }
        };
        wire.send(&frames::udp4(end(from, World::LAN_V4), end(to, World::HOST_V4), &data));
        received(&self.host, &data)
    }

    /// Tries until it works and returns how long that took.
    pub fn wait(&self, timeout: Duration) -> Duration {
        let start = Instant::now();
        while !self.works() {
            let took = start.elapsed();
            assert!(took < timeout, "the host does not talk with the LAN after {took:?}");
        }
        start.elapsed()
    }
}

fn received(socket: &UdpSocket, wanted: &[u8]) -> bool {
    let mut bytes = [0; 64];
    loop {
        match socket.recv(&mut bytes) {
            Ok(len) if bytes.get(..len) == Some(wanted) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
