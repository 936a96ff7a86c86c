//! The private socket between a session and the crate's daemon.
//!
//! The daemon accepts its connection from a listener. Ours is an unnamed (autobound) abstract
//! socket with a backlog of one, to which we connect before any other process can. If another
//! process was quicker, the backlog is full, our connect fails, and another listener is made.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, listen,
    socket,
};
use vhost::vhost_user::Listener;

/// A listener for the daemon with our connection in its queue, and our end of it.
///
/// # Errors
/// There are no descriptors left, or another process keeps connecting.
pub(crate) fn private_connection() -> io::Result<(Listener, UnixStream)> {
    let new = |flags: SockFlag| {
        socket(AddressFamily::Unix, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)
    };
    for _ in 0..100 {
        let listener: OwnedFd = new(SockFlag::empty())?;
        bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
        // A backlog of 0 has room for one connection.
        listen(&listener, Backlog::new(0)?)?;
        let address: UnixAddr = getsockname(listener.as_raw_fd())?;
        let ours = new(SockFlag::SOCK_NONBLOCK)?;
        match connect(ours.as_raw_fd(), &address) {
            Ok(()) => {
                return Ok((Listener::from(UnixListener::from(listener)), UnixStream::from(ours)));
            }
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other("another process keeps connecting to our private sockets"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_private_connection_has_room_for_one() {
        let (listener, mut ours) = private_connection().unwrap();
        let address: UnixAddr = getsockname(listener.as_raw_fd()).unwrap();
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let other = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        let refused = connect(other.as_raw_fd(), &address);
        assert_eq!(refused, Err(nix::errno::Errno::EAGAIN));
        let mut accepted = listener.accept().unwrap().unwrap();
        ours.set_nonblocking(false).unwrap();
        ours.write_all(b"x").unwrap();
        let mut byte = [0];
        accepted.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
