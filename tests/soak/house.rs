//! The house: sixteen ports of one process on two parents, and what the process uses.
//!
//! Userspace ports have a parent of their own: on a parent with kernel macvlans, unicasts of its
//! own ports go to those.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::stream::{Neighbour, Stream};
use testkit::backend::Backend;
use testkit::frames::{self, Mac};
use testkit::netns::{World, wait_until};
use testkit::rig::{LAN_MAC, fresh_tag};
use testkit::wire::Wire;

pub const PORTS: usize = 16;
/// Log lines that one port may cause in a minute.
const LINES: usize = 10;

/// The address of port `n`.
pub fn mac(n: usize) -> Mac {
    [0x52, 0x54, 0, 0xdd, 0, n as u8]
}

/// The process's use of resources.
#[derive(Debug)]
pub struct Usage {
    pub fds: usize,
    pub threads: usize,
    pub kib: u64,
}

pub struct House {
    backend: Backend,
    world: World,
    dir: TempDir,
    macvlan_first: bool,
}

impl House {
    /// Ports of both types in turn; the seed decides which type port 0 has.
    pub fn new(seed: u64) -> House {
        let world = World::new();
        world.plug(&world.host, "eth1", "p-host1");
        for netns in [&world.host, &world.lan] {
            netns.set_ipv6("all", false);
            netns.set_ipv6("default", false);
        }
        let dir = TempDir::new().unwrap();
        let macvlan_first = seed.count_ones().is_multiple_of(2);
        let mut args = Vec::new();
        for n in 0..PORTS {
            let (kind, parent) = if in_userspace(n, macvlan_first) {
                ("macvlan", "eth1")
            } else {
                ("macvtap", "eth0")
            };
            let socket = dir.path().join(format!("{n}.sock"));
            let mac = frames::mac_text(mac(n));
            args.push(format!(
                "--port=name=s{n},socket={},parent={parent},type={kind},mac={mac},queue-pairs=2",
                socket.display()
            ));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let backend = Backend::start(&world.host, &args);
        println!("port 0 is of type {}", if macvlan_first { "macvlan" } else { "macvtap" });
        House { backend, world, dir, macvlan_first }
    }

    pub fn socket(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("{n}.sock"))
    }

    /// Starts the guests of all ports but port 0, and a stream between each two of a type; the one
    /// that is left over talks to the LAN.
    pub fn neighbours(&self) -> Vec<Stream> {
        let mut streams = Vec::new();
        for userspace in [false, true] {
            let mut guests: Vec<Neighbour> = (1..PORTS)
                .filter(|&n| in_userspace(n, self.macvlan_first) == userspace)
                .map(|n| Neighbour::at(&self.socket(n), mac(n)))
                .collect();
            while guests.len() > 1 {
                let (from, to) = (guests.pop().unwrap(), guests.pop().unwrap());
                streams.push(Stream::between(from, to));
            }
            streams.extend(guests.pop().map(|guest| Stream::to_lan(guest, self.wire())));
        }
        streams
    }

    fn wire(&self) -> Wire {
        Wire::open(Some(self.world.lan.name()), "eth0")
    }

    /// The LAN sends to port 0 all the time: what its guest does to its receive ring must matter.
    pub fn annoy(&self) -> Annoyance {
        let (wire, stop) = (self.wire(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                wire.try_send(&frames::tagged(mac(0), LAN_MAC, fresh_tag(), 300));
                thread::sleep(Duration::from_millis(1));
            }
        });
        Annoyance { stop, thread }
    }

    pub fn alive(&mut self) -> bool {
        self.backend.alive()
    }

    pub fn usage(&self) -> Usage {
        Usage {
            fds: self.backend.fds().len(),
            threads: self.backend.threads().len(),
            kib: self.backend.private_kib(),
        }
    }

    /// Its use after the last connection has been cleaned up, or after some seconds.
    pub fn settled(&self, right: impl Fn(&Usage) -> bool) -> Usage {
        wait_until(Duration::from_secs(5), || right(&self.usage()));
        self.usage()
    }

    /// No port has caused more lines than it may have: some at the start, ten for each minute, and
    /// a count.
    pub fn check_log(&self, minutes: usize) {
        let log = self.backend.log();
        for n in 0..PORTS {
            let name = format!("port s{n}: ");
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&name)).collect();
            let most = 2 + (LINES + 1) * (minutes + 1);
            assert!(lines.len() <= most, "port {n}: {} lines: {lines:#?}", lines.len());
        }
        let most = 10 * PORTS + 30 * (minutes + 1);
        assert!(log.lines().count() <= most, "{} lines:\n{log}", log.lines().count());
    }

    /// SIGTERM ends the process within half a second, and takes its devices back.
    pub fn ends_in_time(&mut self) {
        let start = Instant::now();
        self.backend.signal(Signal::SIGTERM);
        let status = self.backend.wait_exit(Duration::from_secs(10));
        let took = start.elapsed();
        println!("ended after {took:?}");
        assert!(status.success(), "{status}");
        assert!(took <= Duration::from_millis(500), "the end took {took:?}");
        assert_eq!(self.world.host.links(), ["eth0", "eth1"]);
    }
}

fn in_userspace(n: usize, macvlan_first: bool) -> bool {
    n.is_multiple_of(2) == macvlan_first
}

/// Frames from the LAN to port 0, until it is stopped.
pub struct Annoyance {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Annoyance {
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}
