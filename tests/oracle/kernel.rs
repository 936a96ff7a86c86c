//! The kernel's topology: macvtap devices whose taps are read and written here.
//!
//! This uses none of the program's own device code: that switches off the kernel's multicast
//! filter, which is under test here. The tap's device number is taken from the namespace's own
//! sysfs, and opened through a node of our own: `/dev/tapN` may be another namespace's.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::stat::{Mode as Bits, SFlag, makedev, mknod};
use vhost_user_macvtap::host::tap_setup;
use vhost_user_macvtap::net::mode::Mode;
use vhost_user_macvtap::uplink::tap::TapQueue;

use crate::topology::{Origin, TestLan, To, Topology};
use crate::world::{JOINED, Port, World};
use testkit::netns::Netns;

/// virtio_net_hdr with its number of buffers, as `TapQueue` sets it.
const HEADER: usize = 12;

pub struct Kernel {
    taps: Vec<TapQueue>,
    lan: TestLan,
}

impl Kernel {
    pub fn new(world: &World) -> Kernel {
        let lan = TestLan::new();
        let taps = world.ports.iter().enumerate();
        let taps = taps.map(|(id, port)| make(&lan.netns, id, port)).collect();
        Kernel { taps, lan }
    }
}

/// Makes a device and opens its tap.
fn make(netns: &Netns, id: usize, port: &Port) -> TapQueue {
    let mut add = format!("link add link p0 name t{id}");
    if port.mode != Mode::Passthru {
        add += &format!(" address {}", port.mac);
    }
    add += &format!(" mtu {} type macvtap mode {}", port.mtu, port.mode);
    if port.nodst {
        add += " flag nodst";
    }
    if !port.sources.is_empty() {
        add += " macaddr set";
        port.sources.iter().for_each(|mac| add += &format!(" {mac}"));
    }
    netns.ip(&add);
    let number = netns.sh(&format!("cat /sys/class/net/t{id}/tap*/dev"));
    let (major, minor) = number.trim().split_once(':').unwrap();
    let number = makedev(major.parse().unwrap(), minor.parse().unwrap());
    // /tmp may be mounted without devices.
    let dir = tempfile::Builder::new().prefix("vum-oracle-").tempdir_in("/dev").unwrap();
    let node = dir.path().join("tap");
    mknod(&node, SFlag::S_IFCHR, Bits::S_IRUSR | Bits::S_IWUSR, number).unwrap();
    let mut options = OpenOptions::new();
    let tap = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&node).unwrap();
    let tap = OwnedFd::from(tap);
    tap_setup::set_up(&tap).unwrap();
    assert_eq!(tap_setup::device_name(&tap).unwrap(), format!("t{id}"));
    if port.up {
        netns.ip(&format!("link set t{id} up"));
    }
    for group in JOINED.iter().filter(|_| port.joined) {
        netns.ip(&format!("maddr add {group} dev t{id}"));
    }
    TapQueue::new(tap)
}

impl Topology for Kernel {
    fn send(&mut self, from: Origin, frame: &[u8]) {
        match from {
            Origin::Wire => self.lan.send(frame),
            Origin::Port(id) => {
                let whole = [&[0; HEADER], frame].concat();
                assert_eq!(self.taps[id].write(&whole).unwrap(), whole.len());
            }
        }
    }

    fn received(&mut self) -> Vec<(To, Vec<u8>)> {
        let mut all = self.lan.received();
        let mut buffer = vec![0; 70_000];
        for (id, tap) in self.taps.iter().enumerate() {
            while let Ok(len) = tap.read(&mut buffer) {
                all.push((To::Port(id), buffer[HEADER..len].to_vec()));
            }
        }
        all
    }

    /// The host joined them when the devices were made: a macvtap ignores reports.
    fn join(&mut self) {}

    fn lan(&self) -> &TestLan {
        &self.lan
    }

    fn knows_the_cable(&self) -> bool {
        let state = |id| self.lan.netns.attribute(&format!("t{id}"), "operstate");
        (0..self.taps.len()).all(|id| state(id) == "lowerlayerdown")
    }
}
