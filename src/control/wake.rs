//! What can wake the control loop.
//!
//! Every descriptor that the loop waits for is registered under a [`Token`], so this list is the list of
//! everything that can happen to the control side, timers apart. Signals come through a descriptor too
//! (`signals.rs`).

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Everything that can wake the control loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A signal came.
    Signal,
    /// The kernel has news about devices.
    Links,
    /// A worker saw a new MAC address, or a front-end's connection has ended.
    Bell,
    /// A front-end wants to connect to this port.
    Listener(usize),
}

impl Token {
    /// The number that epoll carries.
    pub(crate) fn number(self) -> u64 {
        let (kind, port) = match self {
            Token::Signal => (0, 0),
            Token::Links => (1, 0),
            Token::Bell => (2, 0),
            Token::Listener(port) => (3, port),
        };
        (port as u64) << 3 | kind
    }

    /// The inverse of [`Token::number`].
    pub(crate) fn of(number: u64) -> Option<Token> {
        let port = (number >> 3) as usize;
        Some(match number & 7 {
            0 => Token::Signal,
            1 => Token::Links,
            2 => Token::Bell,
            3 => Token::Listener(port),
            _ => return None,
        })
    }
}

/// A descriptor that somebody else owns.
pub(crate) struct Borrowed(pub(crate) RawFd);

impl AsRawFd for Borrowed {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// A borrowed descriptor as the poller takes it.
pub(crate) fn borrowed(fd: BorrowedFd<'_>) -> Borrowed {
    Borrowed(fd.as_raw_fd())
}
