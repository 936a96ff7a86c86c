//! One worker's way to and from a parent.
//!
//! A parent has a lane at every worker that carries queue pairs of its ports: AF_PACKET sockets for both
//! directions. The kernel spreads what arrives over the lanes (PACKET_FANOUT, by flow), and each
//! guest sends by the lane of its own worker. A lane sits at its worker as queue pairs do.
//!
//! The parent may go down, or go away and come back: the lane stays, with or without sockets. The
//! sending one is not watched but while somebody waits for it: the worker would spin, and the kernel call
//! it for every frame that has left.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use super::batch::Batch;
use super::gate::Gate;
use super::pair::Side;
use super::plug::Lan;
use super::pool::Seat;
use super::scratch::Scratch;
use super::{Turn, from_uplink};
use crate::poll::Interest;
use crate::stats::Drop;
use crate::uplink::packet::{LongFrames, PacketQueue, SEND_HEADER};

#[derive(Default)]
struct State {
    queue: Option<PacketQueue>,
    /// Seats of the queue pairs that wait for room.
    waiting: Vec<usize>,
}

/// A way to and from a parent.
pub struct Lane {
    name: String,
    lan: Arc<Lan>,
    seat: Seat,
    state: Gate<State>,
}

impl Lane {
    /// A lane of `lan`, whose parent is called `name`, at the worker of `seat`; no socket yet.
    pub fn new(name: &str, lan: Arc<Lan>, seat: Seat) -> Lane {
        Lane { name: name.to_owned(), lan, seat, state: Gate::default() }
    }

    /// Control: puts another socket behind the lane, or none when the parent has gone. The old one is
    /// returned, because to close it takes time.
    pub fn replace(&self, queue: Option<PacketQueue>) -> Option<PacketQueue> {
        let mut state = self.state.control();
        let old = state.queue.take();
        if let Some(old) = &old {
            self.seat.poller().remove(old);
            old.outlets().for_each(|outlet| self.seat.poller().remove(&outlet));
        }
        if let Some(new) = &queue
            && let Err(error) =
                self.seat.poller().add(new, Interest::EPOLLIN, self.seat.far_token())
        {
            warn!("parent {}: its socket cannot be watched: {error}", self.name);
        }
        state.queue = queue;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for slot in waiting {
            self.seat.call_neighbour(slot, Side::FromGuest);
        }
        old
    }

    /// Control: puts another ring for long frames behind the lane. The old one is returned, because to close it
    /// takes time.
    pub fn set_long_frames(&self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        let mut state = self.state.control();
        let queue = state.queue.as_mut()?;
        queue.outlets().for_each(|outlet| self.seat.poller().remove(&outlet));
        let old = queue.set_long_frames(long);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for slot in waiting {
            self.seat.call_neighbour(slot, Side::FromGuest);
        }
        old
    }

    /// Control: does something with the socket, if there is one.
    pub fn with<R>(&self, act: impl FnOnce(&mut PacketQueue) -> R) -> Option<R> {
        self.state.control().queue.as_mut().map(act)
    }

    /// Sends what is for the wire. Returns how many entries of the batch are done: all, unless the
    /// socket is full; whoever has the rest then calls [`Lane::wait`].
    pub(super) fn send(&self, batch: &mut Batch) -> usize {
        if !batch.has_wire() {
            return batch.entries.len();
        }
        let state = self.state.deliver();
        match &state.queue {
            // SAFETY: the batch's messages consist of its own bytes and of guest memory that the sender's
            // ring keeps mapped while its line is locked, which it is during a turn.
            Some(queue) => batch.send(SEND_HEADER, |messages| unsafe { queue.send(messages) }),
            None => {
                batch.lose(Drop::NoDevice);
                batch.entries.len()
            }
        }
    }

    /// Whoever sits at `slot` is called when the socket has room.
    pub(super) fn wait(&self, slot: usize) {
        let mut state = self.state.deliver();
        if !state.waiting.contains(&slot) {
            state.waiting.push(slot);
        }
        if let Some(queue) = &state.queue {
            // Fails only if it is watched already, for somebody else.
            let token = self.seat.far_token();
            let _ = self.seat.poller().add(&queue.outlet(), Interest::EPOLLOUT, token);
        }
    }

    /// Worker: something about the socket. Room is passed on to whoever waits for it.
    pub(super) fn ready(&self, writable: bool, failed: bool, call: impl FnMut(usize)) {
        let mut state = self.state.deliver();
        if failed && let Some(queue) = &state.queue {
            // A parent that goes down says so once; reading the error clears it. One that has gone says
            // so for ever, to nobody's use: the control side learns it from netlink.
            match queue.take_error() {
                Some(errno) => debug!("parent {}: {errno}", self.name),
                None => self.seat.poller().remove(queue),
            }
        }
        if (writable || failed) && !state.waiting.is_empty() {
            if let Some(queue) = &state.queue {
                queue.outlets().for_each(|outlet| self.seat.poller().remove(&outlet));
            }
            state.waiting.drain(..).for_each(call);
        }
    }

    /// Worker: runs one turn over what has arrived, in a round that has begun at `now`.
    pub fn turn(&self, now: Instant, scratch: &mut Scratch) -> Turn {
        let mut state = self.state.deliver();
        let view = self.lan.view();
        match &mut state.queue {
            Some(queue) => from_uplink::turn(queue, &self.lan, &view, now, scratch),
            None => Turn::Idle,
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({})", self.name)
    }
}
