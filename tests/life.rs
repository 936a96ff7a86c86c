//! A port's life: its parts come and go, and the guest's network goes on.
//!
//! An operator restarts the program, deletes a device by mistake, takes a NIC down, changes its
//! MTU; a VMM dies and comes back; a guest stops taking frames. Each test does one of these to the
//! real program and asks three questions. Do frames flow again without an operator's help? Does the
//! log report it? Does the process sleep meanwhile? The kernel's clock of the process answers the
//! last one ([`busy`]); it counts nanoseconds.
//!
//! What can go wrong with the tests: the kernel charges work in softirqs to the process that runs
//! at that moment. So a process that sleeps is charged for almost nothing, one that polls for
//! everything. Limits of time are those that users were promised (500 ms from signal to end) and
//! hold for a busy machine of two processors.
//!
//! Descriptors and threads after a hundred connections: `handshake.rs`. Errors: `errors.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use testkit::backend::{Backend, program};
use testkit::driver::*;
use testkit::frames;
use testkit::netns::{World, die_with_us, require, wait_until};
use testkit::rig::*;
use testkit::vmm::*;
use testkit::wire::Wire;

/// From the signal to the end of the process.
const LEAVE: Duration = Duration::from_millis(500);
/// Processor time that a process may use in two seconds in which it has nothing to do.
const IDLE: Duration = Duration::from_millis(10);

fn assert_idle(backend: &Backend, what: &str) {
    let used = backend.busy(2 * SECOND);
    assert!(used < IDLE, "{what}: {used:?} of processor time in 2 s");
}

/// An action that a thread repeats until this is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Busy {
    fn start(mut deed: impl FnMut() + Send + 'static) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                deed();
            }
        });
        Busy { stop, thread: Some(thread) }
    }

    /// Frames from the LAN to a guest, eight every half millisecond. From several sockets: one that
    /// is not read at the other end stops at some 250 frames under way, which is less than a tap's
    /// queue holds.
    fn flood(world: &World, mac: frames::Mac) -> Busy {
        let wires = [0; 4].map(|_| open_wire(world));
        Busy::start(move || {
            for _ in 0..2 {
                for wire in &wires {
                    wire.try_send(&frames::tagged(mac, LAN_MAC, fresh_tag(), 200));
                }
            }
            thread::sleep(Duration::from_micros(500));
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

// --- the orderly end ---

/// A guest that sends on all pairs and takes all frames, until the back-end has ended.
fn guest_under_load(vmm: Vmm, mut driver: Driver, mac: frames::Mac) -> Busy {
    let pairs = driver.pairs.len();
    for pair in 0..pairs {
        driver.post_rx(pair, 64, 2048);
    }
    Busy::start(move || {
        let _connected = &vmm;
        for pair in 0..pairs {
            driver.reclaim(pair);
            // Never more than there is room for: a back-end that has ended returns nothing.
            if driver.pairs[pair].tx.free_descriptors() >= 16 {
                let frame = frames::tagged(LAN_MAC, mac, fresh_tag(), 1000);
                driver.send(pair, &vec![frame; 16]);
            }
            while driver.pairs[pair].rx.visible() > 0 && driver.recv(pair, Duration::ZERO).is_some()
            {
            }
        }
        thread::sleep(Duration::from_micros(200));
    })
}

fn orderly_end(ports: u8, pairs: u16) {
    for (signal, load) in [
        (Signal::SIGTERM, false),
        (Signal::SIGINT, false),
        (Signal::SIGTERM, true),
        (Signal::SIGINT, true),
    ] {
        let what = format!("{signal}, {ports} ports of {pairs} queue pairs, load: {load}");
        let world = World::new();
        let dir = TempDir::new().unwrap();
        let before = world.host.links();
        let mac = |port: u8| [0x52, 0x54, 0, 0xaa, 1, port];
        let mut args = Vec::new();
        for port in 0..ports {
            let socket = dir.path().join(format!("{port}.sock"));
            let mac = frames::mac_text(mac(port));
            args.push("--port".to_owned());
            args.push(format!(
                "socket={},parent=eth0,mac={mac},name=t{port},queue-pairs={pairs}",
                socket.display()
            ));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut backend = Backend::start(&world.host, &args);
        assert_eq!(world.host.links().len(), before.len() + usize::from(ports), "{what}");
        let mut running = Vec::new();
        // Guests on two of the ports at most: the other ports have none, in both cases.
        for port in 0..if load { ports.min(2) } else { 0 } {
            let mut vmm = Vmm::connect(&dir.path().join(format!("{port}.sock")));
            let o = QemuOptions { pairs: pairs.into(), mem_slots: false, ..Default::default() };
            let driver = vmm.start_like_qemu72(&o);
            vmm.guest_sets_pairs(pairs.into(), pairs.into());
            running.push(guest_under_load(vmm, driver, mac(port)));
            running.push(Busy::flood(&world, mac(port)));
        }
        if load {
            let wire = open_wire(&world);
            let seen = wire.recv_where(5 * SECOND, |f| f.len() > 12 && frames::src(f) == mac(0));
            assert!(seen.is_some(), "{what}: no load");
        }
        thread::sleep(SILENCE);
        let start = Instant::now();
        backend.signal(signal);
        let status = backend.wait_exit(5 * SECOND);
        let took = start.elapsed();
        println!("{what}: ended after {took:?}");
        assert_eq!(status.code(), Some(0), "{what}");
        assert_eq!(world.host.links(), before, "{what}: a link was left");
        let sockets = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(sockets, 0, "{what}: a socket was left");
        assert!(took < LEAVE, "{what}: took {took:?}");
        drop(running);
    }
}

#[test]
fn a_signal_ends_one_pair_in_time_and_leaves_nothing() {
    orderly_end(1, 1);
}

#[test]
fn a_signal_ends_32_pairs_in_time_and_leaves_nothing() {
    orderly_end(1, 32);
}

#[test]
fn a_signal_ends_20_ports_in_time_and_leaves_nothing() {
    orderly_end(20, 1);
}

#[test]
fn an_adopted_device_stays_and_is_put_back() {
    let world = World::new();
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("vm.sock").display().to_string();
    world.host.ip("link add link eth0 name vm0 address 02:00:00:00:00:07 type macvtap mode vepa");
    world.host.ip("link set vm0 mtu 1300");
    // The queueing discipline is allotted at the first "up" and stays: the kernel's own doing.
    let show = || world.host.ip("-d link show vm0").replace("qdisc pfifo_fast", "qdisc noop");
    let before = show();
    let line = format!(
        "--parent eth0 --mode vepa --name vm0 --mac 52:54:00:aa:00:01 --mtu 1200 --socket-path {socket}"
    );
    let mut backend = Backend::start(&world.host, &line.split(' ').collect::<Vec<_>>());
    backend.wait_for_log("port vm0: adopted macvtap vm0 on eth0, vepa mode", SECOND);
    let during = show();
    for word in ["52:54:00:aa:00:01", "mtu 1200", "NOARP", "ALLMULTI", "UP"] {
        assert!(during.contains(word), "{word} is not in {during}");
    }
    assert!(backend.stop(SECOND).success());
    assert_eq!(show(), before);
    assert!(!Path::new(&socket).exists());
}

#[test]
fn after_a_crash_the_leftovers_are_taken_over() {
    let mut rig = Rig::new(Macvtap);
    rig.guest(&QemuOptions::default());
    let index = rig.world.host.attribute("t0", "ifindex");
    rig.backend.kill();
    assert!(rig.world.host.has_link("t0") && rig.world.host.has_link("t1"), "nothing was left");
    assert!(rig.socket(0).exists() && rig.socket(1).exists());
    rig.crash_and_restart();
    // The files existed before the program: only the log shows when they are its own.
    rig.backend.wait_for_log("port t1: listens at", 5 * SECOND);
    rig.backend.wait_for_log("macvtap t0: replacing what a killed process has left", SECOND);
    rig.backend.wait_for_log("0.sock: replacing the socket of a process that has ended", SECOND);
    assert_ne!(rig.world.host.attribute("t0", "ifindex"), index, "the old device");
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    rig.both_ways(&mut driver, 0);
    rig.unharmed();
    assert!(rig.backend.stop(SECOND).success());
    assert_eq!(rig.world.host.links(), ["eth0"]);
}

#[test]
fn one_off_ends_with_its_front_end() {
    let mut rig = Rig::with(Macvtap, &["--one-off"]);
    let (vmm, driver) = rig.guest(&QemuOptions::default());
    assert!(rig.backend.alive());
    drop((vmm, driver));
    assert_eq!(rig.backend.wait_exit(2 * SECOND).code(), Some(0));
    assert_eq!(rig.world.host.links(), ["eth0"]);
    assert!(!rig.socket(0).exists() && !rig.socket(1).exists());
}

// --- devices and parents ---

/// How often the log contains this text.
fn said(rig: &Rig, text: &str) -> usize {
    rig.backend.log().matches(text).count()
}

fn wait_said(rig: &Rig, text: &str, times: usize, timeout: Duration) {
    let enough = wait_until(timeout, || said(rig, text) >= times);
    assert!(enough, "the log says '{text}' only {} times within {timeout:?}", said(rig, text));
}

/// The connected guest keeps its rings; only the tap behind them is another one.
#[test]
fn a_deleted_device_is_made_again_under_the_same_front_end() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    for round in 2..4 {
        let used = rig.backend.processor();
        rig.world.host.ip("link del t0");
        wait_said(&rig, "port t0: its device t0 has vanished", round - 1, SECOND);
        wait_said(&rig, "port t0: created macvtap t0 on eth0", round, 3 * SECOND);
        thread::sleep(SECOND);
        let used = rig.backend.processor() - used;
        assert!(used < Duration::from_millis(150), "{used:?} of processor time meanwhile");
        rig.link_up(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
        vmm.sync();
        rig.unharmed();
    }
    assert_eq!(said(&rig, "front-end (process"), 2, "somebody was disconnected");
}

#[test]
fn a_parent_that_went_away_and_came_back_carries_its_ports_again() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    rig.world.host.ip("link del eth0");
    for port in ["t0", "t1"] {
        wait_said(&rig, &format!("port {port}: its device {port} has vanished"), 1, SECOND);
    }
    // Frames that the guest sends now are taken and dropped, so that it does not hang.
    driver.send(0, &vec![frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60); 200]);
    assert!(driver.drain_tx(0, ARRIVAL), "the guest hangs on a port without a device");
    let used = rig.backend.busy(3 * SECOND);
    assert!(used < Duration::from_millis(30), "{used:?} in 3 s without a parent");

    rig.world.plug(&rig.world.host, World::PARENT, "p-host");
    wait_said(&rig, "port t0: created macvtap t0 on eth0", 2, 2 * SECOND);
    wait_said(&rig, "port t1: created macvtap t1 on eth0", 2, 2 * SECOND);
    rig.link_up(&mut driver, 0);
    rig.both_ways(&mut driver, 0);
    vmm.sync();
    rig.unharmed();
    assert_eq!(said(&rig, "front-end (process"), 2, "somebody was disconnected");
}

#[test]
fn a_parent_may_go_down_and_up() {
    let mut rig = Rig::new(Macvtap);
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    for round in 1..4 {
        rig.world.host.ip("link set eth0 down");
        wait_said(&rig, "port t0: its parent eth0 is down", round, SECOND);
        driver.send(0, &vec![frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60); 100]);
        assert!(driver.drain_tx(0, ARRIVAL), "the guest hangs while the parent is down");
        rig.world.host.ip("link set eth0 up");
        wait_said(&rig, "port t0: its parent eth0 is up again", round, 2 * SECOND);
        rig.link_up(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
    }
}

/// The kernel lowers a port's MTU with its parent's and forgets to raise it again: the port stayed
/// at the lowest that its parent ever had, and a front-end that came later was held to the MTU from
/// the start.
#[test]
fn bug_mtu_of_the_parent_was_followed_down_only() {
    let world = World::new();
    let dir = TempDir::new().unwrap();
    let port = |name: &str, more: &str| {
        let socket = dir.path().join(format!("{name}.sock"));
        format!("socket={},parent=eth0,name={name}{more}", socket.display())
    };
    let (free, own) = (port("free", ""), port("own", ",mtu=1400"));
    let backend = Backend::start(&world.host, &["--port", &free, "--port", &own]);
    let mtu = |link: &str| world.host.attribute(link, "mtu").parse::<u32>().unwrap();
    assert_eq!((mtu("free"), mtu("own")), (1500, 1400));
    let mut vmm = Vmm::connect(&dir.path().join("free.sock"));
    let bits = vmm.get_protocol_features() & (proto::MTU | proto::REPLY_ACK);
    vmm.get_features();
    vmm.set_protocol_features(bits);
    for (parent, own) in [(1300, 1300), (1450, 1400), (1280, 1280), (1500, 1400)] {
        world.host.ip(&format!("link set eth0 mtu {parent}"));
        let follows = wait_until(2 * SECOND, || (mtu("free"), mtu("own")) == (parent, own));
        assert!(follows, "parent {parent}: free {}, own {}", mtu("free"), mtu("own"));
        backend.wait_for_log(&format!("MTU {parent}"), SECOND);
        assert_eq!(vmm.net_set_mtu(parent.into()), 0, "the front-end may have {parent}");
        assert_ne!(vmm.net_set_mtu(u64::from(parent) + 1), 0, "more than the parent's {parent}");
    }
    // A front-end that comes after a change gets the new limit too.
    world.host.ip("link set eth0 mtu 1350");
    backend.wait_for_log("MTU 1350", 2 * SECOND);
    drop(vmm);
    let mut vmm = Vmm::connect(&dir.path().join("free.sock"));
    vmm.get_features();
    vmm.set_protocol_features(bits);
    assert_eq!(vmm.net_set_mtu(1350), 0);
    assert_ne!(vmm.net_set_mtu(1351), 0, "the limit from before the change");
}

// --- ways to the front-end ---

/// A guest behind a connection that the back-end has made, with its network.
fn guest_on(stream: UnixStream, wire: &Wire) -> (Vmm, Driver) {
    let mut vmm = Vmm::from_stream(stream);
    let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
    driver.post_rx(0, 64, 2048);
    link_works(&mut driver, wire);
    (vmm, driver)
}

fn link_works(driver: &mut Driver, wire: &Wire) {
    let works = wait_until(5 * SECOND, || {
        let (out, into) = (fresh_tag(), fresh_tag());
        driver.send(0, &[frames::tagged(LAN_MAC, MACS[0], out, 60)]);
        wire.send(&frames::tagged(MACS[0], LAN_MAC, into, 60));
        let mine = |f: &[u8]| frames::tag_of(f) == Some(into);
        driver.recv_where(0, SILENCE, mine).is_some() && wire.recv_tag(out, SILENCE).is_some()
    });
    assert!(works, "no frames both ways");
}

fn accepted(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    let came = wait_until(2 * SECOND, || {
        stream = listener.accept().ok();
        stream.is_some()
    });
    assert!(came, "the back-end does not connect");
    let (stream, _) = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_client_waits_for_its_vmm_and_finds_it_again() {
    let world = World::new();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vmm.sock");
    let line = format!(
        "--client --parent eth0 --name t0 --mac {} --socket-path {}",
        frames::mac_text(MACS[0]),
        path.display()
    );
    let mut backend = Backend::spawn(&world.host, &line.split(' ').collect::<Vec<_>>());
    backend.wait_for_log("port t0: connects to", 5 * SECOND);
    let wire = open_wire(&world);
    // ENOENT first, then ECONNREFUSED: a socket whose process has ended.
    let used = backend.busy(SECOND);
    assert!(used < Duration::from_millis(20), "{used:?} in a second of retries");
    drop(UnixListener::bind(&path).unwrap());
    thread::sleep(Duration::from_millis(600));
    assert!(backend.alive(), "gave up");
    for round in 0..3 {
        fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let (vmm, mut driver) = guest_on(accepted(&listener), &wire);
        link_works(&mut driver, &wire);
        // The VMM and its listener end; the file stays, as after a crash.
        drop((vmm, driver, listener));
        let gone = || backend.log().matches("has disconnected").count() > round;
        assert!(wait_until(SECOND, gone), "round {round}: not noticed");
    }
    assert!(backend.stop(SECOND).success());
    assert!(path.exists(), "the VMM's own socket was removed");
    assert_eq!(world.host.links(), ["eth0"]);
}

#[test]
fn an_inherited_connection_is_served_and_ends_the_process() {
    let world = World::new();
    let wire = open_wire(&world);
    for orderly in [false, true] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let given = theirs.as_raw_fd();
        let mut command = world.host.command(program());
        let mac = frames::mac_text(MACS[0]);
        command.args(["--parent", "eth0", "--name", "t0", "--mac", &mac, "--fd", "40"]);
        // SAFETY: dup2 is async-signal-safe and touches no memory; the copy has no close-on-exec.
        unsafe {
            command.pre_exec(move || match libc::dup2(given, 40) {
                40 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = die_with_us(command.stdin(Stdio::null())).spawn().unwrap();
        drop(theirs);
        let (vmm, driver) = guest_on(ours, &wire);
        assert!(child.try_wait().unwrap().is_none());
        if orderly {
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        } else {
            drop((vmm, driver));
        }
        let mut status = None;
        let ended = wait_until(2 * SECOND, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        assert_eq!(status.and_then(|s| s.code()), Some(0), "orderly: {orderly}");
        assert_eq!(world.host.links(), ["eth0"]);
    }
}

#[test]
fn a_file_describes_two_ports() {
    let world = World::new();
    let dir = TempDir::new().unwrap();
    let sockets = [0, 1].map(|port| dir.path().join(format!("{port}.sock")));
    let file = dir.path().join("ports.toml");
    let table = |port: usize, more: &str| {
        let (socket, mac) = (sockets[port].display(), frames::mac_text(MACS[port]));
        format!("[[port]]\nsocket = '{socket}'\nname = 't{port}'\nmac = '{mac}'\n{more}")
    };
    let text = format!(
        "[defaults]\nparent = 'eth0'\nqueue-pairs = 2\nmtu = 1400\n{}{}",
        table(0, ""),
        table(1, "queue-pairs = 1\nmtu = 1300\n")
    );
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let mut backend = Backend::spawn(&world.host, &["--config", &file]);
    backend.wait_for_log("port t1: listens at", 5 * SECOND);
    let wire = open_wire(&world);
    for (port, pairs, mtu) in [(0, 2, "1400"), (1, 1, "1300")] {
        assert_eq!(world.host.attribute(&format!("t{port}"), "mtu"), mtu);
        let mut vmm = Vmm::connect(&sockets[port]);
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        driver.post_rx(0, 64, 2048);
        assert_eq!(vmm.get_queue_num(), 2 * pairs, "port {port}");
        let tag = fresh_tag();
        let arrived = wait_until(5 * SECOND, || {
            driver.send(0, &[frames::tagged(LAN_MAC, MACS[port], tag, 60)]);
            wire.recv_tag(tag, SILENCE).is_some()
        });
        assert!(arrived, "port {port}");
    }
    assert!(backend.stop(SECOND).success());
    assert_eq!(world.host.links(), ["eth0"]);
    assert!(!sockets[0].exists() && !sockets[1].exists());
}

// --- ports without a guest, guests that take nothing ---

/// Waits until the tap of port 0 is full and drops new frames: frames do arrive.
fn overflows(rig: &Rig) {
    let dropped =
        || rig.world.host.attribute("t0", "statistics/rx_dropped").parse::<u64>().unwrap();
    let before = dropped();
    assert!(wait_until(5 * SECOND, || dropped() > before + 100), "the tap's queue never overflows");
}

#[test]
fn a_port_without_a_front_end_sleeps_and_keeps_nothing_for_the_next() {
    let mut rig = Rig::new(Macvtap);
    for round in 0..3 {
        let flood = Busy::flood(&rig.world, MACS[0]);
        overflows(&rig);
        assert_idle(&rig.backend, "no front-end, frames arriving");
        drop(flood);
        thread::sleep(SILENCE);
        let mut vmm = rig.connect(0);
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        driver.post_rx(0, 200, 2048);
        let come = driver.recv(0, 2 * SILENCE);
        assert!(come.is_none(), "round {round}: a frame from before: {come:?}");
        // A packet socket also receives frames that other sockets send: its buffer is full of the
        // flood.
        rig.wire.clear();
        rig.both_ways(&mut driver, 0);
    }
    rig.unharmed();
}

#[test]
fn an_idle_process_does_not_run() {
    let mut rig = Rig::new(Macvtap);
    assert_idle(&rig.backend, "no front-end");
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    rig.bystander();
    assert_idle(&rig.backend, "two guests that are silent");
    rig.both_ways(&mut driver, 0);
    driver.refill = false;
    rig.use_up_rx(&mut driver, 0);
    let flood = Busy::flood(&rig.world, MACS[0]);
    overflows(&rig);
    assert_idle(&rig.backend, "a guest without buffers, frames arriving");
    drop(flood);
    // The guest takes again, and finds its network as it was.
    driver.post_rx(0, 200, 2048);
    driver.refill = true;
    while driver.recv(0, SILENCE).is_some() {}
    rig.wire.clear();
    rig.both_ways(&mut driver, 0);
}

#[test]
fn a_guest_that_takes_nothing_harms_nobody_else() {
    let mut rig = Rig::with(Macvtap, &["--workers", "1"]);
    rig.bystander();
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    driver.refill = false;
    rig.use_up_rx(&mut driver, 0);
    let _flood = Busy::flood(&rig.world, MACS[0]);
    overflows(&rig);
    for _ in 0..20 {
        rig.unharmed();
        thread::sleep(Duration::from_millis(50));
    }
}

/// The tap takes what its send buffer holds; then the guest's frames wait in its own ring. None is
/// lost.
#[test]
fn a_full_tap_pushes_back_on_its_guest_without_loss_or_spinning() {
    require(&[("tc", "iproute2")]);
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    assert!(driver.drain_tx(0, ARRIVAL));
    let watch = open_wire(&rig.world);
    // 100 kbit/s: a full frame takes an eighth of a second. The queue has room for all, the send
    // buffer has not.
    rig.world.host.sh("tc qdisc add dev t0 root tbf rate 100kbit burst 2kb limit 100mb");
    let mut sent = Vec::new();
    let mut stuck = 0;
    // Fill until a quarter of a second brings at most two buffers back.
    while stuck < 3 {
        let room = driver.pairs[0].tx.free_descriptors();
        for _ in 0..room {
            let tag = fresh_tag();
            sent.push(tag);
            driver.send(0, &[frames::tagged(LAN_MAC, MACS[0], tag, 1514)]);
        }
        thread::sleep(Duration::from_millis(250));
        stuck = if driver.reclaim(0) <= 4 { stuck + 1 } else { 0 };
        assert!(sent.len() < 50_000, "{} frames taken: nothing pushes back", sent.len());
    }
    let waiting = driver.pairs[0].tx.outstanding();
    assert!(waiting > 200, "only {waiting} frames wait in the guest's ring");
    let used = rig.backend.busy(2 * SECOND);
    println!("{} frames sent, {waiting} wait; {used:?} of processor time in 2 s", sent.len());
    assert!(used < Duration::from_millis(20), "{used:?} in 2 s with a full tap");
    rig.unharmed();

    // The brake off (a change, which keeps the queue): everything arrives, nothing twice.
    rig.world.host.sh("tc qdisc change dev t0 root tbf rate 1gbit burst 1mb limit 100mb");
    let wanted: BTreeSet<u64> = sent.iter().copied().collect();
    let mut arrived = Vec::new();
    while arrived.len() < sent.len()
        && let Some(frame) = watch.recv_where(2 * SECOND, |f| frames::tag_of(f).is_some())
    {
        arrived.extend(frames::tag_of(&frame).filter(|tag| wanted.contains(tag)));
    }
    assert_eq!(arrived.len(), sent.len(), "frames that arrived, of those sent");
    // A timer and any sender serve the brake, on two processors, and a veth keeps the order of each
    // only.
    arrived.sort_unstable();
    assert!(arrived == sent, "a frame is missing, another one came twice");
    assert!(driver.drain_tx(0, ARRIVAL), "buffers do not come back");
    rig.both_ways(&mut driver, 0);
    assert_eq!(rig.drops(0), 0, "{}", rig.counters(0));
}

// --- several queue pairs ---

/// Sends this many UDP flows and returns how many frames arrived on each pair.
fn flows(rig: &Rig, driver: &mut Driver, count: u16) -> Vec<usize> {
    let from = |port| frames::End { mac: LAN_MAC, ip: [10, 9, 0, 9], port };
    let to = frames::End { mac: MACS[0], ip: [10, 9, 0, 1], port: 7 };
    for port in 1..=count {
        rig.wire.send(&frames::udp4(from(1000 + port), to, b"one flow of many"));
    }
    let ours = |f: &[u8]| frames::segment(f).is_some_and(|s| s.ports.1 == 7);
    let mut found = vec![0; driver.pairs.len()];
    for (pair, found) in found.iter_mut().enumerate() {
        while driver.recv_where(pair, SILENCE, ours).is_some() {
            *found += 1;
        }
    }
    found
}

/// The kernel spreads flows over attached tap queues: one that the guest does not serve must not be
/// among them.
#[test]
fn a_disabled_queue_pair_gets_no_traffic_until_it_is_enabled() {
    let rig = Rig::new(Macvtap);
    let mut vmm = rig.connect(0);
    let mut driver = vmm.start_like_qemu72(&QemuOptions { pairs: 2, ..Default::default() });
    for pair in 0..2 {
        driver.post_rx(pair, 250, 1600);
    }
    rig.link_up(&mut driver, 0);
    for _ in 0..2 {
        assert_eq!(flows(&rig, &mut driver, 200), [200, 0], "one pair enabled");
        vmm.guest_sets_pairs(2, 2);
        let spread = flows(&rig, &mut driver, 200);
        assert_eq!(spread.iter().sum::<usize>(), 200, "{spread:?}: lost while spreading");
        assert!(spread.iter().all(|&found| found > 40), "{spread:?}: not spread over both pairs");
        vmm.guest_sets_pairs(2, 1);
    }
}
