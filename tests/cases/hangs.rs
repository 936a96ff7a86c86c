//! Threads that hang or cannot be started, and floods: which port is lost, and whether SIGTERM ends
//! the process.
//!
//! A back-end serves many tenants. A thread that hangs in the kernel for one of them must cost no
//! other one anything. The process must still end in half a second, with its devices taken back:
//! the service manager's SIGKILL would leave them behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use testkit::backend::{Backend, program};
use testkit::freeze::Frozen;
use testkit::neighbour::{END, ends};
use testkit::netns::World;
use testkit::rig::{Macvtap, Rig, SECOND};
use testkit::vmm::{NEED_REPLY, QemuOptions, Vmm, req};

/// The devices of the rig's ports.
fn devices(rig: &Rig) -> usize {
    let links = rig.world.host.ip("-o link show type macvtap");
    links.lines().filter(|line| line.contains(" t0@") || line.contains(" t1@")).count()
}

/// The control thread did all of this itself: one such front-end stopped every port, and SIGTERM.
#[test]
fn bug_f9_a_front_end_thread_that_hangs_costs_its_own_port_only() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let guest = rig.guest(&QemuOptions::default());
    let frozen = Frozen::thread(&rig.backend, "fe-t0");
    rig.unharmed();
    drop(guest);
    // It waits for the end of the connection before, with a time limit.
    rig.connect(0).expect_closed();
    rig.backend
        .wait_for_log("port t0: a front-end was refused: the thread of the one before", SECOND);
    rig.unharmed();
    assert_eq!(devices(&rig), 2);
    rig.backend.signal(Signal::SIGTERM);
    assert!(frozen.ends(&mut rig.backend, END).success());
    assert_eq!(devices(&rig), 0, "left behind");
    assert!(!rig.socket(0).exists() && !rig.socket(1).exists(), "left behind");
}

/// A hung worker holds its ring's lock. At the end the control thread waited for that lock.
#[test]
fn bug_f1_a_worker_that_hangs_does_not_keep_the_process_from_its_end() {
    let mut rig = Rig::with(Macvtap, &["--workers", "1"]);
    rig.bystander();
    let (_vmm, _driver) = rig.guest(&QemuOptions::default());
    let frozen = Frozen::thread(&rig.backend, "worker-0");
    rig.backend.signal(Signal::SIGTERM);
    assert!(frozen.ends(&mut rig.backend, END).success());
    assert_eq!(devices(&rig), 0, "left behind");
}

/// A thread that goes on serves its port again.
#[test]
fn a_front_end_thread_that_goes_on_serves_again() {
    let mut rig = Rig::new(Macvtap);
    let guest = rig.guest(&QemuOptions::default());
    let frozen = Frozen::thread(&rig.backend, "fe-t0");
    drop(guest);
    rig.connect(0).expect_closed();
    drop(frozen);
    rig.backend.wait_for_log("port t0: front-end (process", SECOND);
    rig.guest(&QemuOptions::default());
    ends(&mut rig);
}

/// Connections and messages without end on all sockets.
#[test]
fn sigterm_ends_the_process_in_a_flood() {
    let mut rig = Rig::new(Macvtap);
    let sockets = [rig.socket(0), rig.socket(1)];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for socket in &sockets {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = UnixStream::connect(socket);
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(200));
                    let Ok(stream) = UnixStream::connect(socket) else { continue };
                    let mut vmm = Vmm::from_stream(stream);
                    let payload = 1400u64.to_le_bytes();
                    while !stop.load(Ordering::Relaxed)
                        && vmm.try_send(req::NET_SET_MTU, NEED_REPLY, &payload, &[]).is_ok()
                    {
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        rig.backend.signal(Signal::SIGTERM);
        let status = rig.backend.try_wait_exit(2 * END);
        let time = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        assert!(status.is_some_and(|status| status.success()), "{status:?} after {time:?}");
    });
}

/// The end of the parent's sockets started threads, and a thread that could not be started was the
/// end of the process.
#[test]
fn bug_f7b_a_thread_that_cannot_be_started_costs_one_front_end() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // A limit of threads holds for users without privileges only, and the program must be theirs to
    // run.
    let copy = dir.path().join("program");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let user = (200_000 + std::process::id()).to_string();
    let caps = ["--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw"];
    let before = [&["setpriv", "--reuid", &user, "--clear-groups"][..], &caps].concat();
    let socket = dir.path().join("0.sock");
    let port = format!("socket={},parent={},type=macvlan", socket.display(), World::PARENT);
    let mut backend = Backend::start_by(&world.host, &before, &copy, &["--port", &port]);
    // By the same user: a container's root may not change the limits of others.
    let limit = |most: &str| {
        let pid = backend.pid().to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--clear-groups", "prlimit", "--pid", &pid, most]);
        assert!(command.status().unwrap().success(), "{command:?}");
    };
    limit("--nproc=1:");
    Vmm::connect(&socket).expect_closed();
    backend.wait_for_log("cannot serve a front-end: no thread for it: ", SECOND);
    world.host.ip(&format!("link delete {}", World::PARENT));
    backend.wait_for_log("has vanished", 5 * SECOND);
    backend.wait_caught_up();
    limit("--nproc=4096:");
    Vmm::connect(&socket).get_features();
    assert!(backend.stop(END).success());
}
