//! The cost of a thousand guests that do nothing.
//!
//! An idle guest must be as good as free, or no operator could put a thousand on a host. Nothing
//! may wake up by the clock, and buffers for moving frames may not exist before frames move. A
//! timer here or a buffer per port there easily breaks both, so they are counted. Guest memory is
//! not counted: it is the guest's.
//!
//! What can go wrong: a machine that allows fewer descriptors than a thousand guests need in this
//! process and in the program. There are fewer guests then, and the test says how many.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use testkit::backend::Backend;
use testkit::driver::Driver;
use testkit::memory::{Backing, Memory};
use testkit::userspace::Bench;
use testkit::vmm::{QemuOptions, Vmm};

/// Guests, where the machine allows them.
const GUESTS: usize = 1000;
/// Descriptors of one guest, on the side that has more of them.
const DESCRIPTORS: u64 = 18;
/// What each may take of the program's own memory, in KiB. It takes some 51, most of it for the
/// stacks and the heap of two threads: the port's own and the crate's.
const PER_PORT: u64 = 60;
/// The program's own memory without ports, in KiB.
const BASE: u64 = 1024;
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// As many guests as the limit of descriptors allows, once it is raised.
fn guests() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    usize::try_from(hard / DESCRIPTORS).unwrap().min(GUESTS)
}

/// How often the threads of the program have given up a processor, or lost it.
fn switches(backend: &Backend) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", backend.pid())).unwrap();
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches:"));
        lines.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
    };
    tasks.map(|task| count(fs::read_to_string(task.unwrap().path().join("status")).unwrap())).sum()
}

#[test]
fn a_thousand_idle_guests_cost_next_to_nothing() {
    let count = guests();
    let bench = Bench::bridge(count, &["--workers", "2"]);
    let backend = &bench.backend;
    let bare = backend.private_kib();
    // One memory for all: they do nothing with it.
    let memory = Memory::single(&Backing::Memfd, 1 << 30);
    let options = QemuOptions::default();
    let _guests: Vec<(Vmm, Driver)> = (0..count)
        .map(|port| {
            let mut vmm = Vmm::connect(&bench.socket(port)).with_memory(&memory);
            let mut driver = vmm.start_like_qemu72(&options);
            driver.post_rx(0, 4, 2048);
            vmm.sync();
            (vmm, driver)
        })
        .collect();
    // The last one's news to the control side, and what the worker does at a ring's start.
    std::thread::sleep(Duration::from_millis(500));
    let (threads, private) = (backend.threads(), backend.private_kib());
    let descriptors = backend.fds().len();
    let (before, busy) = (switches(backend), backend.busy(WATCHED));
    let wakes = switches(backend) - before;
    println!(
        "{count} guests: {wakes} context switches and {busy:?} of a processor in {WATCHED:?}; {bare} KiB without \
         them, {private} KiB with; {} threads, {descriptors} descriptors; {} KiB in all",
        threads.len(),
        backend.rss_kib()
    );
    assert!(wakes <= 10, "{wakes} wake-ups in {WATCHED:?}");
    assert!(busy <= WATCHED / 1000, "{busy:?} of a processor in {WATCHED:?}");
    assert!(bare <= BASE + count as u64 * 8, "{bare} KiB for {count} ports without guests");
    assert!(private <= BASE + count as u64 * PER_PORT, "{private} KiB for {count} guests");
    // Two for each connection, the port's and the crate's; and ours, of which there are as many as
    // were asked for.
    let of_front_ends = |name: &&String| name.starts_with("fe-") || name.starts_with("vu-");
    let theirs = threads.iter().filter(of_front_ends).count();
    assert_eq!((threads.len() - theirs, theirs), (4, 2 * count), "{threads:?}");
}
