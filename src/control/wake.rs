//! The events that wake the event loop.
//!
//! Every descriptor that the loop waits for is registered under a [`WakeToken`]. So this list has
//! every event of the control thread, timers apart. Signals come through a descriptor, too
//! (`signals.rs`). A token of a listener carries its port's key: an event for a port that was
//! removed in the same round finds no port.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use crate::control::port_table::PortKey;

/// An event that wakes the event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeToken {
    /// A signal came.
    Signal,
    /// The kernel has news about devices.
    Links,
    /// A worker saw a new MAC address, or a front-end's connection has ended.
    Notifier,
    /// A front-end wants to connect to this port.
    Listener(PortKey),
}

impl WakeToken {
    /// The number that epoll carries.
    pub(crate) fn number(self) -> u64 {
        match self {
            WakeToken::Signal => 0,
            WakeToken::Links => 1,
            WakeToken::Notifier => 2,
            WakeToken::Listener(port) => port.number() << 3 | 3,
        }
    }

    /// The inverse of [`WakeToken::number`].
    pub(crate) fn of(number: u64) -> Option<WakeToken> {
        Some(match number & 7 {
            0 => WakeToken::Signal,
            1 => WakeToken::Links,
            2 => WakeToken::Notifier,
            3 => WakeToken::Listener(PortKey::of(number >> 3)),
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
            let listener = WakeToken::Listener(PortKey::of(port));
            for token in [WakeToken::Signal, WakeToken::Links, WakeToken::Notifier, listener] {
                assert_eq!(WakeToken::of(token.number()), Some(token));
            }
        }
        assert_eq!(WakeToken::of(4), None);
    }
}
