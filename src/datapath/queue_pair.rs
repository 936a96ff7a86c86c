//! A queue pair: the guest's transmit and receive ring, and what is behind them: a tap queue or a
//! switch.
//!
//! A pair belongs to its port for the port's life; front-ends come and go. It has one lock per
//! direction ([`PriorityMutex`]). The pair's worker takes it for one turn; the control thread takes
//! it to start, stop or change a ring. This makes it the barrier that GET_VRING_BASE needs: while
//! the control thread has it, no turn is under way, and none will begin with what the control
//! thread takes away.
//!
//! What follows from a turn's end (what the tap is watched for, which turn waits for an uplink
//! queue) is done under the same lock, so that a stop cannot come between the two.
//!
//! What a turn locks and clones before its first frame, beside the table of tasks that the worker
//! takes for a whole round:
//!
//! | turn | locks | `Arc` clones |
//! | --- | --- | --- |
//! | guest to tap | the transmit side | none |
//! | guest to switch | the transmit side, the forwarding view to clone it | the view |
//! | tap to guest | the receive side | none |
//! | waiting frames to guest | the receive side | none |
//! | uplink to switch (`uplink_queue.rs`) | the uplink queue, the forwarding view to clone it | the view |

use std::fs::File;
use std::sync::Arc;

use log::warn;

use crate::datapath::backing::Backing;
use crate::datapath::deliver::RxScratch;
use crate::datapath::egress::{Egress, Origin};
use crate::datapath::flood::Flood;
use crate::datapath::frame::Frame;
use crate::datapath::port::PortData;
use crate::datapath::receive_side::ReceiveSide;
use crate::datapath::ring_name::RingName;
use crate::datapath::scratch::Scratch;
use crate::datapath::side::Side;
use crate::datapath::tap_watch::TapWatch;
use crate::datapath::transmit_side::TransmitSide;
use crate::datapath::turn_end::TurnEnd;
use crate::net::counters::Counters;
use crate::virtqueue::vring::{RingLog, VringConfig};
use crate::worker::poller::Interest;
use crate::worker::priority_mutex::PriorityMutex;
use crate::worker::slot::WorkerSlot;
use crate::worker::task::{Budget, Outcome, Part, Readiness, Task, TurnId};

/// A queue pair.
pub struct QueuePair {
    index: u16,
    port: Arc<PortData>,
    slot: WorkerSlot<Scratch>,
    from_guest: PriorityMutex<TransmitSide>,
    to_guest: PriorityMutex<ReceiveSide>,
    watch: TapWatch,
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

    fn name(&self, side: Side) -> RingName<'_> {
        RingName::new(&self.port, self.index, side)
    }

    /// Control: makes the ring as the front-end wants it. Returns where it stands when it runs, or
    /// where it stood when this stopped it.
    pub fn apply(&self, side: Side, config: &VringConfig) -> Option<u16> {
        let name = self.name(side);
        // Dropped at the end, when no ring's lock is held any more.
        let (before, after, remains);
        match side {
            Side::FromGuest => {
                let mut state = self.from_guest.control();
                before = state.vring.position();
                remains = state.apply(config, &self.port, &name);
                after = state.vring.position();
                self.note_start(side, &state.backing, before, after);
            }
            Side::ToGuest => {
                let mut state = self.to_guest.control();
                before = state.vring.position();
                remains = state.apply(config, &name);
                self.apply_state(&mut state);
                after = state.vring.position();
                self.note_start(side, &state.backing, before, after);
            }
        };
        drop(remains);
        self.slot.call(side.part());
        after.or(before)
    }

    /// A ring that starts may be that of a guest that ran before us, whose multicast groups are not
    /// known.
    fn note_start(&self, side: Side, backing: &Backing, before: Option<u16>, after: Option<u16>) {
        if let Some(groups) = backing.attachment().and_then(|place| place.groups.as_ref())
            && let (None, Some(used)) = (before, after)
        {
            groups.ring_starts(usize::from(side.vring(self.index)), used);
        }
    }

    /// After a change: buffers, stale frames and the tap queue's membership follow the ring.
    fn apply_state(&self, state: &mut ReceiveSide) {
        let active = state.vring.active();
        self.port.set_receiving(self.index, active);
        state.prepare();
        // The kernel spreads flows over the attached queues: one without a reader would swallow its
        // share. Queue 0 stays, because with no queue attached the frames would go to the host's
        // stack.
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

    /// Control: sets the eventfd by which the guest kicks the ring. Like all that a front-end gave,
    /// the old one is closed when the ring's lock is free again.
    pub fn set_kick(&self, side: Side, kick: Option<File>) {
        let old = match side {
            Side::FromGuest => self.watch_kick(side, kick, &mut self.from_guest.control().kick),
            Side::ToGuest => self.watch_kick(side, kick, &mut self.to_guest.control().kick),
        };
        drop(old);
    }

    /// Watches another kick eventfd. Returns what is to be closed: the old one, or the new one if
    /// it cannot be watched.
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
                self.name(side).warn(format_args!(
                    "its kick descriptor cannot be watched: {error}; is it an eventfd?"
                ));
                [old, Some(new)]
            }
        }
    }

    /// Control: sets the eventfd by which the guest is called.
    pub fn set_call(&self, side: Side, call: Option<File>) {
        let old = match side {
            Side::FromGuest => self.from_guest.control().vring.set_call(call),
            Side::ToGuest => self.to_guest.control().vring.set_call(call),
        };
        drop(old);
    }

    /// Control: sets the eventfd by which the front-end learns of a broken ring.
    pub fn set_error(&self, side: Side, error: Option<File>) {
        let old = match side {
            Side::FromGuest => self.from_guest.control().vring.set_error(error),
            Side::ToGuest => self.to_guest.control().vring.set_error(error),
        };
        drop(old);
    }

    /// Control: a front-end has come: what queued up before is not for it.
    pub fn expect_front_end(&self) {
        self.to_guest.control().fresh = true;
    }

    /// Control: the front-end is disconnected. Afterwards nothing of it is touched any more.
    pub fn reset(&self) {
        for side in [Side::FromGuest, Side::ToGuest] {
            self.set_kick(side, None);
        }
        let from_guest = self.from_guest.control().vring.reset();
        let mut state = self.to_guest.control();
        let to_guest = state.reset();
        self.apply_state(&mut state);
        drop(state);
        drop((from_guest, to_guest));
        self.watch.nothing(&self.slot);
    }

    /// Control: puts something else behind the pair, or nothing when the device is lost.
    pub fn set_backing(&self, backing: Backing) {
        if let Err(error) = self.watch.replace(&self.slot, backing.tap()) {
            warn!("port {}: tap queue {} cannot be watched: {error}", self.port.name, self.index);
        }
        self.from_guest.control().backing = backing.clone();
        let mut state = self.to_guest.control();
        state.backing = backing;
        // An opened tap queue is attached.
        state.attached = true;
        self.apply_state(&mut state);
        drop(state);
        self.slot.call(Side::FromGuest.part());
        self.slot.call(Side::ToGuest.part());
    }

    /// What was moved and dropped: from the guest, to the guest.
    pub fn counters(&self) -> (Counters, Counters) {
        (self.from_guest.control().vring.counters, self.to_guest.control().vring.counters)
    }

    /// Worker: runs one turn.
    pub fn turn(&self, side: Side, budget: Budget, scratch: &mut Scratch) -> Outcome {
        match side {
            Side::FromGuest => self.turn_from_guest(budget, scratch),
            Side::ToGuest => self.turn_to_guest(budget, scratch),
        }
    }

    fn turn_from_guest(&self, budget: Budget, scratch: &mut Scratch) -> Outcome {
        let name = self.name(Side::FromGuest);
        let Some(mut state) = self.from_guest.work() else { return Outcome::More };
        match state.turn(&self.port, self.index, budget.busy_poll, scratch, &name) {
            TurnEnd::More => return Outcome::More,
            TurnEnd::Polling { moved } => return Outcome::Polling { moved },
            TurnEnd::Full => match state.backing.attachment() {
                Some(place) => place.uplink_queue.wait(self.slot.turn(Side::FromGuest.part())),
                None => self.watch.output(&self.slot, true),
            },
            TurnEnd::Idle | TurnEnd::Starved { .. } => {}
        }
        Outcome::Idle
    }

    fn turn_to_guest(&self, budget: Budget, scratch: &mut Scratch) -> Outcome {
        let name = self.name(Side::ToGuest);
        let Some(mut state) = self.to_guest.work() else { return Outcome::More };
        let end = state.turn(budget.now, scratch.fanout.rx(), &name);
        if state.backing.attachment().is_none() {
            match end {
                TurnEnd::Idle => self.watch.input(&self.slot, true),
                TurnEnd::Starved { .. } => self.watch.input(&self.slot, false),
                TurnEnd::More | TurnEnd::Full | TurnEnd::Polling { .. } => {}
            }
        }
        match (end, state.gives_up()) {
            (TurnEnd::More, _) => Outcome::More,
            (_, Some(at)) => Outcome::Until(at),
            _ => Outcome::Idle,
        }
    }
}

impl Task<Scratch> for QueuePair {
    fn turn(&self, part: Part, budget: Budget, scratch: &mut Scratch) -> Outcome {
        self.turn(Side::of_part(part), budget, scratch)
    }

    fn ready(&self, readiness: Readiness, due: &mut dyn FnMut(TurnId)) {
        if readiness.readable {
            due(self.slot.turn(Side::ToGuest.part()));
        }
        if readiness.writable {
            due(self.slot.turn(Side::FromGuest.part()));
            self.watch.output(&self.slot, false);
        }
        if readiness.failed {
            self.watch.give_up(&self.slot);
        }
    }
}

impl Egress for QueuePair {
    fn deliver(
        &self,
        frames: &[Frame<'_>],
        from: Origin,
        scratch: &mut RxScratch,
        flood: Option<&mut Flood>,
    ) {
        let mut state = self.to_guest.deliver();
        if state.deliver(frames, from, scratch, flood, &self.name(Side::ToGuest)) {
            self.slot.call(Side::ToGuest.part());
        }
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
