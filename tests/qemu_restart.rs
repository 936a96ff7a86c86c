//! Guests, QEMUs and back-ends that come and go: traffic works afterwards, and nothing is left
//! behind.
//!
//! A back-end serves a port for months. In that time its guests reboot, QEMU is killed at any
//! moment (while it says hello, while the guest's firmware or kernel runs, in the middle of
//! traffic), memory is plugged in, and the back-end itself is killed and started again under a
//! running guest. Each test here does one of these things and asks two questions: does a ping pass
//! again, and does the back-end hold exactly what it held before? Open files and threads are
//! counted to the last one; memory may differ by [`SLACK_KIB`], for the allocator keeps what it was
//! given.
//!
//! Of a connected back-end's memory only the private part is compared: guest memory counts as
//! resident where the back-end has touched it, and the guest puts its rings elsewhere after every
//! boot.
//!
//! What can go wrong: booting takes some three seconds without KVM, so these tests take minutes;
//! `.config/nextest.toml` gives them the time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use testkit::backend::Backend;
use testkit::exchange::Exchange;
use testkit::guest::{Guest, GuestConfig, Netdev, Nic};
use testkit::netns::{World, wait_until};

const MAC: &str = "52:54:00:00:00:11";
const V4: &str = "192.0.2.11";
const V6: &str = "2001:db8::11";

/// How much resident memory may grow, in KiB.
const SLACK_KIB: u64 = 512;

/// How much memory is plugged in, in MiB: another size than the guest has from the start.
const PLUGGED_MIB: u32 = 128;

/// A world and a back-end's arguments in it.
struct Scene {
    world: World,
    dir: TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene { world: World::new(), dir: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("vm1.sock")
    }

    fn start(&self) -> Backend {
        Backend::start(&self.world.host, &arguments(&self.socket()))
    }

    fn guest(&self) -> GuestConfig {
        GuestConfig::vhost_user("vm1", self.socket(), MAC)
    }
}

fn arguments(socket: &Path) -> [&str; 8] {
    let path = socket.to_str().unwrap();
    ["--parent", World::PARENT, "--socket-path", path, "--name", "vm1", "--mac", MAC]
}

/// Gives a guest that has just booted its addresses; both directions must work then.
fn works(guest: &mut Guest, world: &World, when: &str) {
    guest.configure("eth0", V4, V6);
    for address in [World::LAN_V4, World::LAN_V6] {
        assert!(guest.pings(address), "{when}: {address} does not answer the guest");
    }
    assert!(world.lan.pings(V4), "{when}: the guest does not answer");
}

/// What a back-end holds: its open files by kind, and its threads, both sorted.
#[derive(Debug, PartialEq)]
struct Holdings {
    files: Vec<String>,
    threads: Vec<String>,
}

impl Holdings {
    fn of(backend: &Backend) -> Holdings {
        let kind = |target: String| -> String {
            target.chars().filter(|letter| !letter.is_ascii_digit()).collect()
        };
        let mut files: Vec<String> = backend.fds().into_iter().map(kind).collect();
        let mut threads = backend.threads();
        // A port's front-end thread starts with its first front-end and then stays.
        threads.retain(|name| !name.starts_with("fe-"));
        files.sort();
        threads.sort();
        Holdings { files, threads }
    }

    /// The back-end holds this again, soon.
    fn must_return(&self, backend: &Backend, when: &str) {
        wait_until(Duration::from_secs(5), || Holdings::of(backend) == *self);
        assert_eq!(Holdings::of(backend), *self, "{when}");
    }
}

#[test]
fn a_guest_reboots_twenty_times() {
    let scene = Scene::new();
    let mut backend = scene.start();
    let mut guest = Guest::boot(&scene.guest());
    works(&mut guest, &scene.world, "first boot");
    let holdings = Holdings::of(&backend);
    let memory = backend.private_kib();
    for round in 1..=20 {
        guest.reboot();
        works(&mut guest, &scene.world, &format!("reboot {round}"));
    }
    holdings.must_return(&backend, "after 20 reboots");
    let now = backend.private_kib();
    eprintln!("private memory: {memory} KiB after the first boot, {now} KiB after 20 reboots");
    assert!(now <= memory + SLACK_KIB, "private memory grew from {memory} to {now} KiB");
    assert!(backend.alive());
}

#[test]
fn qemu_is_killed_and_started_fifty_times() {
    let scene = Scene::new();
    let mut backend = scene.start();
    let holdings = Holdings::of(&backend);
    let boot_and_kill = |when: &str| {
        let mut guest = Guest::boot(&scene.guest());
        works(&mut guest, &scene.world, when);
        guest.kill();
    };
    boot_and_kill("warm-up");
    holdings.must_return(&backend, "after the warm-up");
    let memory = backend.rss_kib();
    // Not by its log, which reports ten connections a minute.
    let idle = backend.fds().len();
    for round in 0..50 {
        if round % 10 == 9 {
            // In the middle of a working life.
            boot_and_kill(&format!("start {round}"));
            continue;
        }
        // Anywhere between QEMU's first word and a running driver: the steps are coprime to the
        // range, so the points are spread over all of it.
        let gone = wait_until(Duration::from_secs(5), || backend.fds().len() == idle);
        assert!(gone, "the guest before start {round} is still there");
        let mut guest = Guest::start(&scene.guest());
        let served = wait_until(Duration::from_secs(5), || backend.fds().len() > idle);
        assert!(served, "start {round} was not served");
        sleep(Duration::from_millis(round * 677 % 3500));
        guest.kill();
    }
    holdings.must_return(&backend, "after 50 times");
    let now = backend.rss_kib();
    eprintln!("resident memory: {memory} KiB after the warm-up, {now} KiB after 50 times");
    assert!(now <= memory + SLACK_KIB, "resident memory grew from {memory} to {now} KiB");

    let mut guest = Guest::boot(&scene.guest());
    works(&mut guest, &scene.world, "the last one");
    assert!(backend.alive());
}

/// A back-end that is killed leaves its socket and its device behind; the next one takes over both,
/// QEMU connects again, and the guest notices a link that was down for a moment.
#[test]
fn a_back_end_is_killed_under_its_guest() {
    let scene = Scene::new();
    let mut backend = scene.start();
    let mut guest = Guest::boot(&scene.guest());
    works(&mut guest, &scene.world, "before");
    for round in 1..=3 {
        let index = scene.world.host.attribute("vm1", "ifindex");
        backend.kill();
        assert!(guest.silent(World::LAN_V4), "{round}: without a back-end");
        backend = scene.start();
        backend.wait_for_log("front-end (process ", Duration::from_secs(10));
        for address in [World::LAN_V4, World::LAN_V6] {
            assert!(guest.pings(address), "restart {round}: {address} does not answer");
        }
        assert!(scene.world.lan.pings(V4), "restart {round}: the guest does not answer");
        assert_ne!(scene.world.host.attribute("vm1", "ifindex"), index, "a device of its own");
    }
    let exchange = Exchange::new(&scene.world.lan, 8 << 20, 1);
    exchange.to_guest(&mut guest);
    exchange.to_lan(&mut guest);

    // The orderly way: socket and device go, and come again.
    assert_eq!(backend.stop(Duration::from_secs(2)).code(), Some(0));
    assert!(!scene.socket().exists());
    assert!(!scene.world.host.has_link("vm1"));
    backend = scene.start();
    backend.wait_for_log("front-end (process ", Duration::from_secs(10));
    assert!(guest.pings(World::LAN_V4), "after an orderly restart");
}

/// Memory plugged in under traffic. The guest's kernel prefers it for all later allocations, so the
/// frames that follow lie in it: the back-end must have touched its own map of it.
#[test]
fn memory_is_plugged_into_a_running_guest() {
    let scene = Scene::new();
    let backend = scene.start();
    let config = GuestConfig { memory: vec![384], memory_slots: 1, ..scene.guest() };
    let mut guest = Guest::boot(&config);
    works(&mut guest, &scene.world, "before");
    let exchange = Exchange::new(&scene.world.lan, 32 << 20, 1);
    exchange.to_guest(&mut guest);
    exchange.to_lan(&mut guest);
    assert_eq!(plugged_kib(&backend), None);

    guest.plug_memory(PLUGGED_MIB);
    let mapped = || plugged_kib(&backend).is_some();
    assert!(wait_until(Duration::from_secs(5), mapped), "the back-end does not map the memory");
    exchange.to_guest(&mut guest);
    exchange.to_lan(&mut guest);
    let touched = plugged_kib(&backend).unwrap_or_default();
    assert!(touched > 1024, "only {touched} KiB of the new memory carried traffic");
    works_on(&mut guest, &scene.world);
}

/// How much of the memory plugged in the back-end has touched, in KiB; none when it is not mapped.
fn plugged_kib(backend: &Backend) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{}/smaps", backend.pid())).unwrap();
    // QEMU calls every memfd alike; ours is the one of that size.
    let size = format!("{} kB", PLUGGED_MIB * 1024);
    let entry = maps.split("/memfd:").skip(1).find(|entry| {
        entry.lines().any(|line| line.strip_prefix("Size:").is_some_and(|s| s.trim() == size))
    })?;
    let rss = entry.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    rss.split_whitespace().next()?.parse().ok()
}

fn works_on(guest: &mut Guest, world: &World) {
    assert!(guest.pings(World::LAN_V4) && guest.pings(World::LAN_V6));
    assert!(world.lan.pings(V4) && world.lan.pings(V6));
}

/// QEMU listens and the back-end connects: it is there first, waits, and comes back to the next
/// QEMU.
#[test]
fn qemu_listens_and_the_back_end_connects() {
    let scene = Scene::new();
    let socket = scene.socket();
    let args = [&arguments(&socket)[..], &["--client"]].concat();
    let mut backend = Backend::spawn(&scene.world.host, &args);
    backend.wait_for_log("port vm1: created macvtap", Duration::from_secs(5));
    assert!(!socket.exists(), "the socket is QEMU's to make");
    let netdev = Netdev::VhostUser { socket: socket.clone(), reconnect: None, server: true };
    let nic = Nic { netdev, ..Nic::vhost_user(&socket, MAC) };
    let config = GuestConfig { nics: vec![nic], ..scene.guest() };
    for when in ["the first QEMU", "the second QEMU"] {
        let mut guest = Guest::boot(&config);
        works(&mut guest, &scene.world, when);
        guest.kill();
    }
    assert!(backend.alive());
    // QEMU's socket still exists, without a listener; the back-end must neither end nor hang.
    assert_eq!(backend.stop(Duration::from_millis(500)).code(), Some(0));
}
