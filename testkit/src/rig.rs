//! The usual test bench: one parent, two ports of one process, a LAN, and a bystander.
//!
//! Tests treat port 0 as they need. Port 1 is the *bystander*: a well-behaved guest of the same
//! process. After each deed to port 0, `unharmed` checks that the process lives and that the
//! bystander still exchanges frames with the LAN, both ways. A hostile test that checked only its
//! own port would miss the case that matters to the operator: one guest takes down the others.
//!
//! `frame_out` and `frame_in` move one tagged frame between a guest and the LAN and compare every
//! byte.
//!
//! What can go wrong: a LAN takes a moment to come up (carrier, bridge of macvlan); the first frame
//! is therefore repeated by `link_up`, and only it. All later frames are sent once and must arrive.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::driver::Driver;
use crate::frames::{self, Mac};
use crate::netns::World;
use crate::vmm::{QemuOptions, Vmm};
use crate::wire::Wire;

pub const MACS: [Mac; 2] = [[0x52, 0x54, 0, 0xaa, 0, 1], [0x52, 0x54, 0, 0xaa, 0, 2]];
pub const LAN_MAC: Mac = [0x52, 0x54, 0, 0xbb, 0, 9];
pub const SECOND: Duration = Duration::from_secs(1);
/// For events that must come, however late: a shared machine stands still for a second at times. A
/// test that claims a time measures it.
pub const ARRIVAL: Duration = Duration::from_secs(10);
/// Long enough to conclude that no frame comes.
pub const SILENCE: Duration = Duration::from_millis(150);

/// The two types of port that the program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortType {
    /// A device of the kernel.
    Macvtap,
    /// A port of our own switch.
    Macvlan,
}
pub use PortType::{Macvlan, Macvtap};

/// Makes two tests of each function that is named, `macvtap::NAME` and `macvlan::NAME`: the
/// function is given the type. A function that is forgotten here is dead code to the compiler.
#[macro_export]
macro_rules! for_each_port_type {
    ($($test:ident),* $(,)?) => {
        mod macvtap {
            $(#[test] fn $test() { super::$test($crate::rig::Macvtap) })*
        }
        mod macvlan {
            $(#[test] fn $test() { super::$test($crate::rig::Macvlan) })*
        }
    };
}

pub struct Rig {
    pub backend: Backend,
    pub wire: Wire,
    pub world: World,
    bystander: Option<(Vmm, Driver)>,
    dir: TempDir,
    args: Vec<String>,
}

/// A tag that no other frame of this test process has.
pub fn fresh_tag() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    (u64::from(std::process::id()) << 32) | NEXT.fetch_add(1, Ordering::Relaxed)
}

/// No IPv6 in the world: neighbour discovery would take receive buffers that a test has counted.
fn hush(world: &World) {
    for ns in [&world.host, &world.lan] {
        ns.set_ipv6("all", false);
    }
}

/// One more raw socket at the LAN's end.
pub fn open_wire(world: &World) -> Wire {
    Wire::open(Some(world.lan.name()), "eth0")
}

impl Rig {
    pub fn new(ports: PortType) -> Rig {
        Rig::with(ports, &[])
    }

    /// With more arguments for the back-end.
    pub fn with(ports: PortType, extra: &[&str]) -> Rig {
        let world = World::new();
        hush(&world);
        let dir = TempDir::new().expect("a directory for the sockets");
        let mut args = Vec::new();
        for (i, mac) in MACS.iter().enumerate() {
            args.push("--port".to_owned());
            args.push(format!(
                "socket={},parent={},mac={},name=t{i},queue-pairs=2",
                dir.path().join(format!("{i}.sock")).display(),
                World::PARENT,
                frames::mac_text(*mac)
            ));
        }
        if ports == Macvlan {
            args.push("--type=macvlan".to_owned());
        }
        args.extend(extra.iter().map(|s| (*s).to_owned()));
        let backend = Rig::spawn(&world, &args);
        let wire = open_wire(&world);
        Rig { backend, wire, world, bystander: None, dir, args }
    }

    fn spawn(world: &World, args: &[String]) -> Backend {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Backend::start(&world.host, &args)
    }

    pub fn socket(&self, port: usize) -> PathBuf {
        self.dir.path().join(format!("{port}.sock"))
    }

    pub fn connect(&self, port: usize) -> Vmm {
        Vmm::connect(&self.socket(port))
    }

    /// Ends the process as a crash does and starts it again with the same arguments.
    pub fn crash_and_restart(&mut self) {
        self.backend.kill();
        self.bystander = None;
        self.backend = Rig::spawn(&self.world, &self.args);
    }

    /// A guest on port 0 in QEMU's way, with receive buffers posted and the link proven.
    pub fn guest(&mut self, o: &QemuOptions) -> (Vmm, Driver) {
        let mut vmm = Vmm::connect_served(&self.socket(0));
        let mut driver = vmm.start_like_qemu72(o);
        driver.post_rx(0, 64, 2048);
        self.link_up(&mut driver, 0);
        (vmm, driver)
    }

    /// Repeats a frame each way until it arrives, once per connection.
    pub fn link_up(&self, driver: &mut Driver, port: usize) {
        self.link_up_on(driver, port, 1);
    }

    /// The same when frames may come in on any pair.
    pub fn link_up_on_all(&self, driver: &mut Driver, port: usize) {
        self.link_up_on(driver, port, driver.pairs.len());
    }

    fn link_up_on(&self, driver: &mut Driver, port: usize, pairs: usize) {
        let deadline = Instant::now() + ARRIVAL;
        let (mut out, mut into) = (false, false);
        while !(out && into) {
            let what = format!("port {port}: out {out}, in {into}");
            assert!(Instant::now() < deadline, "no link within {ARRIVAL:?} ({what})");
            if !out {
                let tag = fresh_tag();
                driver.send(0, &[frames::tagged(LAN_MAC, MACS[port], tag, 60)]);
                out = self.wire.recv_tag(tag, SILENCE).is_some();
            }
            if !into {
                let tag = fresh_tag();
                self.wire.send(&frames::tagged(MACS[port], LAN_MAC, tag, 60));
                let mine = |f: &[u8]| frames::tag_of(f) == Some(tag);
                into = (0..pairs).any(|p| driver.recv_where(p, SILENCE, mine).is_some());
            }
        }
    }

    /// One frame from the guest to the LAN.
    pub fn frame_out(&self, driver: &mut Driver, port: usize, pair: usize, len: usize) {
        let tag = fresh_tag();
        let frame = frames::tagged(LAN_MAC, MACS[port], tag, len);
        driver.send(pair, std::slice::from_ref(&frame));
        let got = self.wire.recv_tag(tag, ARRIVAL);
        assert!(
            got.is_some(),
            "port {port} pair {pair}: no frame to the LAN;{}",
            self.counters(port)
        );
        assert_eq!(got.as_deref(), Some(&frame[..]), "port {port} pair {pair}: frame to the LAN");
    }

    /// One frame from the LAN to the guest; returns the pair that it came in on.
    pub fn frame_in(&self, driver: &mut Driver, port: usize, len: usize) -> usize {
        let tag = fresh_tag();
        let frame = frames::tagged(MACS[port], LAN_MAC, tag, len);
        self.wire.send(&frame);
        // The kernel picks the queue, so look at all of them in turn.
        let deadline = Instant::now() + ARRIVAL;
        loop {
            for pair in 0..driver.pairs.len() {
                let mine = |f: &[u8]| frames::tag_of(f) == Some(tag);
                if let Some(f) = driver.recv_where(pair, Duration::from_millis(20), mine) {
                    assert_eq!(f.bytes, frame, "port {port} pair {pair}: frame from the LAN");
                    return pair;
                }
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "port {port}: no frame from the LAN;{}", self.counters(port));
        }
    }

    /// Fills receive buffers of pair 0 until the back-end has none left. Set `driver.refill` to
    /// false first.
    pub fn use_up_rx(&self, driver: &mut Driver, port: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while driver.pairs[0].rx.outstanding() > 0 {
            let left = driver.pairs[0].rx.outstanding();
            assert!(Instant::now() < deadline, "{left} receive buffers are never filled");
            self.wire.send(&frames::tagged(MACS[port], LAN_MAC, fresh_tag(), 60));
            driver.recv(0, Duration::from_millis(20));
        }
    }

    pub fn both_ways(&self, driver: &mut Driver, port: usize) {
        self.frame_out(driver, port, 0, 60);
        self.frame_in(driver, port, 60);
        self.frame_out(driver, port, 0, 1514);
        self.frame_in(driver, port, 1514);
    }

    /// The bystander's guest starts; hostile tests call it first.
    pub fn bystander(&mut self) {
        let mut vmm = Vmm::connect_served(&self.socket(1));
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        driver.post_rx(0, 64, 2048);
        self.link_up(&mut driver, 1);
        self.bystander = Some((vmm, driver));
    }

    /// The bystander's front-end disconnects, and another one connects.
    pub fn bystander_reconnects(&mut self) {
        self.bystander = None;
        self.bystander();
    }

    /// The process lives and the bystander still has its network.
    pub fn unharmed(&mut self) {
        assert!(self.backend.alive(), "the back-end died");
        if self.bystander.is_none() {
            self.bystander();
        }
        let (vmm, mut driver) = self.bystander.take().expect("just started");
        self.both_ways(&mut driver, 1);
        self.bystander = Some((vmm, driver));
    }

    /// All dropped frames of a port together, both directions.
    pub fn drops(&self, port: usize) -> u64 {
        self.counters(port).split(['[', ']', ',', ';', ':']).filter_map(dropped).sum()
    }

    /// How often the port dropped a frame for this reason.
    pub fn dropped_for(&self, port: usize, reason: &str) -> u64 {
        let line = self.counters(port);
        let parts = line.split([',', ';', ':']);
        parts.filter(|part| part.trim().ends_with(reason)).filter_map(dropped).sum()
    }

    /// The line in which the back-end reports a port's counters, which it does at SIGUSR1.
    pub fn counters(&self, port: usize) -> String {
        let start = format!("port t{port}: from the guest:");
        let lines = || self.backend.log().matches(&start).count();
        let before = lines();
        self.backend.signal(Signal::SIGUSR1);
        let deadline = Instant::now() + Duration::from_secs(5);
        while lines() == before {
            assert!(Instant::now() < deadline, "no counters at SIGUSR1");
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = self.backend.log();
        let line = log.lines().rev().find(|line| line.contains(&start)).expect("just counted");
        line[line.find(&start).expect("in the line") + "port t0:".len()..].to_owned()
    }
}

/// The number in "3 foreign MAC" or "dropped: 3 foreign MAC"; none in "12 frames (720 bytes)".
fn dropped(part: &str) -> Option<u64> {
    let (number, reason) = part.trim().split_once(' ')?;
    if reason.starts_with("frames (") { None } else { number.parse().ok() }
}
