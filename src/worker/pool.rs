//! The pool of workers and the worker slots of the queue pairs.
//!
//! Every pair has a [`WorkerSlot`] at one worker, for as long as its port lives, and so has every uplink queue of a
//! parent. A worker is one thread with one epoll instance; the kick eventfds, tap queues and sockets of
//! those who sit with it are registered there under a token that says which worker slot and what happened
//! (`WorkerEvent`). The control side registers descriptors itself, since epoll is thread-safe, and asks for a
//! turn through an inbox and an eventfd.
//!
//! How many threads carry the pairs is a choice (`--workers`). Pairs with a device of their own are seated
//! in turn; those that share a switch sit together, because a frame between two pairs of one worker
//! crosses no core.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::warn;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::datapath::queue_pair::{QueuePair, Side};
use crate::datapath::uplink_queue::UplinkQueue;
use crate::virtqueue::signaller;
use crate::virtqueue::signaller::Signaller;
use crate::worker::poller::{Interest, Poller};

/// What woke a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerEvent {
    /// The control side asks for turns.
    Call,
    /// The guest kicked a ring of this worker slot.
    Kick(usize, Side),
    /// The tap or the socket of this worker slot is ready.
    Backing(usize),
}

impl WorkerEvent {
    fn token(self) -> u64 {
        let (slot, kind) = match self {
            WorkerEvent::Call => (0, 0),
            WorkerEvent::Kick(slot, Side::FromGuest) => (slot, 1),
            WorkerEvent::Kick(slot, Side::ToGuest) => (slot, 2),
            WorkerEvent::Backing(slot) => (slot, 3),
        };
        (slot as u64) << 2 | kind
    }

    pub(crate) fn of(token: u64) -> WorkerEvent {
        let slot = (token >> 2) as usize;
        match token & 3 {
            0 => WorkerEvent::Call,
            1 => WorkerEvent::Kick(slot, Side::FromGuest),
            2 => WorkerEvent::Kick(slot, Side::ToGuest),
            _ => WorkerEvent::Backing(slot),
        }
    }
}

/// What a worker and its worker slots share.
pub(crate) struct Worker {
    pub(crate) poller: Poller,
    wake: EventFd,
    inbox: Mutex<Vec<(usize, Side)>>,
    places: Mutex<Vec<SlotState>>,
    pub(crate) stop: AtomicBool,
    /// How long it looks at a ring again after it has moved frames of it.
    pub(crate) linger: Duration,
}

#[derive(Default, Clone)]
enum SlotState {
    #[default]
    Free,
    Reserved,
    Taken(Task),
}

/// Who sits with a worker.
#[derive(Clone)]
pub enum Task {
    /// A queue pair.
    Pair(Arc<QueuePair>),
    /// A uplink queue of a parent.
    UplinkQueue(Arc<UplinkQueue>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Who sits here, if anybody.
    pub(crate) fn task(&self, slot: usize) -> Option<Task> {
        match lock(&self.places).get(slot) {
            Some(SlotState::Taken(task)) => Some(task.clone()),
            _ => None,
        }
    }

    /// Takes the turns that the control side has asked for.
    pub(crate) fn take_calls(&self, mut take: impl FnMut(usize, Side)) {
        lock(&self.inbox).drain(..).for_each(|(slot, side)| take(slot, side));
    }
}

/// A place at a worker.
#[derive(Clone)]
pub struct WorkerSlot {
    worker: Arc<Worker>,
    slot: usize,
}

impl WorkerSlot {
    /// Lets the worker know who sits here.
    pub fn take(&self, task: Task) {
        if let Some(place) = lock(&self.worker.places).get_mut(self.slot) {
            *place = SlotState::Taken(task);
        }
    }

    /// Leaves the worker slot for somebody else.
    pub fn leave(&self) {
        let left = lock(&self.worker.places).get_mut(self.slot).map(std::mem::take);
        // Outside the lock: this may be the last reference.
        drop(left);
    }

    /// The epoll instance in which the descriptors are registered.
    pub fn poller(&self) -> &Poller {
        &self.worker.poller
    }

    /// The token of a side's kick eventfd.
    pub fn kick_token(&self, side: Side) -> u64 {
        WorkerEvent::Kick(self.slot, side).token()
    }

    /// The token of the tap queue or socket.
    pub fn backing_token(&self) -> u64 {
        WorkerEvent::Backing(self.slot).token()
    }

    /// The number of the worker slot at its worker.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Asks for a turn.
    pub fn call(&self, side: Side) {
        self.wake_neighbour(self.slot, side);
    }

    /// Asks for a turn of who sits at `slot` of the same worker.
    pub fn wake_neighbour(&self, slot: usize, side: Side) {
        let mut inbox = lock(&self.worker.inbox);
        // Whoever put the first request there wakes the worker, which then takes all.
        let first = inbox.is_empty();
        inbox.push((slot, side));
        drop(inbox);
        if first {
            // A full counter means that the worker is awake anyway.
            let _ = self.worker.wake.write(1);
        }
    }
}

/// All workers of the process.
pub struct Pool {
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl Pool {
    /// Starts `count` workers (at least one). After frames have moved, each looks for more for as long as
    /// `linger` before it sleeps.
    pub fn start(count: usize, linger: Duration) -> io::Result<Pool> {
        let mut pool = Pool { workers: Vec::new(), threads: Vec::new(), next: 0 };
        signaller::prepare_shared();
        for index in 0..count.max(1) {
            let worker = Arc::new(Worker {
                poller: Poller::new()?,
                wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
                inbox: Mutex::default(),
                places: Mutex::default(),
                stop: AtomicBool::new(false),
                linger,
            });
            let events = Interest::EPOLLIN | Interest::EPOLLET;
            worker.poller.add(&WakeFd(&worker.wake), events, WorkerEvent::Call.token())?;
            let signaller = Signaller::new().unwrap_or_else(|error| {
                if index == 0 {
                    warn!(
                        "no asynchronous I/O (io_setup: {error}): a hostile VMM can hold up the ports of a worker; \
                         allow io_setup, io_submit and io_getevents, and raise fs.aio-max-nr"
                    );
                }
                Signaller::default()
            });
            let thread = thread::Builder::new().name(format!("worker-{index}")).spawn({
                let worker = Arc::clone(&worker);
                move || {
                    signaller.install();
                    worker.run();
                }
            })?;
            pool.workers.push(worker);
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The worker whose turn it is.
    pub fn next_worker(&mut self) -> usize {
        self.next += 1;
        (self.next - 1) % self.workers.len()
    }

    /// Reserves a worker slot at the next worker in turn.
    pub fn slot(&mut self) -> WorkerSlot {
        let worker = self.next_worker();
        self.slot_at(worker)
    }

    /// Reserves a worker slot at a worker (modulo their number).
    pub fn slot_at(&self, worker: usize) -> WorkerSlot {
        let worker = Arc::clone(&self.workers[worker % self.workers.len()]);
        let mut places = lock(&worker.places);
        let slot = places.iter().position(|p| matches!(p, SlotState::Free)).unwrap_or(places.len());
        if slot == places.len() {
            places.push(SlotState::Reserved);
        } else {
            places[slot] = SlotState::Reserved;
        }
        drop(places);
        WorkerSlot { worker, slot }
    }
}

impl Pool {
    /// Asks the workers to end. Does not wait for them.
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.stop.store(true, Ordering::Release);
            let _ = worker.wake.write(1);
        }
    }

    /// Waits until all workers have ended. False when one has not in time: it may have any lock of the
    /// data plane then.
    pub fn join(&mut self, until: Instant) -> bool {
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_micros(200));
        }
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for worker in &self.workers {
            let left = std::mem::take(&mut *lock(&worker.places));
            drop(left);
        }
    }
}

/// `EventFd` has no raw descriptor of its own accord.
struct WakeFd<'a>(&'a EventFd);

impl AsRawFd for WakeFd<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
