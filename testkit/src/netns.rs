//! Networks to test in: namespaces of our own, so that no frame leaves the test.
//!
//! A [`World`] is a small LAN. The `host` namespace is where the back-end runs; its `eth0`, the
//! parent of the ports under test, is one end of a veth pair whose other end is a port of a Linux
//! bridge in the `switch` namespace. `lan` is a machine behind the same bridge: the outside world.
//!
//! ```text
//!   host                 switch                 lan
//!   eth0 ------- p-host [ br0 ] p-lan -------- eth0
//!   192.0.2.1                                  192.0.2.100
//!   2001:db8::1                                2001:db8::100
//! ```
//!
//! The bridge stands for the switch that the user's NIC is plugged into; with hairpin on its port
//! it is a reflective relay, which VEPA needs. The switch has a namespace of its own because a
//! bridge in `host` would be the host's own bridge, and different things would be tested.
//!
//! Names are unique (`vum-<pid>-<n>-<label>`), so tests may run side by side, and the pid says
//! whose they are: [`sweep`] removes what a killed test left behind. Dropping a [`Netns`] ends the
//! processes in it and deletes its links one by one *before* the namespace: deleting a namespace
//! returns at once and destroys the links some time later, and the next test would find them.
//!
//! What can go wrong: all of this needs root and a kernel with veth and bridge; [`require`] says so
//! in words. Nothing here is skipped silently.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What every name of ours starts with.
const PREFIX: &str = "vum-";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// What a command printed (stdout and stderr together) and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// stdout, then stderr.
    pub text: String,
    /// The exit status; 128 + the signal when one ended it, as a shell says it.
    pub status: i32,
}

impl Output {
    /// Whether it ended with status 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }
}

/// Stops the test with a readable reason unless we are root and the programs are installed.
/// Each tool is (program, Debian package).
pub fn require(tools: &[(&str, &str)]) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces and needs root: run it as root (sudo make test)"
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let missing: Vec<&str> = tools
        .iter()
        .filter(|(tool, _)| {
            let extra = ["/usr/sbin", "/sbin"];
            !path.split(':').chain(extra).any(|dir| Path::new(dir).join(tool).exists())
        })
        .map(|(_, package)| *package)
        .collect();
    assert!(
        missing.is_empty(),
        "this test needs: apt-get install {} (or: make install-deps)",
        missing.join(" ")
    );
}

/// Runs a program on the host and collects what it says.
pub fn run(program: &str, args: &[&str]) -> Output {
    finish(Command::new(program).args(args))
}

/// `ip ARGS`, split at white space; anything but success is the test's end.
pub fn ip(args: &str) -> String {
    let words: Vec<&str> = args.split_whitespace().collect();
    let output = run("ip", &words);
    assert!(output.ok(), "ip {args}: {}", output.text);
    output.text
}

fn finish(command: &mut Command) -> Output {
    use std::os::unix::process::ExitStatusExt;
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let status =
        output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    Output { text, status }
}

/// Tries `condition` until it holds; false when `timeout` has passed without.
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A child that dies when we do: a test that is killed must not leave a QEMU or a back-end behind.
///
/// The kernel ties this to the *thread* that starts the child: do not start one in a helper thread
/// that ends before the test does.
pub fn die_with_us(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: runs in the forked child before exec; prctl is async-signal-safe and touches no
    // memory.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        })
    }
}

/// A network namespace, deleted with everything in it when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with a unique name and its loopback device up.
    pub fn new(label: &str) -> Netns {
        require(&[("ip", "iproute2")]);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            sweep();
        }
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        ip(&format!("netns add {name}"));
        let netns = Netns { name };
        netns.ip("link set lo up");
        netns
    }

    /// The name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program to be started in the namespace. `ip netns exec` replaces itself by the program:
    /// the child's pid is the program's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a shell command line in the namespace.
    pub fn run(&self, script: &str) -> Output {
        finish(self.command("sh").args(["-c", script]))
    }

    /// Runs a shell command line that must succeed, and returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.ok(), "{}: {script}: status {}\n{}", self.name, output.status, output.text);
        output.text
    }

    /// `ip -n NAME ARGS`, split at white space, which must succeed.
    pub fn ip(&self, args: &str) -> String {
        ip(&format!("-n {} {args}", self.name))
    }

    /// The names of all links but the loopback device.
    pub fn links(&self) -> Vec<String> {
        links_of(&["-n", &self.name])
    }

    /// Whether the link exists.
    pub fn has_link(&self, link: &str) -> bool {
        self.links().iter().any(|name| name == link)
    }

    /// A counter or attribute of a link: `attribute("eth0", "statistics/rx_packets")`.
    pub fn attribute(&self, link: &str, name: &str) -> String {
        self.sh(&format!("cat /sys/class/net/{link}/{name}")).trim().to_string()
    }

    /// Waits until a link carries frames. The kernel reports its carrier at once, but gives it a
    /// queue only some time later. Until then frames vanish without an error and without being
    /// counted.
    pub fn wait_carries(&self, link: &str) {
        let shown = || self.ip(&format!("-o link show {link}"));
        let carries = || {
            let shown = shown();
            shown.contains("LOWER_UP") && !shown.contains(" qdisc noop ")
        };
        assert!(wait_until(Duration::from_secs(10), carries), "carries no frames: {}", shown());
    }

    /// The link's MAC address.
    pub fn mac(&self, link: &str) -> String {
        self.attribute(link, "address")
    }

    /// Switches IPv6 on a link on or off: off, it sends nothing of its own accord.
    pub fn set_ipv6(&self, link: &str, on: bool) {
        let off = u8::from(!on);
        self.sh(&format!("echo {off} >/proc/sys/net/ipv6/conf/{link}/disable_ipv6"));
    }

    /// Adds an address without duplicate address detection: usable at once.
    pub fn add_address(&self, link: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {link}{nodad}"));
    }

    /// Whether an address answers; tries for about five seconds, since neighbours need to be found.
    pub fn pings(&self, address: &str) -> bool {
        (0..5).any(|_| self.run(&format!("busybox ping -c 1 -W 1 {address}")).ok())
    }

    /// Whether an address stays silent: one try, for tests of what must *not* get through.
    pub fn silent(&self, address: &str) -> bool {
        !self.run(&format!("busybox ping -c 2 -W 1 {address}")).ok()
    }

    /// The pids in the namespace.
    pub fn pids(&self) -> Vec<i32> {
        pids_of(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn links_of(selector: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["-o"].iter().chain(selector).chain(&["link"]).copied().collect();
    run("ip", &args)
        .text
        .lines()
        // "7: eth0@if6: ..."; other lines ("Peer netns reference is invalid.") are about the end of
        // another test.
        .filter_map(|line| line.split_once(": "))
        .filter(|(number, _)| number.parse::<u32>().is_ok())
        .filter_map(|(_, rest)| rest.split([':', '@']).next())
        .filter(|name| *name != "lo")
        .map(str::to_string)
        .collect()
}

fn pids_of(name: &str) -> Vec<i32> {
    run("ip", &["netns", "pids", name])
        .text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Must not panic: it runs while a failed test unwinds.
fn remove(name: &str) {
    for pid in pids_of(name) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    wait_until(Duration::from_secs(2), || pids_of(name).is_empty());
    // A veth's end takes the other one with it, a parent its ports: "Cannot find device" is no
    // fault.
    for link in links_of(&["-n", name]) {
        run("ip", &["-n", name, "link", "del", &link]);
    }
    let output = run("ip", &["netns", "del", name]);
    if !output.ok() {
        eprintln!("ip netns del {name}: {}", output.text);
    }
}

/// All namespaces of ours, with the pid in the name.
fn namespaces() -> Vec<(String, i32)> {
    run("ip", &["netns", "list"])
        .text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| {
            // vum-<pid>-<n>-<label>, nothing less: names of other programs may start alike.
            let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
            let pid = parts.next()?.parse().ok()?;
            parts.nth(1)?;
            Some((name.to_string(), pid))
        })
        .collect()
}

/// Removes the namespaces of test processes that no longer live.
pub fn sweep() {
    for (name, pid) in namespaces() {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            remove(&name);
        }
    }
}

/// What this test process has made and not removed: namespaces, and child processes. Empty when all
/// is well. Meaningful where each test has a process of its own (cargo nextest), or with one
/// thread.
fn leftovers() -> Vec<String> {
    let me = i32::try_from(std::process::id()).unwrap_or(-1);
    let mut found: Vec<String> = namespaces()
        .into_iter()
        .filter(|(_, pid)| *pid == me)
        .map(|(name, _)| format!("namespace {name}"))
        .collect();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // "pid (name) state ppid ...": the name may hold spaces and brackets itself.
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        if tail.split_whitespace().nth(1) == Some(&me.to_string()) {
            found.push(format!("process {head})"));
        }
    }
    found
}

/// Ends the test when `leftovers` finds something.
pub fn assert_nothing_left() {
    let found = leftovers();
    assert!(found.is_empty(), "left behind: {}", found.join(", "));
}

/// A host with a parent NIC, a switch and a machine on the LAN. See the top of this file.
#[derive(Debug)]
pub struct World {
    /// Where the back-end runs; its parent is `eth0`.
    pub host: Netns,
    /// The machine behind the switch; its NIC is `eth0`.
    pub lan: Netns,
    /// The switch: bridge `br0`, ports `p-host` and `p-lan`.
    pub switch: Netns,
    mtu: u32,
}

impl World {
    /// The parent NIC in `host`.
    pub const PARENT: &'static str = "eth0";
    /// The parent's own address.
    pub const HOST_V4: &'static str = "192.0.2.1";
    /// The parent's own IPv6 address.
    pub const HOST_V6: &'static str = "2001:db8::1";
    /// The LAN machine's address.
    pub const LAN_V4: &'static str = "192.0.2.100";
    /// The LAN machine's IPv6 address.
    pub const LAN_V6: &'static str = "2001:db8::100";

    /// A world as most tests want it.
    pub fn new() -> World {
        World::with_mtu(1500)
    }

    /// The parent, the switch and the LAN with this MTU.
    pub fn with_mtu(mtu: u32) -> World {
        let world = World {
            host: Netns::new("host"),
            lan: Netns::new("lan"),
            switch: Netns::new("switch"),
            mtu,
        };
        // No spanning tree, no forward delay, no snooping: a switch that forwards from the first
        // frame.
        world.switch.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        world.switch.set_ipv6("br0", false);
        world.switch.ip(&format!("link set br0 mtu {mtu} up"));
        world.plug(&world.host, World::PARENT, "p-host");
        world.plug(&world.lan, "eth0", "p-lan");
        world.set_hairpin(false);
        world.host.set_ipv6(World::PARENT, true);
        world.host.add_address(World::PARENT, &format!("{}/24", World::HOST_V4));
        world.host.add_address(World::PARENT, &format!("{}/64", World::HOST_V6));
        world.lan.add_address("eth0", &format!("{}/24", World::LAN_V4));
        world.lan.add_address("eth0", &format!("{}/64", World::LAN_V6));
        world
    }

    /// Connects a namespace to the switch: `link` in it, `port` on the bridge. For a second
    /// machine, or a second parent.
    pub fn plug(&self, netns: &Netns, link: &str, port: &str) {
        let mtu = self.mtu;
        netns.ip(&format!(
            "link add {link} mtu {mtu} type veth peer name {port} mtu {mtu} netns {}",
            self.switch.name()
        ));
        self.switch.set_ipv6(port, false);
        self.switch.ip(&format!("link set {port} master br0 up"));
        netns.ip(&format!("link set {link} up"));
        self.switch.wait_carries(port);
        netns.wait_carries(link);
    }

    /// Reflective relay on the parent's port of the switch.
    pub fn set_hairpin(&self, on: bool) {
        let on = if on { "on" } else { "off" };
        self.switch.sh(&format!("bridge link set dev p-host hairpin {on}"));
    }

    /// Pulls or plugs the cable of the parent: carrier off or on.
    pub fn set_cable(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set p-host {state}"));
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}
