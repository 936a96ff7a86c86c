//! However the process ends, the host gets its former state: address, filters, promiscuity, its own
//! traffic.
//!
//! Bridge ports change little on the host. A passthru port takes all unicast from it and gives the
//! parent its guest's address. Both must end with the process, even if it is killed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use testkit::frames;
use testkit::netns::{World, wait_until};
use testkit::rig::{LAN_MAC, SECOND, fresh_tag, open_wire};
use testkit::userspace::{Bench, Guest, HostTalk, hush, mac, mac_key, state_of_parent};
use testkit::vmm::QemuOptions;

/// From the signal to the end of the process.
const LEAVE: Duration = Duration::from_millis(500);
/// The kernel takes some 17 ms for each socket of a killed process; the guardian needs a few more.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// The host before the program starts, and the state that must be the same afterwards.
struct Before {
    talk: HostTalk,
    parent: String,
    address: String,
}

impl Before {
    fn look(world: &World) -> Before {
        hush(world);
        let talk = HostTalk::new(world);
        talk.wait(5 * SECOND);
        Before { talk, parent: state_of_parent(world), address: world.host.mac("eth0") }
    }

    /// Everything is as it was, without an operator's help.
    fn is_back(&self, world: &World) {
        let took = self.talk.wait(AFTERWARDS);
        println!("the host talks again after {took:?}");
        wait_until(AFTERWARDS, || state_of_parent(world) == self.parent);
        assert_eq!(state_of_parent(world), self.parent);
        let alone = wait_until(AFTERWARDS, || world.host.pids().is_empty());
        assert!(alone, "processes are left: {:?}", world.host.pids());
        assert_eq!(world.host.links(), ["eth0"]);
    }
}

/// A passthru port whose parent has taken its guest's address.
fn followed(bench: &Bench, before: &Before) -> Guest {
    let guest = bench.guest_with(0, mac(3), &QemuOptions::default());
    let address = || bench.world.host.mac("eth0");
    assert!(wait_until(SECOND, || address() == frames::mac_text(mac(3))), "{}", address());
    assert_ne!(state_of_parent(&bench.world), before.parent);
    assert_ne!(address(), before.address);
    assert!(!before.talk.answered(), "the host hears what is the guest's");
    guest
}

#[test]
fn kill_9_with_bridge_ports_leaves_the_host_as_it_was() {
    let world = World::new();
    let before = Before::look(&world);
    let mut bench = Bench::in_world(world, &[mac_key(0), mac_key(1), mac_key(2)], &[]);
    let (_one, _other) = (bench.guest(0), bench.guest(1));
    assert!(before.talk.works(), "the host beside bridge ports");
    assert_ne!(state_of_parent(&bench.world), before.parent, "the ports have no filters");
    bench.backend.kill();
    before.is_back(&bench.world);
}

#[test]
fn kill_9_with_a_passthru_port_gives_the_host_its_address_and_traffic_back() {
    let world = World::new();
    let before = Before::look(&world);
    let mut bench = Bench::in_world(world, &["mode=passthru"], &[]);
    let _guest = followed(&bench, &before);
    bench.backend.kill();
    before.is_back(&bench.world);
    // The next process finds everything as the first one did.
    bench.start_again();
    let _guest = followed(&bench, &before);
    bench.backend.kill();
    before.is_back(&bench.world);
}

#[test]
fn sigterm_ends_bridge_and_passthru_in_time_and_leaves_the_host_as_it_was() {
    for keys in ["mode=bridge", "mode=passthru"] {
        let world = World::new();
        let before = Before::look(&world);
        let mut bench = Bench::in_world(world, &[keys], &[]);
        let guest = match keys {
            "mode=passthru" => followed(&bench, &before),
            _ => bench.guest(0),
        };
        ends_in_time(&mut bench, keys);
        before.is_back(&bench.world);
        drop(guest);
    }
}

fn ends_in_time(bench: &mut Bench, what: &str) {
    let start = Instant::now();
    bench.backend.signal(Signal::SIGTERM);
    let status = bench.backend.wait_exit(5 * SECOND);
    let took = start.elapsed();
    println!("{what}: ended after {took:?}");
    assert_eq!(status.code(), Some(0), "{what}");
    assert!(took < LEAVE, "{what}: took {took:?}");
    let sockets = fs::read_dir(bench.socket(0).parent().unwrap()).unwrap().count();
    assert_eq!(sockets, 0, "{what}: a socket was left");
}

/// All that a port has, many times, and frames on the way.
#[test]
fn sigterm_ends_20_ports_with_4_queue_pairs_in_time_under_load() {
    let world = World::new();
    let before = Before::look(&world);
    let keys: Vec<String> = (0..20).map(|n| mac_key(n) + ",queue-pairs=4").collect();
    let mut bench = Bench::in_world(world, &keys, &["--workers", "4"]);
    let o = QemuOptions { pairs: 4, mem_slots: false, ..Default::default() };
    let mut guests: Vec<Guest> = (0..20).map(|n| bench.guest_with(n, mac(n), &o)).collect();
    let flood = Flood::start(&bench.world);
    for guest in &mut guests {
        let frames: Vec<_> =
            (0..100).map(|_| frames::tagged(mac(0), guest.mac, fresh_tag(), 1000)).collect();
        guest.driver.send(1, &frames);
    }
    ends_in_time(&mut bench, "20 ports with 4 queue pairs");
    drop(flood);
    before.is_back(&bench.world);
}

/// Frames from the LAN to twenty guests until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(world: &World) -> Flood {
        let wire = open_wire(world);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for n in 0..20 {
                    wire.try_send(&frames::tagged(mac(n), LAN_MAC, fresh_tag(), 500));
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Flood { stop, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
