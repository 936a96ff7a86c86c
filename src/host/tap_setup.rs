//! The first ioctls on an opened tap node: how it is set up, and whose it is.
//!
//! Every open of the character device adds a queue to the macvtap device. [`set_up`] gives the queue what every
//! port needs, and the device is asked for its name and address before a frame is trusted to it. After that the
//! descriptor goes to `uplink/tap.rs`, which reads and writes.
//!
//! Kernel facts that shape the code (drivers/net/tap.c):
//! - TUNSETIFF ignores the name: the node already says which device it is. It demands exactly
//!   IFF_TAP|IFF_NO_PI and allows IFF_VNET_HDR and IFF_MULTI_QUEUE; anything else is EINVAL.
//! - The header is 10 bytes until TUNSETVNETHDRSZ says otherwise.
//! - All offloads are on right after an open, and TUNSETOFFLOAD counts for the device, not for the queue.
//!
//! None of these ioctls needs a capability; the open did.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_short};

use crate::net::mac::Mac;

/// Size of the virtio-net header before every frame, in bytes: virtio 1 with `num_buffers`.
const HEADER: c_int = 12;

/// What may wait in the device's transmit path before a write says EAGAIN, in bytes.
///
/// The kernel's default (208 KiB) holds barely two frames of 64 KiB with their bookkeeping;
/// unlimited (INT_MAX) would never say EAGAIN, so that a guest could fill the parent's queue until
/// frames are dropped silently. 1 MiB is some sixteen large frames: enough to keep a 40 Gbit/s
/// parent busy between two turns of a worker, and the guest feels the wire's back-pressure.
const SEND_BUFFER: c_int = 1 << 20;

const INT: usize = mem::size_of::<c_int>();
mod ioctl {
    use super::{INT, c_int};
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, INT), libc::ifreq);
    nix::ioctl_read_bad!(tun_get_iff, nix::request_code_read!(b'T', 210, INT), libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_offload, nix::request_code_write!(b'T', 208, INT));
    nix::ioctl_write_ptr_bad!(tun_set_sndbuf, nix::request_code_write!(b'T', 212, INT), c_int);
    nix::ioctl_write_ptr_bad!(tun_set_header, nix::request_code_write!(b'T', 216, INT), c_int);
    nix::ioctl_read_bad!(get_hardware_address, libc::SIOCGIFHWADDR, libc::ifreq);
    #[cfg(target_endian = "big")]
    nix::ioctl_write_ptr_bad!(tun_set_le, nix::request_code_write!(b'T', 220, INT), c_int);
}
use ioctl::*;

/// Sets up a freshly opened tap node (non-blocking): virtio-net header of 12 bytes in little-endian order,
/// send buffer of 1 MiB. Offloads are not touched.
///
/// # Errors
/// Those of the ioctls: EINVAL for a descriptor that is not a macvtap's, ENOLINK when the device has gone.
pub fn set_up(tap: &OwnedFd) -> io::Result<()> {
    let fd = tap.as_raw_fd();
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut request = empty_request();
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call.
    unsafe { tun_set_iff(fd, &request) }?;
    // SAFETY: as above, with an int.
    unsafe { tun_set_header(fd, &HEADER) }?;
    // virtio 1 headers are little endian; the tap's are the host's by default.
    #[cfg(target_endian = "big")]
    // SAFETY: as above, with an int.
    unsafe { tun_set_le(fd, &1) }?;
    // SAFETY: as above, with an int.
    unsafe { tun_set_sndbuf(fd, &SEND_BUFFER) }?;
    Ok(())
}

/// The name of the device behind this queue.
///
/// # Errors
/// ENOLINK when the device has gone.
pub fn device_name(tap: &OwnedFd) -> io::Result<String> {
    let mut request = empty_request();
    // SAFETY: the kernel writes one ifreq, which `request` is.
    unsafe { tun_get_iff(tap.as_raw_fd(), &mut request) }?;
    // SAFETY: c_char and u8 have the same layout, and the array is IFNAMSIZ bytes long.
    let name: &[u8; libc::IFNAMSIZ] = unsafe { &*request.ifr_name.as_ptr().cast() };
    let name = CStr::from_bytes_until_nul(name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

/// The hardware address of the device behind this queue.
///
/// # Errors
/// ENOLINK when the device has gone.
pub fn device_mac(tap: &OwnedFd) -> io::Result<Mac> {
    let mut request = empty_request();
    // SAFETY: the kernel writes one ifreq, which `request` is.
    unsafe { get_hardware_address(tap.as_raw_fd(), &mut request) }?;
    // SAFETY: SIOCGIFHWADDR fills the hardware address member; any bytes are a valid one.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    let mut mac = [0u8; 6];
    for (to, from) in mac.iter_mut().zip(data) {
        *to = from as u8;
    }
    Ok(Mac(mac))
}

/// Switches all offloads of the device off: no guest has agreed to any yet.
///
/// # Errors
/// ENOLINK when the device has gone.
pub fn no_offloads(tap: &OwnedFd) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a number, no memory is involved.
    unsafe { tun_set_offload(tap.as_raw_fd(), 0) }?;
    Ok(())
}

fn empty_request() -> libc::ifreq {
    // SAFETY: an ifreq is plain numbers in every variant of its union: all zero is a valid one.
    unsafe { mem::zeroed() }
}
