//! One worker's way to and from a parent.
//!
//! A parent has a uplink queue at every worker that carries queue pairs of its ports: AF_PACKET sockets for both
//! directions. The kernel spreads what arrives over the uplink queues (PACKET_FANOUT, by flow), and each
//! guest sends by the uplink queue of its own worker. A uplink queue sits at its worker as queue pairs do.
//!
//! The parent may go down, or go away and come back: the uplink queue stays, with or without sockets. The
//! sending one is not watched but while somebody waits for it: the worker would spin, and the kernel call
//! it for every frame that has left.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use crate::datapath::forwarding_view::SwitchHandle;
use crate::datapath::scratch::Scratch;
use crate::datapath::tx_batch::TxBatch;
use crate::datapath::uplink_to_switch;
use crate::net::counters::DropReason;
use crate::uplink::packet::PacketQueue;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::packet::socket::SEND_HEADER;
use crate::worker::poller::Interest;
use crate::worker::priority_mutex::PriorityMutex;
use crate::worker::slot::WorkerSlot;
use crate::worker::task::{Budget, Outcome, Part, Readiness, Task, TurnId};

#[derive(Default)]
struct QueueState {
    queue: Option<PacketQueue>,
    /// Turns of the queue pairs that wait for room.
    waiting: Vec<TurnId>,
}

/// A way to and from a parent.
pub struct UplinkQueue {
    name: String,
    switch: Arc<SwitchHandle>,
    slot: WorkerSlot<Scratch>,
    state: PriorityMutex<QueueState>,
}

impl UplinkQueue {
    /// A uplink queue of `switch`, whose parent is called `name`, at the worker of `slot`; no socket yet.
    pub fn new(name: &str, switch: Arc<SwitchHandle>, slot: WorkerSlot<Scratch>) -> UplinkQueue {
        UplinkQueue { name: name.to_owned(), switch, slot, state: PriorityMutex::default() }
    }

    /// Control: puts another socket behind the uplink queue, or none when the parent has gone. The old one is
    /// returned, because to close it takes time.
    pub fn replace(&self, queue: Option<PacketQueue>) -> Option<PacketQueue> {
        let mut state = self.state.control();
        let old = state.queue.take();
        if let Some(old) = &old {
            self.slot.poller().remove(old);
            old.outlets().for_each(|outlet| self.slot.poller().remove(&outlet));
        }
        if let Some(new) = &queue
            && let Err(error) =
                self.slot.poller().add(new, Interest::EPOLLIN, self.slot.ready_token())
        {
            warn!("parent {}: its socket cannot be watched: {error}", self.name);
        }
        state.queue = queue;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|turn| self.slot.wake_neighbour(turn));
        old
    }

    /// Control: puts another ring for long frames behind the uplink queue. The old one is returned, because to close it
    /// takes time.
    pub fn set_long_frames(&self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        let mut state = self.state.control();
        let queue = state.queue.as_mut()?;
        queue.outlets().for_each(|outlet| self.slot.poller().remove(&outlet));
        let old = queue.set_long_frames(long);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|turn| self.slot.wake_neighbour(turn));
        old
    }

    /// Control: does something with the socket, if there is one.
    pub fn with<R>(&self, act: impl FnOnce(&mut PacketQueue) -> R) -> Option<R> {
        self.state.control().queue.as_mut().map(act)
    }

    /// Sends what is for the wire. Returns how many entries of the batch are done: all, unless the
    /// socket is full; whoever has the rest then calls [`UplinkQueue::wait`].
    pub(crate) fn send(&self, batch: &mut TxBatch<'_>) -> usize {
        if !batch.has_wire() {
            return batch.entries.len();
        }
        let state = self.state.deliver();
        match &state.queue {
            Some(queue) => batch.send(SEND_HEADER, |messages| queue.send(messages)),
            None => {
                batch.lose(DropReason::NoDevice);
                batch.entries.len()
            }
        }
    }

    /// Makes a turn due when the socket has room.
    pub(crate) fn wait(&self, turn: TurnId) {
        let mut state = self.state.deliver();
        if !state.waiting.contains(&turn) {
            state.waiting.push(turn);
        }
        if let Some(queue) = &state.queue {
            // Fails only if it is watched already, for somebody else.
            let token = self.slot.ready_token();
            let _ = self.slot.poller().add(&queue.outlet(), Interest::EPOLLOUT, token);
        }
    }

    /// Worker: runs one turn over what has arrived, in a round that has begun at `now`.
    pub fn turn(&self, now: Instant, scratch: &mut Scratch) -> Outcome {
        let mut state = self.state.deliver();
        let view = self.switch.view();
        match &mut state.queue {
            Some(queue) => uplink_to_switch::turn(queue, &self.switch, &view, now, scratch),
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
        let mut state = self.state.deliver();
        if failed && let Some(queue) = &state.queue {
            // A parent that goes down says so once; reading the error clears it. One that has gone says
            // so for ever, to nobody's use: the control side learns it from netlink.
            match queue.take_error() {
                Some(errno) => debug!("parent {}: {errno}", self.name),
                None => self.slot.poller().remove(queue),
            }
        }
        if (writable || failed) && !state.waiting.is_empty() {
            if let Some(queue) = &state.queue {
                queue.outlets().for_each(|outlet| self.slot.poller().remove(&outlet));
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
