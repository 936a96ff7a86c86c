//! Signals that are sent by habit or by mistake.
//!
//! A process that carries every guest of a host must not end because a script sent the signal that
//! makes other daemons reload their configuration. A table in docs/operations.md has the effect of
//! each signal; these tests compare the program with it.
//!
//! What can go wrong with the tests: a signal that is pending twice is delivered once. So a loop of
//! signals is counted by its log lines, which have a bound, and not by the signals sent.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use testkit::backend::Backend;
use testkit::netns::{World, wait_until};

const SECOND: Duration = Duration::from_secs(5);

fn serving(world: &World, dir: &tempfile::TempDir) -> Backend {
    let socket = dir.path().join("vm1.sock");
    let socket = socket.to_str().unwrap();
    let flags = ["--parent", World::PARENT, "--socket-path", socket, "--name", "vm1"];
    Backend::start(&world.host, &[&flags[..], &["--type", "macvlan"]].concat())
}

/// SIGHUP ended the process: all ports were gone.
#[test]
fn bug_u6_sighup_is_ignored_with_a_line() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut backend = serving(&world, &dir);
    backend.signal(Signal::SIGHUP);
    backend.wait_for_log("SIGHUP: ignored, the ports go on", SECOND);
    assert!(backend.alive() && dir.path().join("vm1.sock").exists());
    backend.wait_caught_up();
    assert!(backend.stop(SECOND).success());
}

/// Each of these ended the process by the kernel's default, and the devices stayed.
#[test]
fn bug_u6_no_stray_signal_ends_the_process() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut backend = serving(&world, &dir);
    for signal in [
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGPWR,
        Signal::SIGSTKFLT,
    ] {
        backend.signal(signal);
        backend.wait_for_log(&format!("{signal}: ignored"), SECOND);
    }
    for signal in [Signal::SIGPIPE, Signal::SIGXFSZ, Signal::SIGURG, Signal::SIGWINCH] {
        backend.signal(signal);
        backend.wait_caught_up();
    }
    let pid = libc::pid_t::try_from(backend.pid()).unwrap();
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: a signal to a process of ours.
        assert_eq!(unsafe { libc::kill(pid, number) }, 0);
    }
    backend.wait_caught_up();
    assert!(backend.alive());
}

/// SIGQUIT (`Ctrl-\`) left sockets and devices behind.
#[test]
fn bug_u6_sigquit_ends_in_order() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    for signal in [Signal::SIGQUIT, Signal::SIGINT, Signal::SIGTERM, Signal::SIGXCPU] {
        let socket = dir.path().join("vm1.sock");
        let path = socket.to_str().unwrap();
        let mut backend = Backend::start(
            &world.host,
            &["--parent", World::PARENT, "--socket-path", path, "--name", "vm1"],
        );
        assert!(world.host.has_link("vm1"));
        backend.signal(signal);
        assert!(backend.wait_exit(SECOND).success(), "{signal}");
        assert!(!world.host.has_link("vm1") && !socket.exists(), "{signal}");
    }
}

/// `Ctrl-Z` stops the process, as every program in a terminal, and `fg` lets it go on.
#[test]
fn bug_u6_a_stopped_process_goes_on() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let backend = serving(&world, &dir);
    backend.signal(Signal::SIGTSTP);
    let stat = format!("/proc/{}/stat", backend.pid());
    let stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
    assert!(wait_until(SECOND, stopped));
    backend.signal(Signal::SIGCONT);
    backend.wait_caught_up();
}

/// A loop of SIGHUPs writes ten lines a minute, and takes little of the control thread.
#[test]
fn bug_u6_a_loop_of_signals_is_bounded() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut backend = serving(&world, &dir);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        backend.signal(Signal::SIGHUP);
        backend.signal(Signal::SIGUSR2);
        std::thread::sleep(Duration::from_millis(1));
    }
    backend.wait_caught_up();
    let lines = backend.log().matches(": ignored").count();
    assert!((2..=10).contains(&lines), "{lines} lines");
    assert!(backend.stop(SECOND).success());
}
