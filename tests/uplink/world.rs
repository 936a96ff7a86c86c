//! A network namespace with a veth pair: `p0` is the parent, `w0` the wire.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use vhost_user_macvtap::host::macvtap::Macvtap;
use vhost_user_macvtap::host::packet_socket;
use vhost_user_macvtap::host::spec::MacvtapSpec;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;
use vhost_user_macvtap::uplink::packet::queue::PacketSockets;
use vhost_user_macvtap::uplink::tap::TapQueue;

/// The address that most tests give their port.
pub const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// The queues of a port's device, to read and write.
pub fn taps(port: &mut Macvtap) -> Vec<TapQueue> {
    port.take_queues().into_iter().map(TapQueue::new).collect()
}

/// The sockets of one packet queue.
pub fn sockets() -> PacketSockets {
    let (receive, send) = (packet_socket::receiving().unwrap(), packet_socket::sending().unwrap());
    PacketSockets { receive, send }
}

pub struct World {
    pub name: String,
}

impl World {
    /// A new world, or nothing (said on stderr) without root.
    pub fn new() -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: sudo make test");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vum-{}-{count}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let world = World { name };
        world.ip("link add w0 type veth peer name p0");
        world.ip("link set w0 up");
        world.ip("link set p0 up");
        world
    }

    /// Runs `ip` in this world; panics when it fails.
    pub fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments.split_whitespace());
        run("ip", &all)
    }

    /// Runs `ethtool` in this world; panics when it fails.
    pub fn ethtool(&self, arguments: &str) -> String {
        let mut all = vec!["netns", "exec", self.name.as_str(), "ethtool"];
        all.extend(arguments.split_whitespace());
        run("ip", &all)
    }

    /// No IPv6, so that neither end sends anything by itself from now on.
    pub fn quiet(&self) {
        self.enter(|| {
            for device in ["w0", "p0"] {
                let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
                std::fs::write(path, "1").unwrap();
            }
        });
    }

    /// `ip -d link show DEVICE`, or nothing when there is no such device.
    pub fn show(&self, device: &str) -> Option<String> {
        let all = ["-d", "-n", &self.name, "link", "show", device];
        let output = Command::new("ip").args(all).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// The MAC address of a device, as text.
    pub fn mac_of(&self, device: &str) -> String {
        let text = self.show(device).unwrap();
        let at = text.find("link/ether ").unwrap() + 11;
        text[at..at + 17].to_string()
    }

    /// Runs `job` in a thread of this network namespace, under the /sys of the root namespace.
    pub fn enter<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                job()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As `enter`, with the right /sys.
    pub fn enter_with_sys<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.enter(|| {
            const NO: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
            mount(NO, "/", NO, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO).unwrap();
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NO).unwrap();
            job()
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The link first: deleting a namespace is asynchronous.
        let _ = Command::new("ip").args(["-n", &self.name, "link", "del", "w0"]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A port of `p0` with one queue and the usual address (none in passthru mode).
pub fn spec(name: &str, mode: Mode) -> MacvtapSpec {
    MacvtapSpec {
        name: name.into(),
        parent: "p0".into(),
        mode,
        mac: (mode != Mode::Passthru).then_some(MAC),
        mtu: None,
        queues: 1,
        sources: Vec::new(),
    }
}

/// Reads frames from the queue for up to a second, until `wanted` accepts one (without its header).
pub fn read_until(queue: &TapQueue, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    poll_until(Duration::from_secs(1), || {
        let mut buffer = vec![0u8; 70_000];
        let length = queue.read(&mut buffer).ok()?;
        Some(buffer[12..length].to_vec()).filter(|frame| wanted(frame))
    })
}

/// Repeats `attempt` until it gives something or the time is over.
pub fn poll_until<T>(time: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        let found = attempt();
        if found.is_some() || Instant::now() > end {
            return found;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// An Ethernet frame of 60 bytes.
pub fn frame(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &kind.to_be_bytes(), payload].concat();
    frame.resize(60.max(frame.len()), 0);
    frame
}
