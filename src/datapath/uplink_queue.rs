//! One worker's way to and from a parent.
//!
//! A parent has an uplink queue at every worker that carries queue pairs of its ports: AF_PACKET
//! sockets for both directions. The kernel spreads the arriving frames over the uplink queues
//! (PACKET_FANOUT, by flow), and each guest sends by the uplink queue of its own worker. To the
//! worker, an uplink queue is a task as queue pairs are.
//!
//! The parent may go down, or be removed and come back: the uplink queue stays, with or without
//! sockets. The sending socket is registered with epoll only while a queue pair waits for room.
//! Otherwise epoll would report it writable at once, and the kernel would wake the worker for every
//! transmitted frame.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use crate::datapath::forwarding_view::SwitchHandle;
use crate::datapath::scratch::Scratch;
use crate::datapath::shared_uplink::SharedUplink;
use crate::datapath::uplink_to_switch;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::wire::Uplink;
use crate::worker::poller::Interest;
use crate::worker::slot::WorkerSlot;
use crate::worker::task::{Budget, Outcome, Part, Readiness, Task, TurnId};

/// A way to and from a parent.
pub struct UplinkQueue {
    name: String,
    switch: Arc<SwitchHandle>,
    slot: WorkerSlot<Scratch>,
    state: SharedUplink,
}

impl UplinkQueue {
    /// An uplink queue of `switch`, whose parent is called `name`, at the worker of `slot`; no
    /// socket yet.
    pub fn new(name: &str, switch: Arc<SwitchHandle>, slot: WorkerSlot<Scratch>) -> UplinkQueue {
        UplinkQueue { name: name.to_owned(), switch, slot, state: SharedUplink::default() }
    }

    /// Control: puts another socket behind the uplink queue, or none when the parent is removed. The
    /// old one is returned, because to close it takes time.
    pub fn replace(&self, uplink: Option<Box<dyn Uplink>>) -> Option<Box<dyn Uplink>> {
        let mut state = self.state.0.control();
        let old = state.uplink.take();
        if let Some(old) = &old {
            self.slot.poller().remove(&old.inlet());
            self.forget_outlets(old.as_ref());
        }
        if let Some(new) = &uplink
            && let Err(error) =
                self.slot.poller().add(&new.inlet(), Interest::EPOLLIN, self.slot.ready_token())
        {
            warn!("parent {}: its socket cannot be watched: {error}", self.name);
        }
        state.uplink = uplink;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|turn| self.slot.wake_neighbour(turn));
        old
    }

    /// Control: puts another ring for long frames behind the uplink queue. The old one is returned,
    /// because to close it takes time.
    pub fn set_long_frames(&self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        let mut state = self.state.0.control();
        let uplink = state.uplink.as_mut()?;
        self.forget_outlets(uplink.as_ref());
        let old = uplink.set_long_frames(long);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|turn| self.slot.wake_neighbour(turn));
        old
    }

    /// Nothing waits for room any more.
    fn forget_outlets(&self, uplink: &dyn Uplink) {
        uplink.outlets().iter().flatten().for_each(|outlet| self.slot.poller().remove(outlet));
    }

    /// Control: does something with the uplink, if there is one.
    pub fn with<R>(&self, act: impl FnOnce(&mut dyn Uplink) -> R) -> Option<R> {
        self.state.0.control().uplink.as_mut().map(|uplink| act(uplink.as_mut()))
    }

    /// The uplink, to send over.
    pub(crate) fn shared(&self) -> &SharedUplink {
        &self.state
    }

    /// Makes a turn due when the socket has room.
    pub(crate) fn wait(&self, turn: TurnId) {
        let mut state = self.state.0.deliver();
        if !state.waiting.contains(&turn) {
            state.waiting.push(turn);
        }
        if let Some(uplink) = &state.uplink {
            // Fails only if it is watched already, for another turn.
            let token = self.slot.ready_token();
            let _ = self.slot.poller().add(&uplink.outlet(), Interest::EPOLLOUT, token);
        }
    }

    /// Worker: runs one turn over what has arrived, in a round that has begun at `now`.
    pub fn turn(&self, now: Instant, scratch: &mut Scratch) -> Outcome {
        let mut state = self.state.0.deliver();
        let view = self.switch.view();
        match &mut state.uplink {
            Some(uplink) => {
                uplink_to_switch::turn(uplink.as_mut(), &self.switch, &view, now, scratch)
            }
            None => Outcome::Idle,
        }
    }
}

impl Task<Scratch> for UplinkQueue {
    fn turn(&self, _: Part, budget: Budget, scratch: &mut Scratch) -> Outcome {
        self.turn(budget.now, scratch)
    }

    /// Something about the socket. Room is passed on to the turns that wait for it.
    fn ready(&self, readiness: Readiness, due: &mut dyn FnMut(TurnId)) {
        let Readiness { readable, writable, failed } = readiness;
        if readable {
            due(self.slot.turn(Part::First));
        }
        let mut state = self.state.0.deliver();
        if failed && let Some(uplink) = &mut state.uplink {
            // A parent that goes down reports it once; reading the error clears it. One that was
            // removed reports it indefinitely, which is of no use: the control thread learns it
            // from netlink.
            match uplink.take_error() {
                Some(errno) => debug!("parent {}: {errno}", self.name),
                None => self.slot.poller().remove(&uplink.inlet()),
            }
        }
        if (writable || failed) && !state.waiting.is_empty() {
            if let Some(uplink) = &state.uplink {
                self.forget_outlets(uplink.as_ref());
            }
            state.waiting.drain(..).for_each(due);
        }
    }
}

impl std::fmt::Debug for UplinkQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UplinkQueue({})", self.name)
    }
}
