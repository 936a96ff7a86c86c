//! One ring as the control side hands it to the data side.
//!
//! A [`Line`] is what the two directions of a queue pair have in common: the active ring (if any), the
//! eventfds around it, what is at its far end and the counters. It starts a ring when all that
//! it needs is there and stops it when something is taken away; in between the worker has it.
//!
//! A ring that breaks its own rules (see `ring.rs`) is stopped here, the front-end told through its
//! error eventfd, and stays stopped until the front-end resets it: a bad guest loses its port's ring,
//! never the process.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::batch::End;
use super::plug::Plug;
use super::ring::{Fault, Ring, RingSetup};
use crate::stats::Counters;
use crate::uplink::TapQueue;

/// Least time between two log lines about a broken ring.
const WARN_PAUSE: Duration = Duration::from_secs(1);

/// What the front-end wants of a ring, as far as it has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// The ring is to run: it has been given a kick eventfd and was not stopped since.
    pub ready: bool,
    /// The ring may move frames (SET_VRING_ENABLE).
    pub enabled: bool,
    /// Addresses and sizes, when complete.
    pub setup: Option<RingSetup>,
}

/// What is at the far end of a line.
#[derive(Clone, Default)]
pub enum Far {
    /// Nothing: the device or the parent is gone, or not there yet.
    #[default]
    Nothing,
    /// A queue of a macvtap device: the kernel forwards.
    Tap(Arc<TapQueue>),
    /// A place in our own switch.
    Switch(Plug),
}

/// One ring and what is around it.
#[derive(Default)]
pub struct Line {
    /// The active ring.
    pub ring: Option<Ring>,
    /// Whether the ring may move frames.
    pub enabled: bool,
    /// What was moved and dropped.
    pub counters: Counters,
    /// What is at the other end.
    pub far: Far,
    /// Negotiated features, valid while `ring` is some.
    pub features: u64,
    setup: Option<RingSetup>,
    broken: bool,
    warned: Option<Instant>,
    call: Option<File>,
    error: Option<File>,
}

impl Line {
    /// True when frames may move.
    pub fn active(&self) -> bool {
        self.enabled && self.ring.is_some()
    }

    /// Makes the ring as the front-end wishes it. Returns true when a ring was started or stopped.
    pub fn apply(&mut self, wish: &Wish, name: &dyn std::fmt::Display) -> bool {
        self.enabled = wish.enabled;
        let wanted = wish.setup.as_ref().filter(|_| wish.ready);
        if wanted.is_none() {
            self.broken = false;
        }
        if wanted == self.setup.as_ref() {
            return false;
        }
        self.stop();
        if let Some(setup) = wanted {
            self.setup = Some(setup.clone());
            match Ring::start(setup) {
                Ok(ring) => {
                    debug!("{name}: ring of {} starts at {}", ring.size(), ring.position());
                    self.features = setup.features;
                    self.ring = Some(ring);
                }
                Err(fault) => self.break_ring(fault, name),
            }
        }
        true
    }

    fn stop(&mut self) {
        self.setup = None;
        self.ring = None;
    }

    /// Where the ring stands: the used index as the driver sees it.
    pub fn position(&self) -> Option<u16> {
        self.ring.as_ref().map(Ring::position)
    }

    /// After a batch from the guest that ended so: true when there is no more to take until it kicks.
    pub fn rests(&mut self, end: End, name: &dyn std::fmt::Display) -> bool {
        let more = match end {
            End::Full => Ok(true),
            End::Empty => self.ring.as_mut().map_or(Ok(false), Ring::ask_for_kicks),
            End::Broken(fault) => Err(fault),
        };
        more.map_or_else(
            |fault| {
                self.break_ring(fault, name);
                true
            },
            |more| !more,
        )
    }

    /// Stops a ring that broke the rules, tells the front-end and the log, once.
    pub fn break_ring(&mut self, fault: Fault, name: &dyn std::fmt::Display) {
        self.ring = None;
        // A guest can break and reset its rings as fast as it likes.
        let quiet = self.warned.is_some_and(|time| time.elapsed() < WARN_PAUSE);
        if !std::mem::replace(&mut self.broken, true) && !quiet {
            self.warned = Some(Instant::now());
            warn!("{name}: {fault}; the ring is stopped until the front-end resets it");
        }
        signal(self.error.as_ref());
    }

    /// Stops the ring if the memory under it has gone. At the end of every turn: within it, lost
    /// memory reads as zeros and does no harm.
    pub fn check_memory(&mut self, name: &dyn std::fmt::Display) {
        if self.ring.as_ref().is_some_and(Ring::memory_lost) {
            self.break_ring(Fault::MemoryLost, name);
        }
    }

    /// Publishes what was given back and calls the driver if it wants that.
    pub fn publish(&mut self) {
        if let Some(ring) = &mut self.ring
            && ring.publish()
            && signal(self.call.as_ref())
        {
            self.counters.calls += 1;
        }
    }

    /// Sets the eventfd by which the driver is called.
    pub fn set_call(&mut self, call: Option<File>) {
        self.call = call.inspect(never_block);
        // The driver may have missed a call on the old one: an extra call is harmless, a lost one is not.
        if self.ring.is_some() {
            signal(self.call.as_ref());
        }
    }

    /// Sets the eventfd by which the front-end is told of a broken ring.
    pub fn set_error(&mut self, error: Option<File>) {
        self.error = error.inspect(never_block);
    }

    /// Forgets all that belongs to the present front-end.
    pub fn reset(&mut self) {
        self.stop();
        self.enabled = false;
        self.broken = false;
        self.call = None;
        self.error = None;
    }
}

/// A front-end may hand over anything as eventfd, also a full pipe: a write must never wait.
fn never_block(file: &File) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    if let Ok(flags) = fcntl(file, FcntlArg::F_GETFL) {
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        let _ = fcntl(file, FcntlArg::F_SETFL(flags));
    }
}

/// Adds 1 to an eventfd. A full counter means that the other side is awake anyway.
fn signal(eventfd: Option<&File>) -> bool {
    let Some(file) = eventfd else { return false };
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer is valid for 8 bytes and the descriptor is open. Not `File::write`, because
    // SIGPIPE is ignored process-wide and the result does not matter.
    unsafe { libc::write(file.as_raw_fd(), one.as_ptr().cast(), one.len()) == 8 }
}
