//! A connection inherited from the process that started this one (`--fd`).
//!
//! The number comes from the command line and may be wrong. It is checked before this process opens
//! any descriptor: later the number could have become one of our own.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use crate::config::{Config, FrontendSocket};
use crate::error::{Error, Result};

/// The connections of the ports that were given one, by the port's name.
pub(crate) fn take_inherited(config: &Config) -> Result<BTreeMap<String, UnixStream>> {
    let mut streams = BTreeMap::new();
    for port in &config.ports {
        if let FrontendSocket::Fd(fd) = port.socket {
            streams.insert(port.name.clone(), inherited(fd)?);
        }
    }
    Ok(streams)
}

/// Takes over an inherited descriptor that must be a connected Unix socket.
fn inherited(fd: RawFd) -> Result<UnixStream> {
    let wrong = |reason: String| {
        Error::descriptor(
            format!("--fd {fd}"),
            reason,
            "pass a connected Unix stream socket that the VMM has the other end of",
        )
    };
    // SAFETY: only a query of its flags; F_GETFD touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(wrong("no such descriptor was inherited".into()));
    }
    // SAFETY: it is open, and by the user's word ours to own: this process has not opened it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let kind = getsockopt(&owned, sockopt::SockType)
        .map_err(|errno| wrong(format!("it is not a socket ({errno})")))?;
    let stream = UnixStream::from(owned);
    if kind != SockType::Stream || stream.peer_addr().is_err() {
        return Err(wrong("it is not a connected Unix stream socket".into()));
    }
    fcntl(&stream, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|errno| wrong(errno.to_string()))?;
    Ok(stream)
}
