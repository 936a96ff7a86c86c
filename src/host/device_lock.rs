//! One thing, one process: the lock that two processes cannot both hold.
//!
//! Any process with the right to may open a tap, and a second reader would silently get half of the
//! guest's frames. So a process that uses the device NAME listens on the abstract Unix socket
//! "vhost-user-macvtap:NAME" first. A parent whose ports live in userspace has the same trouble:
//! two processes there would neither reach each other's guests nor notice that both claim one
//! address. Its lock is "vhost-user-macvtap parent:IFINDEX", by number because a device can be
//! renamed while it is in use; no device name holds a blank, so the two kinds cannot meet.
//!
//! Abstract names live in the network namespace, as device names and indices do; only one socket
//! can have one; and the kernel takes it back when the process dies, however it dies. The
//! second process connects, and SO_PEERCRED says which one listens.
//!
//! No connection is accepted: a question stays in the backlog of the listener. The backlog is
//! therefore small, and once it is full the second process still knows that there is an owner, but
//! not which.
//!
//! What can go wrong: abstract names have no permissions. A local user of the same network
//! namespace can take one and keep a port from starting; the message then names that process.

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

/// How often to try for a name whose owner is about to end, 10 ms apart. The kernel may release a
/// dying process's taps before its lock, and takes some 15 ms for each.
const ATTEMPTS: u32 = 200;

/// The thing to be locked, and the words for a refusal.
#[derive(Clone, Debug)]
pub struct LockName {
    key: String,
    object: String,
    /// Why this very process cannot have it twice, and the remedy.
    again: (&'static str, &'static str),
    /// The remedy if another process has it: stop it, or this.
    instead: &'static str,
}

impl LockName {
    /// The macvtap device `name`.
    pub fn device(name: &str) -> LockName {
        LockName {
            key: format!("vhost-user-macvtap:{name}"),
            object: format!("macvtap {name}"),
            again: ("another port of this process", "give each port a name of its own"),
            instead: "choose another port name",
        }
    }

    /// The parent `name` with index `ifindex`, for ports in userspace.
    pub fn parent(name: &str, ifindex: u32) -> LockName {
        LockName {
            key: format!("vhost-user-macvtap parent:{ifindex}"),
            object: format!("parent {name}"),
            again: ("another switch of this process", "put its ports into one switch"),
            instead: "serve all ports of this parent from one process",
        }
    }

    /// The guardian of the address of the device with index `ifindex` (`guard.rs`).
    pub(crate) fn guardian(ifindex: u32) -> LockName {
        LockName {
            key: format!("vhost-user-macvtap guardian:{ifindex}"),
            object: format!("MAC address of network device {ifindex}"),
            again: ("another guardian", "release that one first"),
            instead: "wait until it has left",
        }
    }
}

/// The right to use one thing, for as long as it is kept.
#[derive(Debug)]
pub struct DeviceLock {
    listener: OwnedFd,
}

impl Drop for DeviceLock {
    /// Closing alone is not enough in a process that starts others: between fork and exec a child
    /// holds a copy of every descriptor, and with it the name. A listener that was shut down
    /// refuses questions from that moment; [`DeviceLock::take`] then waits until the copy is
    /// closed.
    fn drop(&mut self) {
        if let Err(errno) = shutdown(self.listener.as_raw_fd(), Shutdown::Both) {
            log::debug!("lock of a device: {errno}");
        }
    }
}

impl DeviceLock {
    /// Takes the lock in the calling thread's network namespace. One that is just being given back
    /// is waited for, up to two seconds.
    ///
    /// Errors: another process has it, and the message says which; or there can be no socket.
    pub fn take(claim: &LockName) -> Result<DeviceLock> {
        // An owner that ends between our two attempts, or is about to, leaves the name free.
        for _ in 0..ATTEMPTS {
            match attempt(claim) {
                Ok(owner) => return Ok(owner),
                Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(unusable(claim, errno)),
            }
            match ask(claim) {
                Err(Errno::ECONNREFUSED) => sleep(Duration::from_millis(10)),
                answer => return Err(occupied(claim, answer.ok())),
            }
        }
        Err(occupied(claim, None))
    }
}

fn endpoint(claim: &LockName) -> nix::Result<(OwnedFd, UnixAddr)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new_abstract(claim.key.as_bytes())?;
    Ok((socket, address))
}

fn attempt(claim: &LockName) -> nix::Result<DeviceLock> {
    let (listener, address) = endpoint(claim)?;
    bind(listener.as_raw_fd(), &address)?;
    listen(&listener, Backlog::new(QUESTIONS)?)?;
    Ok(DeviceLock { listener })
}

/// The process id of the owner; 0 when it lives in a PID namespace out of our sight.
fn ask(claim: &LockName) -> nix::Result<i32> {
    let (socket, address) = endpoint(claim)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(getsockopt(&socket, PeerCredentials)?.pid())
}

fn occupied(claim: &LockName, pid: Option<i32>) -> Error {
    match pid {
        Some(pid) if u32::try_from(pid) == Ok(std::process::id()) => {
            let (who, remedy) = claim.again;
            Error::in_use(&claim.object, format!("{who} (pid {pid}) uses it already"), remedy)
        }
        Some(pid) if pid > 0 => {
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Error::in_use(
                &claim.object,
                format!("in use by process {pid} ({})", command.trim_end()),
                format!("stop that process, or {}", claim.instead),
            )
        }
        _ => Error::in_use(
            &claim.object,
            "in use by another process",
            format!("find it with 'ss -xlp', stop it, or {}", claim.instead),
        ),
    }
}

fn unusable(claim: &LockName, errno: Errno) -> Error {
    Error::system(
        &claim.object,
        format!("its lock, an abstract Unix socket, cannot be made: {}", io::Error::from(errno)),
        "allow AF_UNIX sockets and free file descriptors",
    )
}
