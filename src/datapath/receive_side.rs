//! The receive side of a queue pair: the guest's receive ring, and what brings frames for it.
//!
//! With a tap behind the pair, only its own worker fills the ring (`tap_to_guest.rs`). In a switch,
//! every sender's worker does, and the pair's own worker looks after the frames that wait for
//! buffers.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::datapath::backing::Backing;
use crate::datapath::deliver::{Delivery, Drained, RxScratch};
use crate::datapath::egress::Origin;
use crate::datapath::flood::Flood;
use crate::datapath::frame::Frame;
use crate::datapath::rx_backlog::RxBacklog;
use crate::datapath::tap_to_guest::Receive;
use crate::datapath::turn_end::TurnEnd;
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::vring::{Remains, RingLog, Vring, VringConfig};

/// How long a frame waits for a guest that has buffers, but too few for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// The receive side of a queue pair.
#[derive(Default)]
pub(crate) struct ReceiveSide {
    pub(crate) vring: Vring,
    pub(crate) backing: Backing,
    pub(crate) kick: Option<File>,
    /// Made when a ring starts, dropped with the front-end: an idle port holds no frame buffer.
    receive: Option<Box<Receive>>,
    /// The same for a pair in a switch, which keeps it: what is not used of it takes no memory.
    backlog: Option<Box<RxBacklog>>,
    /// The tap queue is attached to its device.
    pub(crate) attached: bool,
    /// No ring of the present front-end has run yet.
    pub(crate) fresh: bool,
    /// When the frame that waits for buffers is dropped.
    gives_up: Option<Instant>,
}

impl ReceiveSide {
    /// Control: makes the ring as the front-end wants it. Returns what is left of the ring before.
    pub(crate) fn apply(&mut self, config: &VringConfig, name: &dyn RingLog) -> Option<Remains> {
        let remains = self.vring.apply(config, name);
        if remains.is_some() {
            if let Some(receive) = &mut self.receive {
                receive.forget_chains();
            }
            // Its frames were for the guest that had the ring before.
            if let Some(backlog) = &mut self.backlog {
                backlog.clear();
            }
        }
        remains
    }

    /// Control: forgets everything of the present front-end. Returns it, to be dropped after the
    /// lock.
    pub(crate) fn reset(&mut self) -> Remains {
        let remains = self.vring.reset();
        self.receive = None;
        if let Some(backlog) = &mut self.backlog {
            backlog.clear();
        }
        self.gives_up = None;
        remains
    }

    /// Control: after a change, makes buffers for the ring and discards frames that are not for its
    /// guest.
    pub(crate) fn prepare(&mut self) {
        let active = self.vring.active();
        if self.backing.attachment().is_some() {
            if active && self.backlog.is_none() {
                self.backlog = Some(Box::default());
            }
            if let Some(ring) = &mut self.vring.ring {
                ring.disable_notification();
            }
            return;
        }
        if active && self.receive.is_none() {
            self.receive = Some(Box::default());
        }
        if active
            && std::mem::take(&mut self.fresh)
            && let (Some(receive), Some(tap)) = (&mut self.receive, self.backing.tap())
        {
            receive.discard_stale(&mut self.vring, tap);
        }
    }

    /// Worker: runs one turn in a round that has begun at `now`. A turn that ends with a frame that
    /// waits says until when by [`ReceiveSide::gives_up`].
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        scratch: &mut RxScratch,
        name: &dyn RingLog,
    ) -> TurnEnd {
        let expired = self.gives_up.take_if(|at| *at <= now).is_some();
        let end = if self.backing.attachment().is_some() {
            self.drain(expired, scratch, name)
        } else if let Some(receive) = &mut self.receive {
            receive.turn(&mut self.vring, self.backing.tap().map(Arc::as_ref), expired, name)
        } else {
            // There is no front-end: what is in the tap is not to wake the worker.
            TurnEnd::Starved { waiting: false }
        };
        match end {
            TurnEnd::Starved { waiting: true } => {
                self.gives_up.get_or_insert(now + PATIENCE);
            }
            _ => self.gives_up = None,
        }
        self.vring.check_memory(name);
        end
    }

    /// When the frame that waits for buffers is dropped, if one waits.
    pub(crate) fn gives_up(&self) -> Option<Instant> {
        self.gives_up
    }

    /// Places frames that wait in the guest's buffers, and asks for more where these did not do.
    fn drain(&mut self, expired: bool, scratch: &mut RxScratch, name: &dyn RingLog) -> TurnEnd {
        let ReceiveSide { vring, backlog: Some(backlog), .. } = self else { return TurnEnd::Idle };
        if backlog.is_empty() {
            return TurnEnd::Idle;
        }
        scratch.begin_turn();
        let drained = Delivery::new(vring, scratch, Some(backlog)).drain(expired);
        vring.publish();
        after_drain(vring, drained).unwrap_or_else(|fault| {
            vring.break_ring(fault, name);
            TurnEnd::Idle
        })
    }

    /// Any worker: places frames in the ring, or one frame that is for many. True when frames wait
    /// from now on: the pair's own worker looks after them.
    pub(crate) fn deliver(
        &mut self,
        frames: &[Frame<'_>],
        from: Origin,
        scratch: &mut RxScratch,
        flood: Option<&mut Flood>,
        name: &dyn RingLog,
    ) -> bool {
        let ReceiveSide { vring, backlog, .. } = self;
        let backlog = backlog.as_deref_mut().filter(|_| from == Origin::Wire);
        let waited = backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        let mut delivery = Delivery::new(vring, scratch, backlog).of_flood(flood);
        let outcome = delivery.frames(frames.iter().copied());
        let begins_to_wait = !waited && delivery.waits();
        vring.publish();
        if let Err(fault) = outcome {
            vring.break_ring(fault, name);
        }
        vring.check_memory(name);
        begins_to_wait
    }
}

/// What follows for the ring from how far the waiting frames could be placed.
fn after_drain(vring: &mut Vring, drained: Result<Drained, Fault>) -> Result<TurnEnd, Fault> {
    let Some(ring) = &mut vring.ring else { return Ok(TurnEnd::Idle) };
    Ok(match drained? {
        Drained::Empty => {
            ring.disable_notification();
            TurnEnd::Idle
        }
        Drained::Later => TurnEnd::More,
        Drained::Waits => match ring.enable_notification_at()? {
            true => TurnEnd::More,
            // Buffers are there, but too few for the frame: it does not wait indefinitely.
            false => TurnEnd::Starved { waiting: ring.waits()? > 0 },
        },
    })
}
