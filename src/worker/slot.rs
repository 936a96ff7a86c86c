//! A task's place at a worker.
//!
//! A [`WorkerSlot`] is what a task and its control side hold of the worker that runs the task. It
//! gives access to the worker's epoll instance, so that the control thread registers descriptors by
//! itself (epoll is thread-safe), and mints the numbers under which their events come. It also asks
//! for turns, through an inbox and an eventfd.
//!
//! The worker's tasks stand in a table that is replaced when one comes or leaves, and never
//! changed. A worker takes the table once for a round, so the turns themselves take no lock and
//! clone no `Arc` to find their task. While it sleeps it holds no table: a task that has left is
//! not kept alive by an idle worker.
//!
//! What can go wrong: a worker that took the table and then read the inbox could find a request
//! there for a task that had come in between, and lose it. So it empties the inbox first.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{io, mem};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::worker::inbox::Inbox;
use crate::worker::poller::{Interest, Poller};
use crate::worker::snapshot::Snapshot;
use crate::worker::task::{Part, Task, TurnId};
use crate::worker::token::EventToken;

/// One place of the table.
enum SlotState<S> {
    Free,
    Reserved,
    Taken(Arc<dyn Task<S>>),
}

impl<S> Clone for SlotState<S> {
    fn clone(&self) -> SlotState<S> {
        match self {
            SlotState::Free => SlotState::Free,
            SlotState::Reserved => SlotState::Reserved,
            SlotState::Taken(task) => SlotState::Taken(Arc::clone(task)),
        }
    }
}

/// The tasks of a worker at one moment.
pub(super) struct Tasks<S>(Arc<Vec<SlotState<S>>>);

impl<S> Tasks<S> {
    /// The task in a slot, if there is one.
    pub(super) fn get(&self, slot: usize) -> Option<&dyn Task<S>> {
        match self.0.get(slot) {
            Some(SlotState::Taken(task)) => Some(task.as_ref()),
            _ => None,
        }
    }
}

/// What a worker and the slots at it share.
pub(super) struct Worker<S> {
    pub(super) poller: Poller,
    wake: EventFd,
    inbox: Inbox<TurnId>,
    tasks: Snapshot<Vec<SlotState<S>>>,
    pub(super) stop: AtomicBool,
    /// How long a turn is polled again after it has moved something.
    pub(super) busy_poll: Duration,
}

impl<S> Worker<S> {
    pub(super) fn new(busy_poll: Duration) -> io::Result<Worker<S>> {
        let worker = Worker {
            poller: Poller::new()?,
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            inbox: Inbox::default(),
            tasks: Snapshot::default(),
            stop: AtomicBool::new(false),
            busy_poll,
        };
        let events = Interest::EPOLLIN | Interest::EPOLLET;
        worker.poller.add(&WakeFd(&worker.wake), events, EventToken::Wake.number())?;
        Ok(worker)
    }

    /// The tasks of now: one lock and one clone for all turns of a round.
    pub(super) fn tasks(&self) -> Tasks<S> {
        Tasks(self.tasks.get())
    }

    /// Takes the turns that other threads have asked for.
    pub(super) fn take_calls(&self, take: impl FnMut(TurnId)) {
        self.inbox.take(take);
    }

    /// Wakes the worker's thread.
    pub(super) fn wake(&self) {
        // A full counter means that the worker is awake anyway.
        let _ = self.wake.write(1);
    }

    /// Puts something else into a slot. What was there is dropped outside the lock, since it may be
    /// the last reference.
    fn set(&self, slot: usize, state: SlotState<S>) {
        let old = self.tasks.update(|tasks| Some(mem::replace(tasks.get_mut(slot)?, state)));
        drop(old);
    }

    /// Reserves a slot.
    pub(super) fn reserve(&self) -> usize {
        self.tasks.update(|tasks| {
            let free = |(_, state): &(usize, &mut SlotState<S>)| matches!(state, SlotState::Free);
            match tasks.iter_mut().enumerate().find(free) {
                Some((slot, state)) => {
                    *state = SlotState::Reserved;
                    slot
                }
                None => {
                    tasks.push(SlotState::Reserved);
                    tasks.len() - 1
                }
            }
        })
    }

    /// Takes all tasks out, when the thread has ended.
    pub(super) fn clear(&self) {
        self.tasks.set(Vec::new());
    }
}

/// A task's place at a worker whose working memory is an `S`.
pub struct WorkerSlot<S> {
    worker: Arc<Worker<S>>,
    slot: usize,
}

impl<S> Clone for WorkerSlot<S> {
    fn clone(&self) -> WorkerSlot<S> {
        WorkerSlot { worker: Arc::clone(&self.worker), slot: self.slot }
    }
}

impl<S> WorkerSlot<S> {
    pub(super) fn new(worker: Arc<Worker<S>>, slot: usize) -> WorkerSlot<S> {
        WorkerSlot { worker, slot }
    }

    /// Puts the task into the slot.
    pub fn take(&self, task: Arc<dyn Task<S>>) {
        self.worker.set(self.slot, SlotState::Taken(task));
    }

    /// Takes the task out, and frees the slot for another one.
    pub fn leave(&self) {
        self.worker.set(self.slot, SlotState::Free);
    }

    /// The worker's epoll instance, in which the task's descriptors are registered.
    pub fn poller(&self) -> &Poller {
        &self.worker.poller
    }

    /// The token of a descriptor whose every event makes a turn due.
    pub fn turn_token(&self, part: Part) -> u64 {
        EventToken::Turn(self.turn(part)).number()
    }

    /// The token of a descriptor whose events the task looks at ([`Task::ready`]).
    pub fn ready_token(&self) -> u64 {
        EventToken::Ready(self.slot).number()
    }

    /// One kind of the task's turns, by which other tasks of the same worker can make it due.
    pub fn turn(&self, part: Part) -> TurnId {
        TurnId { slot: self.slot, part }
    }

    /// Asks for a turn of the task.
    pub fn call(&self, part: Part) {
        self.wake_neighbour(self.turn(part));
    }

    /// Asks for a turn of another task of the same worker.
    pub fn wake_neighbour(&self, turn: TurnId) {
        self.worker.inbox.put(turn, || self.worker.wake());
    }
}

/// `EventFd` has no raw descriptor of its own accord.
struct WakeFd<'a>(&'a EventFd);

impl AsRawFd for WakeFd<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
