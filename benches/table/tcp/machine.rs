//! A machine for TCP: a namespace with an address and either a tap with offloads, or the LAN's
//! veth.
//!
//! The tap is configured as vhost-net's users have it: a virtio-net header of 12 bytes, with
//! checksums and segmentation (TSO) left to the far side. So a connection hands over up to 64 KiB
//! at a time, for every contender.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::load::Placement;
use crate::cable::inside;
use crate::limits::tap;
use testkit::frames::{Mac, mac_text};
use testkit::netns::Netns;

/// The only device of a machine.
const DEVICE: &str = "eth0";

/// A namespace with one device.
pub struct Machine {
    /// The namespace of its programs.
    pub netns: Netns,
    /// Its IPv4 address.
    pub address: String,
}

impl Machine {
    /// A machine with a tap, and the tap's other end. The last byte of its address is `host`.
    pub fn new(label: &str, mac: Mac, host: u8) -> io::Result<(Machine, File)> {
        let netns = Netns::new(label);
        let file = inside(&netns, || open_tap(DEVICE))??;
        netns.sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
        let address = format!("198.18.7.{host}");
        netns.ip(&format!("link set {DEVICE} address {} mtu 1500 up", mac_text(mac)));
        netns.add_address(DEVICE, &format!("{address}/24"));
        Ok((Machine { netns, address }, file))
    }
}

impl Machine {
    /// The place for programs.
    pub fn place(&self) -> Placement<'_> {
        Placement { netns: &self.netns, address: &self.address }
    }
}

/// Makes a tap device in the calling thread's namespace, or opens the one that is there. It does
/// not wait.
pub fn open_tap(name: &str) -> io::Result<File> {
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: an ifreq is plain numbers: all zero is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    nix::errno::Errno::result(done)?;
    tap::prepare(&tap)?;
    Ok(tap)
}
