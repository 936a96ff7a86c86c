//! Two processes, one device: the lock, and the remains of a killed process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use testkit::backend::program;
use vhost_user_macvtap::host::device_lock::{DeviceLock, LockName};
use vhost_user_macvtap::host::macvtap::Macvtap;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::net::mode::Mode;

use crate::world::{MAC, World, spec};

/// Starts the program in the world and waits until it has its port.
fn start(world: &World, mode: Mode) -> Child {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm0.sock");
    let mut child = Command::new("ip")
        .args(["netns", "exec", &world.name])
        .arg(program())
        .args(["--parent", "p0", "--name", "vm0", "--mode", mode.name()])
        .args(["--mac", &MAC.to_string(), "--socket-path"])
        .arg(&socket)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("listens at")), "it ended");
    child
}

#[test]
fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let world = World::new();
    let mut child = start(&world, Mode::Bridge);
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut errors = (0..40).map(|_| {
            Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap_err().to_string()
        });
        let first = errors.next().unwrap();
        // `ip netns exec` has become the program by exec, so its pid is the owner's.
        assert!(first.contains(&format!("process {} (", child.id())), "{first}");
        // The backlog is full at some time; the refusal stays one.
        let last = errors.last().unwrap();
        assert!(last.contains("in use by another process"), "{last}");
    });
    assert!(world.show("vm0").is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn one_process_cannot_use_a_device_twice() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        let error = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap_err();
        assert!(error.to_string().contains("another port of this process"), "{error}");
        port.close(&mut netlink).unwrap();
    });
}

#[test]
fn what_a_killed_process_leaves_is_taken_over() {
    let world = World::new();
    let original = world.mac_of("p0");
    let mut child = start(&world, Mode::Passthru);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(world.show("vm0").unwrap().contains("mode passthru"));
    assert_eq!(world.mac_of("p0"), MAC.to_string());
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        // Even a port of another mode: our own remains are ours to replace.
        let port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        assert!(port.created());
        assert_eq!(world.mac_of("p0"), original);
        port.close(&mut netlink).unwrap();
    });
    assert_eq!(world.show("vm0"), None);
}

#[test]
fn a_parent_in_userspace_has_one_owner_and_its_number_counts_not_its_name() {
    let (world, other) = (World::new(), World::new());
    let first = world.enter(|| DeviceLock::take(&LockName::parent("p0", 7)).unwrap());
    let error =
        world.enter(|| DeviceLock::take(&LockName::parent("eth0", 7)).unwrap_err().to_string());
    assert!(error.starts_with("parent eth0: another switch of this process (pid "), "{error}");
    // Another parent, a device that is called like the number, another namespace.
    world.enter(|| DeviceLock::take(&LockName::parent("p1", 8)).unwrap());
    world.enter(|| DeviceLock::take(&LockName::device("7")).unwrap());
    other.enter(|| DeviceLock::take(&LockName::parent("p0", 7)).unwrap());
    drop(first);
    world.enter(|| DeviceLock::take(&LockName::parent("p0", 7)).unwrap());
}
