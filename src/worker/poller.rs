//! One epoll instance, owned.
//!
//! The `epoll` crate wraps the system calls and nothing more: it hands out raw descriptors, does
//! not close them, and does not retry after a signal. [`Poller`] adds that. A token is a plain
//! number here; each loop (the control loop, the workers) has its own meaning for it.
//!
//! What can go wrong: a descriptor that was closed without [`Poller::remove`] stays registered
//! while another process holds the same open file description, and then fires indefinitely with an
//! old token. Every owner in this crate therefore removes before it closes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use epoll::{ControlOptions, Event, Events};
use nix::sys::epoll::{Epoll, EpollCreateFlags};

/// Readiness wanted or seen: re-exported so that only this file names the crate.
pub use epoll::{Event as Ready, Events as Interest};

/// One epoll instance.
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

impl Poller {
    /// Creates an instance that is closed on exec.
    pub fn new() -> io::Result<Poller> {
        // This call is nix's, which returns an owned descriptor.
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { fd: epoll.0 })
    }

    fn control(&self, op: ControlOptions, fd: RawFd, events: Events, token: u64) -> io::Result<()> {
        epoll::ctl(self.fd.as_raw_fd(), op, fd, Event::new(events, token))
    }

    /// Watches `fd`; its events carry `token`.
    pub fn add(&self, fd: &impl AsRawFd, events: Events, token: u64) -> io::Result<()> {
        self.control(ControlOptions::EPOLL_CTL_ADD, fd.as_raw_fd(), events, token)
    }

    /// Changes what is watched of a registered `fd`.
    pub fn modify(&self, fd: &impl AsRawFd, events: Events, token: u64) -> io::Result<()> {
        self.control(ControlOptions::EPOLL_CTL_MOD, fd.as_raw_fd(), events, token)
    }

    /// Stops watching `fd`. One that is not registered is fine.
    pub fn remove(&self, fd: &impl AsRawFd) {
        let _ = self.control(ControlOptions::EPOLL_CTL_DEL, fd.as_raw_fd(), Events::empty(), 0);
    }

    /// Waits at most `timeout_ms` (without a limit when negative) and returns the events that came.
    /// A signal counts as "nothing came".
    pub fn wait<'a>(&self, timeout_ms: i32, events: &'a mut [Event]) -> io::Result<&'a [Event]> {
        match epoll::wait(self.fd.as_raw_fd(), timeout_ms, events) {
            Ok(count) => Ok(events.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}
