//! Connected Unix sockets: which process is at the other end, and is it still there?

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};

/// Connects to the socket at `path` and never waits: a full backlog is an error (EAGAIN).
///
/// # Errors
/// No process listens there, the path cannot be reached, or it is too long for an address.
pub fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// The process id behind a connected socket; 0 when the kernel does not report it.
pub fn peer_pid(stream: &UnixStream) -> i32 {
    getsockopt(stream, sockopt::PeerCredentials).map_or(0, |peer| peer.pid())
}

/// Whether the other side of a socket, or our own, has ended the connection.
pub fn hung_up(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_peer_is_named_and_its_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        assert_eq!(connect_to(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let ours = connect_to(&path).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        assert_eq!(peer_pid(&ours), i32::try_from(std::process::id()).unwrap());
        assert!(!hung_up(&ours));
        drop(theirs);
        assert!(hung_up(&ours));
        drop(listener);
        let refused = connect_to(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
