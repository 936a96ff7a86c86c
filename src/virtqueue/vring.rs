//! One ring as the control side hands it to the data side.
//!
//! A [`Vring`] is shared by the two directions of a queue pair: the active ring (if any), the
//! eventfds around it and the counters. The control thread starts the ring when all its parts are
//! there, and stops it when one of them is taken away. In between the worker uses it.
//!
//! A ring that breaks the rules (see `ring_fault.rs`) is stopped here. The error eventfd reports it
//! to the front-end, and the ring stays stopped until the front-end resets it. So a bad guest loses
//! its port's ring, never the process.

use std::fmt;
use std::fs::File;

use log::debug;

use crate::net::counters::Counters;
use crate::virtqueue::ring::Ring;
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::signaller::signal;

/// A ring's name, and the log for its guest's lines: a guest can break and reset its rings as fast
/// as it likes.
pub trait RingLog: fmt::Display {
    /// Writes a warning about the ring, if its port has not caused too many lines.
    fn warn(&self, text: fmt::Arguments<'_>);
}

/// The front-end's configuration of a ring, as far as it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VringConfig {
    /// The ring is to run: it has been given a kick eventfd and was not stopped since.
    pub ready: bool,
    /// The ring may move frames (SET_VRING_ENABLE).
    pub enabled: bool,
    /// Addresses and sizes, when complete.
    pub setup: Option<RingSetup>,
}

/// Why a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEnd {
    /// It has as many frames as were asked for.
    Full,
    /// The guest has sent no more.
    Empty,
    /// The ring cannot be used any more.
    Broken(Fault),
}

/// The released parts of a ring, to be dropped when its lock is free again: to unmap a guest's
/// memory takes time, and the front-end decides how long closing its descriptors takes.
#[derive(Default)]
pub struct Remains {
    /// They own the guest's memory.
    pub ring: Option<Ring>,
    /// See `ring`.
    pub setup: Option<RingSetup>,
    /// The call eventfd.
    pub call: Option<File>,
    /// The error eventfd.
    pub error: Option<File>,
}

/// One ring and its surroundings.
#[derive(Default)]
pub struct Vring {
    /// The active ring.
    pub ring: Option<Ring>,
    /// Whether the ring may move frames.
    pub enabled: bool,
    /// Counters of moved and dropped frames.
    pub counters: Counters,
    /// Negotiated features, valid while `ring` is some.
    pub features: u64,
    setup: Option<RingSetup>,
    broken: bool,
    call: Option<File>,
    error: Option<File>,
}

impl Vring {
    /// True when frames may move.
    pub fn active(&self) -> bool {
        self.enabled && self.ring.is_some()
    }

    /// Makes the ring as the front-end has configured it. Returns the rest of the former ring, when
    /// a ring was started or stopped.
    pub fn apply(&mut self, config: &VringConfig, name: &dyn RingLog) -> Option<Remains> {
        self.enabled = config.enabled;
        let wanted = config.setup.as_ref().filter(|_| config.ready);
        if wanted.is_none() {
            self.broken = false;
        }
        if wanted == self.setup.as_ref() {
            return None;
        }
        let remains = self.stop();
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
        Some(remains)
    }

    fn stop(&mut self) -> Remains {
        Remains { setup: self.setup.take(), ring: self.ring.take(), ..Remains::default() }
    }

    /// Where the ring stands: the used index as the driver sees it.
    pub fn position(&self) -> Option<u16> {
        self.ring.as_ref().map(Ring::position)
    }

    /// After a batch from the guest that ended so: true when there is no more to take until it
    /// kicks.
    pub fn rests(&mut self, end: BatchEnd, name: &dyn RingLog) -> bool {
        let more = match end {
            BatchEnd::Full => Ok(true),
            BatchEnd::Empty => self.ring.as_mut().map_or(Ok(false), Ring::enable_notification),
            BatchEnd::Broken(fault) => Err(fault),
        };
        more.map_or_else(
            |fault| {
                self.break_ring(fault, name);
                true
            },
            |more| !more,
        )
    }

    /// Stops a ring that broke the rules, and reports it to the front-end and the log, once.
    pub fn break_ring(&mut self, fault: Fault, name: &dyn RingLog) {
        self.ring = None;
        if !std::mem::replace(&mut self.broken, true) {
            name.warn(format_args!("{fault}; the ring is stopped until the front-end resets it"));
        }
        if let Some(error) = &self.error {
            signal(error);
        }
    }

    /// Stops the ring if its memory was truncated. Called at the end of every turn: within a turn,
    /// lost memory reads as zeros and does no harm.
    pub fn check_memory(&mut self, name: &dyn RingLog) {
        if self.ring.as_ref().is_some_and(Ring::memory_lost) {
            self.break_ring(Fault::MemoryLost, name);
        }
    }

    /// Publishes the chains that were given back and calls the driver if it wants that.
    pub fn publish(&mut self) {
        if let Some(ring) = &mut self.ring
            && ring.publish()
            && self.call.as_ref().is_some_and(signal)
        {
            self.counters.calls += 1;
        }
    }

    /// Sets the eventfd by which the driver is called. Returns the old one, to be closed after the
    /// lock.
    #[must_use = "closed under the ring's lock, a descriptor of a front-end could hold the worker"]
    pub fn set_call(&mut self, call: Option<File>) -> Option<File> {
        let old = std::mem::replace(&mut self.call, call);
        // The driver may have missed a call on the old one: an extra call is harmless, a lost one
        // is not.
        if self.ring.is_some()
            && let Some(call) = &self.call
        {
            signal(call);
        }
        old
    }

    /// Sets the eventfd by which a broken ring is reported to the front-end. Returns the old one as
    /// [`Vring::set_call`] does.
    #[must_use = "closed under the ring's lock, a descriptor of a front-end could hold the worker"]
    pub fn set_error(&mut self, error: Option<File>) -> Option<File> {
        std::mem::replace(&mut self.error, error)
    }

    /// Forgets everything of the present front-end. Returns it, to be released after the lock.
    #[must_use = "closed under the ring's lock, a descriptor of a front-end could hold the worker"]
    pub fn reset(&mut self) -> Remains {
        let stopped = self.stop();
        self.enabled = false;
        self.broken = false;
        Remains { call: self.call.take(), error: self.error.take(), ..stopped }
    }
}

#[cfg(test)]
impl RingLog for &str {
    fn warn(&self, _: fmt::Arguments<'_>) {}
}
