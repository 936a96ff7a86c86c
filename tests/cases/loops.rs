//! Front-ends that come and go in a loop.
//!
//! A front-end that fails right after it has connected tries again at once: QEMU does, without a
//! pause, when it wants more queues than the port has. The listener rests between two of them, so
//! each loop costs a small share of a processor, ten lines a minute, and the neighbours nothing. A
//! front-end that is merely started again does not wait.
//!
//! What can go wrong with the tests: see `toll.rs`. A loop's connection is dropped while the
//! back-end has not taken it yet; so each deed waits until the back-end has answered or closed.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::recorded::{CONNECT, PRIVATE_MEMORY, replay};
use super::toll::{self, Toll};
use testkit::backend::Backend;
use testkit::netns::{World, wait_until};
use testkit::rig::{Macvlan, Macvtap, Rig, SECOND};
use testkit::vmm::{QemuOptions, req};

const TIME: Duration = Duration::from_millis(2500);

/// A loop of failing connections: few of them, and hardly any time.
fn failing(deed: impl FnMut(&Rig)) -> Toll {
    failing_at(&mut Rig::new(Macvtap), deed)
}

fn failing_at(rig: &mut Rig, deed: impl FnMut(&Rig)) -> Toll {
    let toll = toll::take(rig, TIME, deed);
    toll.is_bearable(5);
    assert!(toll.process < 0.06, "the process: {:.3} of a processor", toll.process);
    assert!(toll.deeds <= 70, "{} connections in {TIME:?}", toll.deeds);
    toll
}

/// QEMU with `queues=4`: 107,000 connections and 38 MB of log in 54 s, and no line named the cause.
#[test]
fn bug_u2_more_queues_than_the_port_has() {
    let toll = failing(|rig| {
        let mut vmm = rig.connect(0);
        replay(&mut vmm, CONNECT);
    });
    let told = |line: &&String| line.contains("queue-pairs=4") && line.contains("WARN");
    assert!(toll.lines.iter().any(|line| told(&line)), "nothing says why");
}

#[test]
fn bug_u2_connections_that_are_closed_at_once() {
    failing(|rig| {
        let mut vmm = rig.connect(0);
        vmm.shut_down();
        vmm.expect_closed();
    });
}

#[test]
fn bug_u2_half_a_message() {
    failing(|rig| {
        let mut vmm = rig.connect(0);
        let _ = vmm.send_raw(&[1, 0, 0, 0, 1, 0], &[]);
        vmm.shut_down();
        vmm.expect_closed();
    });
}

#[test]
fn bug_u2_what_is_no_vhost_user_message() {
    failing(|rig| {
        let mut vmm = rig.connect(0);
        let _ = vmm.send_raw(b"GET / HTTP/1.1\r\n\r\n", &[]);
        vmm.expect_closed();
    });
}

#[test]
fn bug_u2_features_that_were_never_offered() {
    failing(|rig| {
        let mut vmm = rig.connect(0);
        let _ = vmm.try_send(req::SET_FEATURES, 0, &u64::MAX.to_le_bytes(), &[]);
        vmm.expect_closed();
    });
}

/// With `reconnect=1` it came once a second; a front-end that does not pause is bounded as well.
#[test]
fn bug_u2_private_memory_again_and_again() {
    let mut rig = Rig::new(Macvlan);
    let toll = failing_at(&mut rig, |rig| {
        let mut vmm = rig.connect(0);
        replay(&mut vmm, CONNECT);
        replay(&mut vmm, PRIVATE_MEMORY);
        vmm.expect_closed();
    });
    assert!(toll.lines.iter().any(|line| line.contains("memory must be shared")));
}

/// A second front-end at a port that has one.
#[test]
fn bug_u2_a_second_front_end_that_insists() {
    let mut rig = Rig::new(Macvtap);
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    let toll = toll::take(&mut rig, TIME, |rig| rig.connect(0).expect_closed());
    toll.is_bearable(5);
    assert!(toll.process < 0.06, "the process: {:.3} of a processor", toll.process);
    rig.both_ways(&mut driver, 0);
}

/// `--client`, and a VMM that takes the connection and closes it.
#[test]
fn bug_u2_a_vmm_that_closes_whenever_it_is_dialled() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("vmm.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    let flags = ["--client", "--parent", "eth0", "--name", "t0", "--socket-path", socket];
    let backend = Backend::spawn(&world.host, &flags);
    drop(listener.accept().unwrap());
    listener.set_nonblocking(true).unwrap();
    let (start, before, mut dialled) = (Instant::now(), backend.processor(), 0);
    while start.elapsed() < TIME {
        dialled += usize::from(listener.accept().is_ok());
        std::thread::sleep(Duration::from_millis(5));
    }
    let used = backend.processor() - before;
    assert!((2..=12).contains(&dialled), "dialled {dialled} times in {TIME:?}");
    assert!(used < TIME / 20, "{used:?} in {TIME:?}");
    assert!(toll::lines(&backend, 0).len() <= toll::LINES + 2, "{}", backend.log());
}

/// A VMM that is started again, or a machine that reboots, must not wait for a listener that rests.
#[test]
fn a_front_end_that_is_started_again_does_not_wait() {
    let rig = Rig::new(Macvtap);
    for start in 0..8 {
        let begin = Instant::now();
        let mut vmm = rig.connect(0);
        let driver = vmm.start_like_qemu72(&QemuOptions::default());
        assert!(begin.elapsed() < 2 * SECOND, "start {start} took {:?}", begin.elapsed());
        let open = rig.backend.fds().len();
        drop((vmm, driver));
        assert!(wait_until(2 * SECOND, || rig.backend.fds().len() < open));
    }
}
