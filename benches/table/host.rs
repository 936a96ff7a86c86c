//! The machine: whether it is quiet, which processor runs what, and how much processor time a
//! process uses.
//!
//! A machine that does other work gives wrong rates. So the program measures only after the
//! processors have been idle for a second, and names the processes that keep them busy. Generator
//! and back-end have a processor each, so neither takes time from the other.
//!
//! Processor time is the scheduler's (`/proc/PID/task/*/schedstat`), in nanoseconds. It counts
//! spinning as work: a back-end that polls uses all of its processor.
//!
//! What can go wrong: the kernel does not see a hypervisor that gives our processors to other
//! machines. It sees steal time, which counts as busy.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::Result;

/// The processor of the guests.
pub const GENERATOR: usize = 0;
/// The processor of a back-end with one worker.
pub const BACKEND: usize = 1;
/// The program measures only if the processors are idle for at least this share.
const IDLE: f64 = 0.95;
/// How many seconds a case waits for a quiet machine.
const TRIES: usize = 5;

/// Ties the calling thread, and what it starts, to a processor.
///
/// # Errors
/// There is no such processor.
pub fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| {
        format!("processor {processor}: {error}; the table needs two processors at least").into()
    })
}

/// Raises the limit of descriptors: a thousand guests need several thousand, and so does the
/// back-end.
///
/// # Errors
/// The limit cannot be read or set.
pub fn more_files() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get one live rlimit.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

/// The number of processors, regardless of this thread's affinity.
pub fn processors() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}

/// Nanoseconds of processor time that all threads of a process have used; 0 after its end.
pub fn used(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| first_number(&task.path().join("schedstat"))).sum()
}

/// Nanoseconds of processor time that the calling thread has used.
pub fn used_here() -> u64 {
    first_number(std::path::Path::new("/proc/thread-self/schedstat")).unwrap_or(0)
}

fn first_number(path: &std::path::Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

/// Watches the machine for a second; an error names the processes that keep it busy.
///
/// # Errors
/// The processors were idle for less than 95 %.
pub fn quiet() -> Result<f64> {
    let (before, tasks) = (stat()?, tasks());
    sleep(Duration::from_secs(1));
    let (after, now) = (stat()?, self::tasks());
    let idle = (after.idle - before.idle) as f64 / (after.all - before.all).max(1) as f64;
    if idle >= IDLE {
        return Ok(idle);
    }
    let mut busy: Vec<(u64, String)> = now
        .iter()
        .map(|(pid, (ticks, name))| {
            let before = tasks.get(pid).map_or(0, |task| task.0);
            (ticks.saturating_sub(before), format!("{name} ({pid})"))
        })
        .filter(|(ticks, _)| *ticks > 0)
        .collect();
    busy.sort_by(|a, b| b.cmp(a));
    let names: Vec<String> = busy
        .iter()
        .take(5)
        .map(|(ticks, name)| format!("{name} {ticks} % of a processor"))
        .collect();
    let who = if names.is_empty() { "no visible process".to_owned() } else { names.join(", ") };
    Err(format!(
        "the machine is busy: {:.0} % idle over a second, {:.0} % are needed; it is kept busy by {who}. \
         Wait, or end that; --even-if-busy measures all the same and says so in the report",
        idle * 100.0,
        IDLE * 100.0
    )
    .into())
}

/// Waits a few seconds for a quiet second, between two cases.
///
/// # Errors
/// There was none; the text is that of [`quiet`].
pub fn wait_quiet() -> Result<f64> {
    let mut last = quiet();
    for _ in 0..TRIES {
        if last.is_ok() {
            break;
        }
        last = quiet();
    }
    last
}

/// The share of processor time that the hypervisor gives to others from now on, in words.
pub fn stolen() -> impl Fn() -> String {
    let ticks = || stat().map_or((0, 0), |stat| (stat.stolen, stat.all));
    let before = ticks();
    move || {
        let after = ticks();
        let share = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;
        format!("{:.1} % of the time", share * 100.0)
    }
}

/// Ticks of all processors since the start of the machine.
struct Ticks {
    idle: u64,
    stolen: u64,
    all: u64,
}

/// The first line of /proc/stat.
fn stat() -> Result<Ticks> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("/proc/stat is empty")?;
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let of = |at: usize| ticks.get(at).copied().unwrap_or(0);
    Ok(Ticks { idle: of(3) + of(4), stolen: of(7), all: ticks.iter().sum() })
}

/// Ticks (hundredths of a second) and name of every process.
fn tasks() -> HashMap<u32, (u64, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let task = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let ticks = tail.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
        Some((pid, (ticks.sum(), head.split_once('(')?.1.to_owned())))
    };
    entries.filter_map(task).collect()
}

/// The facts about the machine in the report, one line each.
pub fn description() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown".to_owned(), |(_, name)| name.trim().to_owned());
    let hypervisor = read("/proc/cpuinfo").contains(" hypervisor");
    vec![
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"], "")),
        (
            "processor",
            format!(
                "{}, {cpu}{}",
                processors(),
                if hypervisor { ", in a virtual machine" } else { "" }
            ),
        ),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("pages of the guests", "4 KiB, unless a row says otherwise".to_owned()),
        ("compiler", said("rustc", &["--version"], "")),
        ("DPDK", said("dpdk-testpmd", &["-v", "-h"], "RTE Version")),
    ]
}

/// The first line with `word` in a program's output: its quoted part, or all of it.
fn said(program: &str, words: &[&str], word: &str) -> String {
    let Ok(output) = Command::new(program).args(words).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains(word)).unwrap_or("says nothing");
    line.split('\'').nth(1).unwrap_or(line).trim().to_owned()
}
