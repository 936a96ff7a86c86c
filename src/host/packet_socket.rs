//! Opening a packet socket, which is all that a port in userspace needs a privilege for.
//!
//! `socket(AF_PACKET)` wants CAP_NET_RAW, and a buffer above `net.core.wmem_max` or `rmem_max` CAP_NET_ADMIN.
//! Everything after that, from the bind to the membership of a group, any holder of the descriptor may do
//! (`uplink/packet/socket.rs`). The socket is without a protocol here, so it receives nothing yet. It belongs to
//! the network namespace of the calling thread.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket};

/// What may wait in the parent's transmit path before a send says EAGAIN, in bytes. All guests of the
/// parent share it: some forty frames of 64 KiB with their bookkeeping.
const SEND_BUFFER: usize = 4 << 20;

/// What may wait for us before the kernel drops, in bytes with the kernel's bookkeeping, which it counts
/// twice: at least 1800 frames of 1514 bytes, 10000 of the smallest. It holds memory only while they wait.
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
