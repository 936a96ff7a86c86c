//! A queue pair: the guest's transmit and receive ring, and what is behind them: a tap queue or a switch.
//!
//! A pair belongs to its port for the port's life; front-ends come and go. It has one lock per
//! direction ([`PriorityMutex`]). The pair's worker takes it for one turn; the control side takes it to start,
//! stop or change a ring, which makes it the barrier that GET_VRING_BASE needs: when the control side has
//! it, no turn is under way, and none will begin with what it takes away.

pub mod switched;
pub mod turns;

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use crate::datapath::backing::Backing;
use crate::datapath::guest_to_tap;
use crate::datapath::port::PortData;
use crate::datapath::rx_backlog::RxBacklog;
use crate::datapath::scratch::Scratch;
use crate::datapath::side::Side;
use crate::datapath::tap_to_guest::Receive;
use crate::datapath::tap_watch::TapWatch;
use crate::datapath::turn_end::TurnEnd;
use crate::net::counters::Counters;
use crate::virtqueue::vring::{RingLog, Vring, VringConfig};
use crate::worker::poller::Interest;
use crate::worker::priority_mutex::PriorityMutex;
use crate::worker::slot::WorkerSlot;

#[derive(Default)]
pub(crate) struct FromGuest {
    line: Vring,
    backing: Backing,
    kick: Option<File>,
}

#[derive(Default)]
pub(crate) struct ToGuest {
    line: Vring,
    backing: Backing,
    kick: Option<File>,
    /// Made when a ring starts, dropped with the front-end: an idle port holds no frame buffer.
    receive: Option<Box<Receive>>,
    /// The same for a pair in a switch, which keeps it: what is not used of it takes no memory.
    backlog: Option<Box<RxBacklog>>,
    attached: bool,
    /// No ring of the present front-end has run yet.
    fresh: bool,
    /// A frame waits for a guest that has too few buffers for it, and is dropped then.
    gives_up: Option<Instant>,
}

/// A queue pair.
pub struct QueuePair {
    index: u16,
    port: Arc<PortData>,
    slot: WorkerSlot<Scratch>,
    from_guest: PriorityMutex<FromGuest>,
    to_guest: PriorityMutex<ToGuest>,
    watch: TapWatch,
}

/// Names a ring in the log: "port vm1: ring 3".
struct RingName<'a>(&'a QueuePair, Side);

impl std::fmt::Display for RingName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "port {}: ring {}", self.0.port.name, self.1.vring(self.0.index))
    }
}

impl RingLog for RingName<'_> {
    #[cold]
    fn warn(&self, text: std::fmt::Arguments<'_>) {
        self.0.port.log.warn(format_args!("ring {}: {text}", self.1.vring(self.0.index)));
    }
}

impl QueuePair {
    /// Makes pair `index` of a port, carried by the worker of `slot`.
    pub fn new(index: u16, port: Arc<PortData>, slot: WorkerSlot<Scratch>) -> QueuePair {
        QueuePair {
            index,
            port,
            slot,
            from_guest: PriorityMutex::default(),
            to_guest: PriorityMutex::default(),
            watch: TapWatch::default(),
        }
    }

    /// Control: makes the ring as wished. Returns where it stands when it runs, or where it stood
    /// when this stopped it.
    pub fn apply(&self, side: Side, wish: &VringConfig) -> Option<u16> {
        let name = RingName(self, side);
        // Dropped at the end, when no ring's lock is held any more.
        let remains;
        let position = match side {
            Side::FromGuest => {
                let mut state = self.from_guest.control();
                let stood = state.line.position();
                remains = state.line.apply(wish, &name);
                if !state.line.enabled && state.line.ring.is_some() {
                    // Now rather than by the worker: cloud-hypervisor pauses a guest by disabling its
                    // rings, and takes a snapshot of the memory when we have answered.
                    // Four turns are the longest ring; a guest that goes on sending is the worker's.
                    let mut scratch = Scratch::default();
                    for _ in 0..4 {
                        let line = &mut state.line;
                        let turn = guest_to_tap::turn(line, None, &self.port, &mut scratch, &name);
                        if turn != TurnEnd::More {
                            break;
                        }
                    }
                }
                self.note_start(side, &state.line, &state.backing, stood);
                state.line.position().or(stood)
            }
            Side::ToGuest => {
                let mut state = self.to_guest.control();
                let stood = state.line.position();
                remains = state.line.apply(wish, &name);
                if remains.is_some() {
                    if let Some(receive) = &mut state.receive {
                        receive.forget_chains();
                    }
                    // It was for the guest that had the ring before.
                    if let Some(backlog) = &mut state.backlog {
                        backlog.clear();
                    }
                }
                self.settle(&mut state);
                self.note_start(side, &state.line, &state.backing, stood);
                state.line.position().or(stood)
            }
        };
        drop(remains);
        self.slot.call(side.part());
        position
    }

    /// A ring that starts may be that of a guest that was there before us: whose groups we do not know.
    fn note_start(&self, side: Side, line: &Vring, backing: &Backing, stood: Option<u16>) {
        let Some(groups) = backing.attachment().and_then(|place| place.groups.as_ref()) else {
            return;
        };
        if let (None, Some(used)) = (stood, line.position()) {
            groups.ring_starts(usize::from(side.vring(self.index)), used);
        }
    }

    /// After a change: buffers, the stale queue and the tap queue's membership follow the ring.
    fn settle(&self, state: &mut ToGuest) {
        let active = state.line.active();
        self.port.set_receiving(self.index, active);
        if matches!(state.backing, Backing::Switch(_)) {
            if active && state.backlog.is_none() {
                state.backlog = Some(Box::default());
            }
            if let Some(ring) = &mut state.line.ring {
                ring.disable_notification();
            }
            return;
        }
        if active && state.receive.is_none() {
            state.receive = Some(Box::default());
        }
        if active
            && std::mem::take(&mut state.fresh)
            && let (Some(receive), Some(tap)) = (&mut state.receive, state.backing.tap())
        {
            receive.discard_stale(&mut state.line, tap);
        }
        // The kernel spreads flows over the attached queues: one that nobody serves would swallow its
        // share. Queue 0 stays, because with no queue attached the frames would go to the host's stack.
        let attach = active || self.index == 0;
        if let Some(tap) = state.backing.tap().filter(|_| attach != state.attached) {
            let done = if attach { tap.attach() } else { tap.detach() };
            match done {
                Ok(()) => state.attached = attach,
                Err(error) => self.port.log.warn(format_args!(
                    "cannot {} tap queue {}: {error}",
                    if attach { "attach" } else { "detach" },
                    self.index
                )),
            }
        }
    }

    /// Control: sets the eventfd by which the guest kicks the ring. Like all that a front-end gave, the old one
    /// is closed when the ring's lock is free again.
    pub fn set_kick(&self, side: Side, kick: Option<File>) {
        let old = match side {
            Side::FromGuest => self.watch_kick(side, kick, &mut self.from_guest.control().kick),
            Side::ToGuest => self.watch_kick(side, kick, &mut self.to_guest.control().kick),
        };
        drop(old);
    }

    /// Watches another kick eventfd. Returns what is to be closed: the old one, or the new one if it cannot be
    /// watched.
    fn watch_kick(
        &self,
        side: Side,
        kick: Option<File>,
        slot: &mut Option<File>,
    ) -> [Option<File>; 2] {
        let old = slot.take();
        if let Some(old) = &old {
            self.slot.poller().remove(old);
        }
        let Some(new) = kick else { return [old, None] };
        // Edge-triggered: every write to an eventfd is an edge, and the counter need not be read.
        let events = Interest::EPOLLIN | Interest::EPOLLET;
        match self.slot.poller().add(&new, events, self.slot.turn_token(side.part())) {
            Ok(()) => {
                *slot = Some(new);
                [old, None]
            }
            Err(error) => {
                RingName(self, side).warn(format_args!(
                    "its kick descriptor cannot be watched: {error}; is it an eventfd?"
                ));
                [old, Some(new)]
            }
        }
    }

    /// Control: sets the eventfd by which the guest is called.
    pub fn set_call(&self, side: Side, call: Option<File>) {
        let old = match side {
            Side::FromGuest => self.from_guest.control().line.set_call(call),
            Side::ToGuest => self.to_guest.control().line.set_call(call),
        };
        drop(old);
    }

    /// Control: sets the eventfd by which the front-end learns of a broken ring.
    pub fn set_error(&self, side: Side, error: Option<File>) {
        let old = match side {
            Side::FromGuest => self.from_guest.control().line.set_error(error),
            Side::ToGuest => self.to_guest.control().line.set_error(error),
        };
        drop(old);
    }

    /// Control: a front-end has come: what queued up before is not for it.
    pub fn expect_front_end(&self) {
        self.to_guest.control().fresh = true;
    }

    /// Control: the front-end has gone. Afterwards nothing of it is touched any more.
    pub fn reset(&self) {
        for side in [Side::FromGuest, Side::ToGuest] {
            self.set_kick(side, None);
        }
        let from_guest = self.from_guest.control().line.reset();
        let mut state = self.to_guest.control();
        let to_guest = state.line.reset();
        (state.receive, state.gives_up) = (None, None);
        if let Some(backlog) = &mut state.backlog {
            backlog.clear();
        }
        self.settle(&mut state);
        drop(state);
        drop((from_guest, to_guest));
        self.watch.nothing(&self.slot);
    }

    /// Control: puts something else behind the pair, or nothing when the device has gone.
    pub fn set_backing(&self, backing: Backing) {
        if let Err(error) = self.watch.replace(&self.slot, backing.tap()) {
            warn!("port {}: tap queue {} cannot be watched: {error}", self.port.name, self.index);
        }
        self.from_guest.control().backing = backing.clone();
        let mut state = self.to_guest.control();
        state.backing = backing;
        // An opened tap queue is attached.
        state.attached = true;
        self.settle(&mut state);
        drop(state);
        self.slot.call(Side::FromGuest.part());
        self.slot.call(Side::ToGuest.part());
    }

    /// What was moved and dropped: from the guest, to the guest.
    pub fn counters(&self) -> (Counters, Counters) {
        (self.from_guest.control().line.counters, self.to_guest.control().line.counters)
    }
}

impl std::fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueuePair({}, {})", self.port.name, self.index)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        let _ = self.watch.replace(&self.slot, None);
    }
}
