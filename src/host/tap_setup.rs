//! The first ioctls on an opened tap node: its settings, and the device that it belongs to.
//!
//! Every open of the character device adds a queue to the macvtap device. [`set_up`] makes the
//! settings that every port needs. The caller checks the device's name and address before it trusts
//! a frame to the queue. After that the descriptor goes to `uplink/tap.rs`, which reads and writes.
//!
//! Kernel facts that shape the code (drivers/net/tap.c):
//! - TUNSETIFF ignores the name: the node already says which device it is. It demands exactly
//!   IFF_TAP|IFF_NO_PI and allows IFF_VNET_HDR and IFF_MULTI_QUEUE; anything else is EINVAL.
//! - The header is 10 bytes until TUNSETVNETHDRSZ says otherwise.
//! - All offloads are on right after an open, and TUNSETOFFLOAD counts for the device, not for the
//!   queue.
//!
//! None of these ioctls needs a capability; the open did.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use libc::c_int;

use crate::net::mac::Mac;
use crate::sys::tap_ioctl;

/// Size of the virtio-net header before every frame, in bytes: virtio 1 with `num_buffers`.
const HEADER: c_int = 12;

/// The most bytes that may wait in the device's transmit path before a write returns EAGAIN.
///
/// The kernel's default (208 KiB) holds barely two frames of 64 KiB with their bookkeeping;
/// unlimited (INT_MAX) would never say EAGAIN, so that a guest could fill the parent's queue until
/// frames are dropped silently. 1 MiB is some sixteen large frames: enough to keep a 40 Gbit/s
/// parent busy between two turns of a worker, and the guest feels the wire's back-pressure.
const SEND_BUFFER: c_int = 1 << 20;

/// Sets up a freshly opened tap node (non-blocking): virtio-net header of 12 bytes in little-endian
/// order, send buffer of 1 MiB. Offloads are not touched.
///
/// # Errors
/// Those of the ioctls: EINVAL for a descriptor that is not a macvtap's, ENOLINK when the device
/// was deleted.
pub fn set_up(tap: &OwnedFd) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    tap_ioctl::set_flags(tap, flags)?;
    tap_ioctl::set_header_len(tap, HEADER)?;
    // virtio 1 headers are little endian; the tap's are the host's by default.
    #[cfg(target_endian = "big")]
    tap_ioctl::set_little_endian(tap)?;
    tap_ioctl::set_send_buffer(tap, SEND_BUFFER)?;
    Ok(())
}

/// The name of the device behind this queue.
///
/// # Errors
/// ENOLINK when the device was deleted.
pub fn device_name(tap: &OwnedFd) -> io::Result<String> {
    let name = tap_ioctl::name(tap)?;
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

/// The hardware address of the device behind this queue.
///
/// # Errors
/// ENOLINK when the device was deleted.
pub fn device_mac(tap: &OwnedFd) -> io::Result<Mac> {
    Ok(Mac(tap_ioctl::hardware_address(tap)?))
}

/// Switches all offloads of the device off: no guest has agreed to any yet.
///
/// # Errors
/// ENOLINK when the device was deleted.
pub fn no_offloads(tap: &OwnedFd) -> io::Result<()> {
    tap_ioctl::set_offload(tap, 0)?;
    Ok(())
}
