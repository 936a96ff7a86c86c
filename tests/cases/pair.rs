//! Two guests on one parent, whose cable ends at the test. No bridge stands between: it would keep
//! link control frames, and measure passing ones.
//!
//! The cable's far end takes frames of 9000 bytes, the parent those that the test asks for. So only
//! the back-end and the parent's own driver limit a longer frame. The far end's socket is the
//! program's packet queue, because it keeps VLAN tags.
//!
//! What can go wrong: frames leave and arrive in order, so a frame that was not seen when a later
//! one has come was dropped; a flood of kernel macvlans is the exception, and is waited for.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use vhost_user_macvtap::host::packet_socket;
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::{PacketQueue, PacketSockets};
use vhost_user_macvtap::uplink::send_frame::SEND_HEADER;
use vhost_user_macvtap::uplink::wire::Uplink;

use testkit::backend::Backend;
use testkit::driver::{Driver, VnetHdr};
use testkit::exchange::in_netns;
use testkit::frames::{self, Mac};
use testkit::netns::Netns;
use testkit::rig::{ARRIVAL, fresh_tag};
use testkit::vmm::{QemuOptions, Vmm};

/// The guests' addresses.
pub const MACS: [Mac; 2] = [[0x52, 0x54, 0, 0xcc, 0, 1], [0x52, 0x54, 0, 0xcc, 0, 2]];
/// The machine at the other end of the cable.
pub const FAR: Mac = [0x52, 0x54, 0, 0xdd, 0, 9];
/// Both kinds of ports.
pub const TYPES: [&str; 2] = ["macvtap", "macvlan"];
/// A port that has not shown a frame for so long has dropped it.
pub const SILENCE: Duration = Duration::from_millis(100);

/// A connected guest.
pub struct Guest {
    pub driver: Driver,
    pub vmm: Vmm,
}

/// The parent, its cable, the back-end and the guests.
pub struct Pair {
    pub guests: Vec<Guest>,
    pub backend: Backend,
    pub far: RefCell<PacketQueue>,
    pub host: Netns,
    _lan: Netns,
    dir: TempDir,
    args: Vec<String>,
}

impl Pair {
    /// Ports with these keys beside socket, parent, name and address; one guest for each.
    pub fn new(keys: &[&str], parent_mtu: u32) -> Pair {
        Pair::with(keys, parent_mtu, &QemuOptions::default())
    }

    /// The same with such guests.
    pub fn with(keys: &[&str], parent_mtu: u32, options: &QemuOptions) -> Pair {
        let (host, lan) = (Netns::new("host"), Netns::new("lan"));
        for netns in [&host, &lan] {
            for link in ["default", "all"] {
                netns.set_ipv6(link, false);
            }
        }
        host.ip(&format!(
            "link add p0 mtu {parent_mtu} type veth peer name w0 mtu 9000 netns {}",
            lan.name()
        ));
        if keys.iter().any(|keys| keys.contains("passthru")) {
            // The guest's address from the beginning: a parent that takes another one is deaf for a
            // moment.
            host.ip(&format!("link set p0 address {}", frames::mac_text(MACS[0])));
        }
        host.ip("link set p0 up");
        lan.ip("link set w0 up");
        host.wait_carries("p0");
        lan.wait_carries("w0");
        let far = in_netns(&lan, || {
            let index = nix::net::if_::if_nametoindex("w0").unwrap();
            let (receive, send) =
                (packet_socket::receiving().unwrap(), packet_socket::sending().unwrap());
            let sockets = PacketSockets { receive, send };
            let queue = PacketQueue::open(index, SocketFilter::Everything, sockets).unwrap();
            queue.set_promiscuous(true).unwrap();
            queue
        });
        let dir = TempDir::new().unwrap();
        let mut args = Vec::new();
        for (n, keys) in keys.iter().enumerate() {
            let socket = dir.path().join(format!("{n}.sock"));
            let (socket, mac) = (socket.display(), frames::mac_text(MACS[n]));
            let mac = if keys.contains("passthru") { String::new() } else { format!(",mac={mac}") };
            args.push("--port".to_owned());
            args.push(format!("socket={socket},parent=p0,name=t{n}{mac},{keys}"));
        }
        let backend = start(&host, &args);
        let mut pair = Pair {
            guests: Vec::new(),
            backend,
            far: RefCell::new(far),
            host,
            _lan: lan,
            dir,
            args,
        };
        for n in 0..keys.len() {
            let guest = pair.connect(n, options);
            pair.guests.push(guest);
        }
        pair.warm_up();
        pair
    }

    pub fn socket(&self, port: usize) -> PathBuf {
        self.dir.path().join(format!("{port}.sock"))
    }

    fn connect(&self, port: usize, options: &QemuOptions) -> Guest {
        let mut vmm = Vmm::connect(&self.socket(port));
        let mut driver = vmm.start_like_qemu72(options);
        driver.post_rx(0, 200, 2048);
        Guest { driver, vmm }
    }

    /// A port's device or the parent takes a moment until it sends: a frame each way until it has
    /// arrived.
    fn warm_up(&mut self) {
        for (n, mac) in MACS.into_iter().enumerate().take(self.guests.len()) {
            let deadline = Instant::now() + ARRIVAL;
            let (mut out, mut into) = (false, false);
            while !(out && into) {
                assert!(Instant::now() < deadline, "port {n}: no link");
                let (one, other) = (fresh_tag(), fresh_tag());
                self.guests[n].driver.send(0, &[frames::tagged(FAR, mac, one, 60)]);
                self.far.borrow().send_one(&frames::tagged(mac, FAR, other, 60)).unwrap();
                out |= self.wire_gets(|f| frames::tag_of(f) == Some(one), SILENCE);
                into |= self.guest_gets(n, |f| frames::tag_of(f) == Some(other), SILENCE);
            }
        }
    }

    /// The back-end ends as in a crash, is started again, and the guests' rings go on.
    pub fn restart(&mut self, options: &QemuOptions) {
        self.backend.kill();
        self.backend = start(&self.host, &self.args);
        for n in 0..self.guests.len() {
            let mut vmm = Vmm::connect(&self.socket(n));
            vmm.memory = self.guests[n].vmm.memory.clone();
            vmm.reconnect_like_qemu72(options, &mut self.guests[n].driver);
            self.guests[n].vmm = vmm;
        }
        self.warm_up();
    }

    /// New guests at all ports, after the old ones have disconnected.
    pub fn reconnect_fresh(&mut self, options: &QemuOptions) {
        let ports = self.args.len() / 2;
        self.guests = (0..ports).map(|n| self.connect(n, options)).collect();
        self.warm_up();
    }

    /// Sends a frame from a guest.
    pub fn send(&mut self, port: usize, frame: &[u8]) {
        self.guests[port].driver.send(0, &[frame]);
    }

    /// Sends an unfinished one.
    pub fn send_with(&mut self, port: usize, header: &VnetHdr, frame: &[u8]) {
        self.guests[port].driver.send_with(0, header, frame);
    }

    /// Sends a frame at the far end of the cable.
    pub fn send_far(&self, frame: &[u8]) {
        self.far.borrow().send_with_header(&[0; SEND_HEADER], frame).expect("the far end sends");
    }

    /// Whether such a frame comes out of the cable.
    pub fn wire_gets(&self, mut wanted: impl FnMut(&[u8]) -> bool, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut found = false;
        loop {
            for frame in self.far.borrow_mut().receive(32).frames {
                found |= wanted(&[&frame.head[..], frame.body].concat());
            }
            if found || Instant::now() >= deadline {
                return found;
            }
            let far = self.far.borrow();
            poll(&mut [PollFd::new(far.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10u8))
                .unwrap();
        }
    }

    /// Whether such a frame comes to a guest.
    pub fn guest_gets(
        &mut self,
        port: usize,
        wanted: impl Fn(&[u8]) -> bool,
        within: Duration,
    ) -> bool {
        self.guests[port].driver.recv_where(0, within, wanted).is_some()
    }

    /// How often a port dropped a frame from its guest for this reason.
    pub fn dropped(&self, port: usize, reason: &str) -> u64 {
        let start = format!("port t{port}: from the guest:");
        let lines = || self.backend.log().matches(&start).count();
        let before = lines();
        self.backend.signal(Signal::SIGUSR1);
        let deadline = Instant::now() + ARRIVAL;
        while lines() == before {
            assert!(Instant::now() < deadline, "no counters at SIGUSR1");
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = self.backend.log();
        let line = log.lines().rev().find(|line| line.contains(&start)).unwrap();
        let ours = line.split("; to the guest").next().unwrap();
        let part =
            |part: &str| part.trim().strip_suffix(reason)?.split_whitespace().last()?.parse().ok();
        ours.split([',', ':']).find_map(part).unwrap_or(0)
    }
}

fn start(host: &Netns, args: &[String]) -> Backend {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Backend::start(host, &args)
}
