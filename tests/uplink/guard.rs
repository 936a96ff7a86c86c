//! The parent gets its own address back, however its user ends.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use testkit::backend::program;
use vhost_user_macvtap::host::mac_guard::MacGuard;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::net::mac::Mac;

use crate::holders;
use crate::packet::index;
use crate::world::{MAC, World, poll_until};

const SECONDS: Duration = Duration::from_secs(5);

fn has(world: &World, mac: &str) -> bool {
    world.mac_of("p0") == mac
}

fn gets(world: &World, mac: &str) -> bool {
    poll_until(SECONDS, || has(world, mac).then_some(())).is_some()
}

/// The guardian as a child of the test, ready.
fn guardian(ifindex: u32, original: &str) -> Child {
    let mut child = Command::new(program())
        .args(["guard-mac", "--ifindex", &ifindex.to_string(), "--mac", original])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"r");
    child
}

#[test]
fn the_address_is_back_after_kill_9() {
    let world = World::new();
    let original = world.mac_of("p0");
    let holder = holders::hold(&world, "address");
    assert!(has(&world, &MAC.to_string()));
    holders::kill(holder);
    assert!(gets(&world, &original));
}

/// The next process, even at once, finds the parent's own address.
#[test]
fn a_successor_waits_for_the_guardian() {
    let world = World::new();
    let original = world.mac_of("p0");
    let holder = holders::hold(&world, "address");
    world.enter(|| {
        let p0 = index("p0");
        let second = MacGuard::start_as(&program(), p0, MAC).unwrap_err().to_string();
        assert!(second.contains("cannot be started"), "{second}");
        holders::kill(holder);
        MacGuard::settle(p0).unwrap();
        assert!(has(&world, &original));
        MacGuard::settle(p0).unwrap();
    });
}

#[test]
fn an_orderly_end_leaves_the_address_and_no_process() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let p0 = index("p0");
        let original = world.mac_of("p0").parse().unwrap();
        let mut guard = MacGuard::start_as(&program(), p0, original).unwrap();
        guard.announce(MAC).unwrap();
        netlink.set_mac(p0, MAC).unwrap();
        let mine = format!("/proc/self/task/{}/children", nix::unistd::gettid());
        assert_ne!(std::fs::read_to_string(&mine).unwrap_or_default(), "");
        guard.release();
        assert_eq!(std::fs::read_to_string(&mine).unwrap_or_default(), "");
        std::thread::sleep(Duration::from_millis(50));
        assert!(has(&world, &MAC.to_string()));
    });
}

#[test]
fn the_guardian_ignores_signals_and_keeps_no_descriptor() {
    let world = World::new();
    let original = world.mac_of("p0");
    world.enter(|| {
        let p0 = index("p0");
        let mut child = guardian(p0, &original);
        let pid = Pid::from_raw(child.id() as i32);
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            kill(pid, signal).unwrap();
        }
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let entry = entry.unwrap();
            let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
            let target = std::fs::read_link(entry.path()).unwrap();
            let target = target.to_string_lossy();
            // Its own: the netlink socket, and what its runtime waits with.
            let own = target.starts_with("anon_inode:") || target.starts_with("socket:");
            assert!(number <= 2 || own, "{number} is {target}");
        }
        world.ip(&format!("link set p0 address {MAC}"));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(has(&world, &original));
    });
}

#[test]
fn the_guardian_has_a_process_group_of_its_own() {
    let world = World::new();
    world.enter(|| {
        let original = world.mac_of("p0").parse().unwrap();
        let guard = MacGuard::start_as(&program(), index("p0"), original).unwrap();
        let mine = format!("/proc/self/task/{}/children", nix::unistd::gettid());
        let children = std::fs::read_to_string(mine).unwrap();
        let pid = Pid::from_raw(children.trim().parse().unwrap());
        assert_eq!(getpgid(Some(pid)).unwrap(), pid);
        drop(guard);
    });
}

#[test]
fn what_is_not_our_doing_is_left_alone() {
    let world = World::new();
    let original = world.mac_of("p0");
    world.enter(|| {
        // Another program has changed it since.
        let mut child = guardian(index("p0"), &original);
        child.stdin.as_mut().unwrap().write_all(&[&b"m"[..], &MAC.0].concat()).unwrap();
        world.ip("link set p0 address 02:00:00:00:00:77");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(has(&world, "02:00:00:00:00:77"));
        // Released.
        let mut child = guardian(index("p0"), &original);
        child.stdin.as_mut().unwrap().write_all(b"q").unwrap();
        assert!(child.wait().unwrap().success());
        assert!(has(&world, "02:00:00:00:00:77"));
        // The device was deleted.
        let mut child = guardian(index("p0"), &original);
        world.ip("link del p0");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_guardian_that_cannot_be_started_is_an_error() {
    let original = Mac([2, 0, 0, 0, 0, 1]);
    for program in ["/nonexistent", "/bin/true"] {
        let error = MacGuard::start_as(Path::new(program), 1, original).unwrap_err().to_string();
        assert!(error.contains("cannot be started"), "{error}");
    }
    let output = Command::new(program())
        .args(["guard-mac", "--ifindex", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
