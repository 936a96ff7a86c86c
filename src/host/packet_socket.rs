//! Opening a packet socket, the only call of a port in userspace that needs a privilege.
//!
//! `socket(AF_PACKET)` needs CAP_NET_RAW, and a buffer above `net.core.wmem_max` or `rmem_max`
//! needs CAP_NET_ADMIN. Any holder of the descriptor may make all later calls, from the bind to the
//! membership of a group (`uplink/packet/socket.rs`). The socket has no protocol here, so it
//! receives nothing yet. It belongs to the network namespace of the calling thread.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket};

/// The most bytes that may wait in the parent's transmit path before a send returns EAGAIN. All
/// guests of the parent share it: some forty frames of 64 KiB with their bookkeeping.
const SEND_BUFFER: usize = 4 << 20;

/// The most bytes that may wait for us before the kernel drops, with the kernel's bookkeeping,
/// which it counts twice: at least 1800 frames of 1514 bytes, 10000 of the smallest. It holds
/// memory only while they wait.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket to send frames by.
///
/// # Errors
/// EPERM without CAP_NET_RAW; EAFNOSUPPORT without CONFIG_PACKET.
pub fn sending() -> io::Result<OwnedFd> {
    let fd = open()?;
    // Without CAP_NET_ADMIN the kernel caps the buffer (net.core.wmem_max), which is no error.
    setsockopt(&fd, SndBufForce, &SEND_BUFFER)
        .or_else(|_| setsockopt(&fd, SndBuf, &SEND_BUFFER))?;
    Ok(fd)
}

/// A socket to receive frames by.
///
/// # Errors
/// Those of [`sending`].
pub fn receiving() -> io::Result<OwnedFd> {
    let fd = open()?;
    // As above (net.core.rmem_max).
    setsockopt(&fd, RcvBufForce, &RECEIVE_BUFFER)
        .or_else(|_| setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER))?;
    Ok(fd)
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Packet, SockType::Raw, flags, None)
}
