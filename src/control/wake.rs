//! What can wake the event loop.
//!
//! Every descriptor that the loop waits for is registered under a [`Token`], so this list is the list of
//! everything that can happen to the control thread, timers apart. Signals come through a descriptor, too
//! (`signals.rs`). A token of a listener carries its port's key: an event for a port that was removed in the
//! same round finds no port.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use crate::control::port_table::PortKey;

/// Everything that can wake the event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A signal came.
    Signal,
    /// The kernel has news about devices.
    Links,
    /// A worker saw a new MAC address, or a front-end's connection has ended.
    Notifier,
    /// A front-end wants to connect to this port.
    Listener(PortKey),
}

impl Token {
    /// The number that epoll carries.
    pub(crate) fn number(self) -> u64 {
        match self {
            Token::Signal => 0,
            Token::Links => 1,
            Token::Notifier => 2,
            Token::Listener(port) => port.number() << 3 | 3,
        }
    }

    /// The inverse of [`Token::number`].
    pub(crate) fn of(number: u64) -> Option<Token> {
        Some(match number & 7 {
            0 => Token::Signal,
            1 => Token::Links,
            2 => Token::Notifier,
            3 => Token::Listener(PortKey::of(number >> 3)),
            _ => return None,
        })
    }
}

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Stop,
}

/// A descriptor that another object owns.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_goes_through_a_number() {
        for port in [0, 1, 7, (1 << 61) - 1] {
            let listener = Token::Listener(PortKey::of(port));
            for token in [Token::Signal, Token::Links, Token::Notifier, listener] {
                assert_eq!(Token::of(token.number()), Some(token));
            }
        }
        assert_eq!(Token::of(4), None);
    }
}
