//! A stand-in for the modules that build namespaces and start the back-end; to be dropped for `netns` and `backend`.
//!
//! Only [`super::rig`] and the two test files that need a process of their own use it, by the two names `World` and
//! `Backend`. A World is a parent interface `up0` in a namespace of its own, joined by a veth to `lan0` in a second
//! one. Needs root and `ip` (iproute2); everything is removed on drop, children by their own process id.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub struct World {
    /// The namespace with the parent interface, where the back-end runs.
    pub netns: String,
    /// The namespace at the other end of the parent's cable.
    pub lan: String,
}

pub const PARENT: &str = "up0";
pub const LAN_IF: &str = "lan0";

fn ip(args: &str) {
    let out = Command::new("ip").args(args.split(' ')).output().expect("run ip (iproute2)");
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
}

impl World {
    pub fn new() -> World {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let netns = format!("vum{}-{n}", std::process::id());
        let lan = format!("{netns}-lan");
        ip(&format!("netns add {netns}"));
        ip(&format!("netns add {lan}"));
        let world = World { netns, lan };
        let (a, b) = (&world.netns, &world.lan);
        ip(&format!(
            "link add {PARENT} netns {a} numtxqueues 4 numrxqueues 4 type veth peer name {LAN_IF} netns {b}"
        ));
        for (ns, ifname) in [(a, "lo"), (a, PARENT), (b, LAN_IF)] {
            ip(&format!("-n {ns} link set {ifname} up"));
        }
        world
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for ns in [&self.lan, &self.netns] {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

pub struct Backend {
    child: Child,
}

impl Backend {
    /// Starts the binary in this namespace. `ip netns exec` becomes the program, so the process id is its own.
    /// `BACKEND_UNDER_TEST` names another binary than the one just built, say an installed one.
    pub fn start(netns: &str, args: &[&str]) -> Backend {
        let built = env!("CARGO_BIN_EXE_vhost-user-macvtap").to_owned();
        let binary = std::env::var("BACKEND_UNDER_TEST").unwrap_or(built);
        let child = Command::new("ip")
            .args(["netns", "exec", netns, &binary])
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("start the back-end");
        Backend { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn alive(&mut self) -> bool {
        self.child.try_wait().expect("wait for the back-end").is_none()
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string())
    }

    pub fn fds(&self) -> usize {
        std::fs::read_dir(self.proc().join("fd")).expect("the back-end's descriptors").count()
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(self.proc().join("task")).expect("the back-end's threads").count()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and gives the exit code; None when it did not end in time.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.stop().is_none() {
            self.kill();
        }
        if let Some(mut out) = self.child.stdout.take() {
            let _ = out.read_to_end(&mut Vec::new());
        }
    }
}
