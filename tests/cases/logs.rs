//! Every source of log lines, in a loop.
//!
//! A guest or a front-end can repeat its actions within one connection 100,000 times a second. Each
//! source of a log line is driven here as fast as possible. The limits are ten lines a minute, 5 %
//! of a processor of the control thread, and no lost frame of the neighbour. The last tests are
//! about lines that nothing reads.
//!
//! What can go wrong with the tests: see `toll.rs`. A source that ends its connection is in
//! `loops.rs`.

use std::fs::OpenOptions;
use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::toll::{self, Toll};
use testkit::backend::program;
use testkit::driver::Driver;
use testkit::frames;
use testkit::netns::{World, die_with_us, wait_until};
use testkit::rig::{LAN_MAC, MACS, Macvlan, Macvtap, PortType, Rig, SECOND, fresh_tag};
use testkit::vmm::{NEED_REPLY, QemuOptions, Vmm, pair_of, req};

const TIME: Duration = Duration::from_millis(1500);

/// A guest at port 0 that does the deed again and again; it comes back if it is cut off.
fn flood(
    ports: PortType,
    extra: &[&str],
    mut deed: impl FnMut(&mut Vmm, &mut Driver, u32) -> bool,
) -> Toll {
    let mut rig = Rig::with(ports, extra);
    let start = |rig: &Rig| {
        let mut vmm = rig.connect(0);
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        driver.post_rx(0, 64, 2048);
        driver.allow_empty = true;
        (vmm, driver)
    };
    let (mut guest, mut count) = (Some(start(&rig)), 0);
    let toll = toll::take(&mut rig, TIME, |rig| {
        let (vmm, driver) = guest.get_or_insert_with(|| start(rig));
        count += 1;
        if !deed(vmm, driver, count) {
            guest = None;
        }
    });
    toll.is_bearable(10);
    toll
}

/// One request with an answer; false when the connection was ended.
fn ask(vmm: &mut Vmm, request: u32, payload: &[u8]) -> bool {
    vmm.try_send(request, NEED_REPLY, payload, &[]).is_ok() && vmm.try_reply().is_ok()
}

/// 20 MB of log in a second.
#[test]
fn bug_f16_net_set_mtu() {
    flood(Macvtap, &[], |vmm, _, _| ask(vmm, req::NET_SET_MTU, &1400u64.to_le_bytes()));
}

#[test]
fn bug_f16_refused_mtu_unknown_requests_and_memory() {
    flood(Macvtap, &[], |vmm, _, count| match count % 3 {
        0 => ask(vmm, req::NET_SET_MTU, &9000u64.to_le_bytes()),
        1 => ask(vmm, 99 + count, &[]),
        _ => ask(vmm, req::SET_MEM_TABLE, &[1; 40]),
    });
}

/// 15 MB of log in a second.
#[test]
fn bug_f16_kicks_at_null() {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    flood(Macvtap, &[], |vmm, _, _| {
        vmm.try_send(req::SET_VRING_KICK, NEED_REPLY, &[0; 8], &[null.as_raw_fd()]).is_ok()
            && vmm.try_reply().is_ok()
    });
}

/// 6.4 MB of log in a second, by the control thread: the neighbours got 4 frames of 40 meanwhile.
#[test]
fn bug_f16_send_rarp() {
    let payload = [&MACS[0][..], &[0; 2]].concat();
    flood(Macvtap, &[], |vmm, _, _| ask(vmm, req::SEND_RARP, &payload));
}

/// The table of the switch was made anew each time: 58 % of a processor of the control thread.
#[test]
fn bug_f19_toggled_rings() {
    flood(Macvlan, &[], |vmm, _, count| {
        // A connection that has used up what it may send at once: the rest is paced.
        if count == 1 && !(0..4096).all(|_| ask(vmm, req::GET_FEATURES, &[])) {
            return false;
        }
        ask(vmm, req::SET_VRING_ENABLE, &pair_of(0, count % 2))
    });
}

/// It was written once a second for each ring.
#[test]
fn a_guest_that_breaks_its_ring_and_has_it_reset() {
    flood(Macvtap, &[], |vmm, driver, _| {
        let tx = &mut driver.pairs[0].tx;
        tx.set_avail_idx(tx.avail_idx().wrapping_add(0x4000));
        tx.kick();
        std::thread::sleep(Duration::from_millis(1));
        vmm.get_vring_base(1);
        tx.reset();
        vmm.set_vring_base(1, 0);
        vmm.set_vring_kick(tx);
        vmm.sync();
        true
    });
}

#[test]
fn bug_f16_a_guest_with_a_new_address_for_every_frame() {
    for allow in [false, true] {
        let policy = if allow { "allow" } else { "deny" };
        let extra = ["--mac-changes", policy];
        flood(Macvlan, &extra, |_, driver, count| {
            let mut source = [0x52, 0x54, 0, 0, 0, 0];
            source[2..].copy_from_slice(&count.to_be_bytes());
            driver.send(0, &[frames::tagged(LAN_MAC, source, fresh_tag(), 60)]);
            driver.drain_tx(0, SECOND)
        });
    }
}

/// The program with a standard error that is a pipe, which nothing reads until the test does, and
/// which is full.
fn unread(world: &World, socket: &Path) -> (Child, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let mut command = world.host.command(program());
    command
        .args(["--parent", "eth0", "--name", "t0", "--log-level", "trace", "--type=macvlan"])
        .args(["--socket-path", socket.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer);
    let child = die_with_us(&mut command).spawn().unwrap();
    // It has another copy of the pipe's end.
    drop(command);
    let mut vmm = Vmm::connect(socket);
    // A pipe holds 64 KiB, the program's queue 256 KiB: some thousand lines.
    for _ in 0..8000 {
        vmm.get_features();
    }
    (child, reader)
}

/// With nothing that reads standard error, the control thread stood still.
#[test]
fn bug_f16_a_full_standard_error_stopped_the_control_thread() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("t0.sock");
    let (mut child, mut reader) = unread(&world, &socket);
    // The control thread takes another one: it does not wait for the pipe.
    let mut vmm = Vmm::connect(&socket);
    assert_ne!(vmm.get_features(), 0);
    let start = Instant::now();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let ended = wait_until(10 * SECOND, || child.try_wait().unwrap().is_some());
    assert!(
        ended && start.elapsed() < Duration::from_millis(800),
        "the end took {:?}",
        start.elapsed()
    );
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert!(log.len() >= 60_000, "{} bytes: the pipe was not full", log.len());
}

/// The same, read before the end: a line reports the missing ones, and the last lines come.
#[test]
fn bug_f16_lost_lines_are_counted() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("t0.sock");
    let (mut child, mut reader) = unread(&world, &socket);
    let pid = Pid::from_raw(child.id() as i32);
    let ender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        kill(pid, Signal::SIGTERM).unwrap();
    });
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    ender.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(log.contains(" lines of the log lost: standard error was not read"));
    assert!(log.contains("ends by signal"), "the last lines are missing");
}
