//! One device, one process: the lock that two processes cannot both hold.
//!
//! A tap can be opened by anybody with the right to, and a second reader would silently get half of
//! the guest's frames. So whoever uses the device NAME listens on the abstract Unix socket
//! "vhost-user-macvtap:NAME" first. Abstract names live in the network namespace, as device names
//! do; only one socket can have one; and the kernel takes it back when the process dies, however it
//! dies. Whoever comes second connects, and SO_PEERCRED tells who listens.
//!
//! Nobody ever accepts: a question stays in the backlog of the listener. The backlog is therefore
//! small, and once it is full the second process still knows that there is an owner, but not which.
//!
//! What can go wrong: abstract names have no permissions. A local user of the same network namespace
//! can take one and keep a port from starting; the message then names that process.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, getsockopt,
    listen, shutdown, socket,
};

use crate::error::{Error, Result};

/// Questions ("who are you?") that an owner answers over its life.
const QUESTIONS: i32 = 32;

/// How often to try for a name whose owner is about to go, 10 ms apart. The kernel may release a
/// dying process's taps before its lock, and takes some 15 ms for each.
const ATTEMPTS: u32 = 200;

/// The right to use one device, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Owner {
    listener: OwnedFd,
}

impl Drop for Owner {
    /// Closing alone is not enough in a process that starts others: between fork and exec a child
    /// holds a copy of every descriptor, and with it the name. A listener that was shut down refuses
    /// questions from that moment, which tells [`Owner::take`] to wait for the rest.
    fn drop(&mut self) {
        if let Err(errno) = shutdown(self.listener.as_raw_fd(), Shutdown::Both) {
            log::debug!("lock of a macvtap device: {errno}");
        }
    }
}

impl Owner {
    /// Takes the lock for the device `name` in the calling thread's network namespace.
    pub(super) fn take(name: &str) -> Result<Owner> {
        // An owner that ends between our two looks, or is about to, leaves the name free.
        for _ in 0..ATTEMPTS {
            match attempt(name) {
                Ok(owner) => return Ok(owner),
                Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(unusable(name, errno)),
            }
            match ask(name) {
                Err(Errno::ECONNREFUSED) => sleep(Duration::from_millis(10)),
                answer => return Err(occupied(name, answer.ok())),
            }
        }
        Err(occupied(name, None))
    }
}

fn endpoint(name: &str) -> nix::Result<(OwnedFd, UnixAddr)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new_abstract(format!("vhost-user-macvtap:{name}").as_bytes())?;
    Ok((socket, address))
}

fn attempt(name: &str) -> nix::Result<Owner> {
    let (listener, address) = endpoint(name)?;
    bind(listener.as_raw_fd(), &address)?;
    listen(&listener, Backlog::new(QUESTIONS)?)?;
    Ok(Owner { listener })
}

/// The process id of the owner; 0 when it lives in a PID namespace out of our sight.
fn ask(name: &str) -> nix::Result<i32> {
    let (socket, address) = endpoint(name)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(getsockopt(&socket, PeerCredentials)?.pid())
}

fn occupied(name: &str, pid: Option<i32>) -> Error {
    let object = format!("macvtap {name}");
    match pid {
        Some(pid) if u32::try_from(pid) == Ok(std::process::id()) => Error::failed(
            object,
            format!("another port of this process (pid {pid}) uses it already"),
            "give each port a name of its own",
        ),
        Some(pid) if pid > 0 => {
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Error::failed(
                object,
                format!("in use by process {pid} ({})", command.trim_end()),
                "stop that process, or choose another port name",
            )
        }
        _ => Error::failed(
            object,
            "in use by another process",
            "find it with 'ss -xlp', stop it, or choose another port name",
        ),
    }
}

fn unusable(name: &str, errno: Errno) -> Error {
    Error::failed(
        format!("macvtap {name}"),
        format!("its lock, an abstract Unix socket, cannot be made: {}", io::Error::from(errno)),
        "allow AF_UNIX sockets and free file descriptors",
    )
}
