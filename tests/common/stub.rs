//! A stand-in for the modules that build namespaces and start the back-end; to be dropped for `netns` and `backend`.
//!
//! Only [`super::rig`] uses it, by the names `World` and `Backend`, which have the same shape there and here. A World
//! is a parent `eth0` in the namespace `host`, joined by a veth to `eth0` in the namespace `lan`. Needs root and `ip`
//! (iproute2); everything is removed on drop, children by their own process id.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub struct Netns(String);

impl Netns {
    pub fn name(&self) -> &str {
        &self.0
    }
}

pub struct World {
    /// The namespace with the parent interface, where the back-end runs.
    pub host: Netns,
    /// The namespace at the other end of the parent's cable.
    pub lan: Netns,
}

fn ip(args: &str) {
    let out = Command::new("ip").args(args.split(' ')).output().expect("run ip (iproute2)");
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
}

impl World {
    pub const PARENT: &str = "eth0";

    pub fn new() -> World {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vum-{}-{n}", std::process::id());
        let world =
            World { host: Netns(format!("{name}-host")), lan: Netns(format!("{name}-lan")) };
        let (a, b) = (world.host.name(), world.lan.name());
        ip(&format!("netns add {a}"));
        ip(&format!("netns add {b}"));
        ip(&format!("link add eth0 netns {a} type veth peer name eth0 netns {b}"));
        for (ns, ifname) in [(a, "lo"), (a, "eth0"), (b, "eth0")] {
            ip(&format!("-n {ns} link set {ifname} up"));
        }
        world
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for ns in [&self.lan, &self.host] {
            let _ = Command::new("ip").args(["netns", "del", ns.name()]).status();
        }
    }
}

pub struct Backend {
    child: Child,
}

impl Backend {
    /// Starts the binary in this namespace. `ip netns exec` becomes the program, so the process id is its own.
    /// `BACKEND_UNDER_TEST` names another binary than the one just built, say an installed one.
    pub fn start(netns: &Netns, args: &[&str]) -> Backend {
        let built = env!("CARGO_BIN_EXE_vhost-user-macvtap").to_owned();
        let binary = std::env::var("BACKEND_UNDER_TEST").unwrap_or(built);
        let child = Command::new("ip")
            .args(["netns", "exec", netns.name(), &binary])
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

    pub fn fds(&self) -> Vec<String> {
        self.entries("fd")
    }

    pub fn threads(&self) -> Vec<String> {
        self.entries("task")
    }

    fn entries(&self, dir: &str) -> Vec<String> {
        let path = Path::new("/proc").join(self.pid().to_string()).join(dir);
        let entries = std::fs::read_dir(path).expect("the back-end's /proc");
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
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
    }
}
