//! The program under test, as a process.
//!
//! [`Backend::start`] runs the binary that cargo built inside a namespace. It returns when every
//! socket that its arguments name can be connected to. The program promises that a socket appears
//! only when it can be served, so this is both a convenience and a test. The log goes to a file: a
//! test can wait for a line ([`Backend::wait_for_log`]), and a failure can show all of it.
//!
//! What can go wrong: a program that ends before its sockets exist ends the test. When a test
//! fails, dropping the `Backend` prints the log. A socket file left by an earlier run looks like
//! the awaited one (a trial connection would look like a front-end): use a fresh directory.
//! Dropping a `Backend` kills it with SIGKILL, so only the removal of the namespace cleans up.
//! Tests of the orderly end use [`Backend::signal`] and [`Backend::wait_exit`].

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::netns::{Netns, die_with_us, require, wait_until};

/// The program's path: what cargo built, unless `VUM_BINARY` names another one, such as a
/// package's.
///
/// Cargo passes the path (`CARGO_BIN_EXE_*`) only to the main package's tests, and only when it
/// compiles them. It builds the program before them, into PROFILE; they are in PROFILE/deps.
pub fn program() -> PathBuf {
    std::env::var_os("VUM_BINARY").map_or_else(built, PathBuf::from)
}

/// What cargo built together with the test, benchmark or example that runs.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let profile = test.ancestors().nth(2).expect("a directory that cargo builds into");
    let program = profile.join("vhost-user-macvtap");
    assert!(program.exists(), "{} is not built: cargo build", program.display());
    program
}

/// The end of a run that the test waits for from its start.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A running back-end.
#[derive(Debug)]
pub struct Backend {
    child: Child,
    dir: TempDir,
    sockets: Vec<PathBuf>,
}

impl Backend {
    /// Starts the program in `netns` and waits (ten seconds at most) for its sockets.
    pub fn start(netns: &Netns, args: &[&str]) -> Backend {
        let mut backend = Backend::spawn(netns, args);
        backend.wait_sockets(Duration::from_secs(10));
        backend
    }

    /// Starts the program and returns at once: for `--client`, and for programs that must fail.
    pub fn spawn(netns: &Netns, args: &[&str]) -> Backend {
        Backend::spawn_by(netns, &[], &program(), args)
    }

    /// [`Backend::start`] by another command, such as setpriv(1), and of another program file.
    pub fn start_by(netns: &Netns, before: &[&str], program: &Path, args: &[&str]) -> Backend {
        let mut backend = Backend::spawn_by(netns, before, program, args);
        backend.wait_sockets(Duration::from_secs(10));
        backend
    }

    fn spawn_by(netns: &Netns, before: &[&str], program: &Path, args: &[&str]) -> Backend {
        require(&[("ip", "iproute2")]);
        let dir = tempfile::Builder::new()
            .prefix("vum-backend-")
            .tempdir()
            .expect("a temporary directory for the back-end's log");
        let open = |name: &str| File::create(dir.path().join(name)).expect("the back-end's log");
        let program = program.to_str().expect("a path in UTF-8");
        let line = [before, &[program]].concat();
        let mut command = netns.command(line[0]);
        command
            .args(&line[1..])
            .args(args)
            .stdin(Stdio::null())
            .stdout(open("stdout"))
            .stderr(open("stderr"))
            .env("RUST_BACKTRACE", "1");
        let child = die_with_us(&mut command).spawn().expect("the back-end starts");
        Backend { child, dir, sockets: sockets_in(args) }
    }

    /// Runs the program to its end: `--check`, `--help`, errors. Killed (code `None`) after
    /// `timeout`.
    pub fn run(netns: &Netns, args: &[&str], timeout: Duration) -> Finished {
        let mut backend = Backend::spawn(netns, args);
        let status = backend.try_wait_exit(timeout);
        if status.is_none() {
            backend.kill();
        }
        Finished {
            code: status.and_then(|status| status.code()),
            stdout: backend.stdout(),
            stderr: backend.log(),
        }
    }

    /// Waits until every socket named in the arguments is there.
    fn wait_sockets(&mut self, timeout: Duration) {
        let end = Instant::now() + timeout;
        let is_socket = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        };
        while !self.sockets.iter().all(is_socket) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the back-end ended ({status}) before its socket was there");
            }
            let missing: Vec<_> = self.sockets.iter().filter(|path| !is_socket(path)).collect();
            assert!(Instant::now() < end, "no socket {missing:?} after {timeout:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processor time that the process has used, in nanoseconds (/proc counts in hundredths of
    /// a second).
    pub fn processor(&self) -> Duration {
        let mut clock: libc::clockid_t = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id");
        // SAFETY: both calls only write to the variable given to them.
        unsafe {
            assert_eq!(libc::clock_getcpuclockid(pid, &mut clock), 0);
            assert_eq!(libc::clock_gettime(clock, &mut time), 0);
        }
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    /// The share of the processor that the process uses in this time.
    pub fn busy(&self, time: Duration) -> Duration {
        let before = self.processor();
        std::thread::sleep(time);
        self.processor() - before
    }

    /// What it has logged (stderr) so far.
    pub fn log(&self) -> String {
        self.read("stderr")
    }

    /// What it has printed (stdout) so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log contains `text`; ends the test when the time is over.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) {
        let found = wait_until(timeout, || self.log().contains(text));
        assert!(found, "the log does not say '{text}' within {timeout:?}");
    }

    /// Waits until the control thread has done all work that was due before this call: it logs its
    /// counters after that. Asks twice, since the control thread may have seen the first request
    /// together with the due work.
    pub fn wait_caught_up(&self) {
        for _ in 0..2 {
            let told = || self.log().matches(": from the guest: ").count();
            let before = told();
            self.signal(Signal::SIGUSR1);
            let tells = wait_until(Duration::from_secs(10), || told() > before);
            assert!(tells, "no counters at SIGUSR1");
        }
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal}: {error}"));
    }

    /// Waits for the end; `None` when it does not come in time.
    pub fn try_wait_exit(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting for the back-end") {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end, which must come in time.
    pub fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        self.try_wait_exit(timeout)
            .unwrap_or_else(|| panic!("the back-end still runs after {timeout:?}"))
    }

    /// SIGTERM, and the end within `timeout`: the orderly way.
    pub fn stop(&mut self, timeout: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(timeout)
    }

    /// SIGKILL: the crash.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What its open file descriptors refer to, in their order.
    pub fn fds(&self) -> Vec<String> {
        let mut fds: Vec<(u32, String)> = fs::read_dir(self.proc("fd"))
            .expect("the back-end's open files")
            .flatten()
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                let target = fs::read_link(entry.path()).ok()?;
                Some((number, target.to_string_lossy().into_owned()))
            })
            .collect();
        fds.sort();
        fds.into_iter().map(|(_, target)| target).collect()
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        fs::read_dir(self.proc("task"))
            .expect("the back-end's threads")
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
            .map(|name| name.trim().to_string())
            .collect()
    }

    /// Resident memory in KiB. Guest memory that the back-end has touched is part of it.
    pub fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS")
    }

    /// Resident memory in KiB without shared mappings: what the back-end itself takes.
    pub fn private_kib(&self) -> u64 {
        self.status_kib("RssAnon")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the back-end's status");
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|value| value.split_whitespace().next())
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {field} in /proc/PID/status"))
    }

    fn proc(&self, entry: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(entry)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the back-end's log ----\n{}---- end of log ----", self.log());
        }
    }
}

/// The sockets that these arguments make the program listen at.
fn sockets_in(args: &[&str]) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|index| args.get(index)).copied();
        let spec = match (previous, arg.strip_prefix("--port=")) {
            (Some("--socket-path" | "--control"), _) => {
                sockets.push(PathBuf::from(arg));
                continue;
            }
            (Some("--port"), _) => arg,
            (_, Some(spec)) => spec,
            _ => continue,
        };
        if !spec.split(',').any(|pair| pair == "client=on") {
            let path = spec.split(',').find_map(|pair| pair.strip_prefix("socket="));
            sockets.extend(path.map(PathBuf::from));
        }
    }
    if args.contains(&"--client") {
        sockets.clear();
    }
    sockets
}
