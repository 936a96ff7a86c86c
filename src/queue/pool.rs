//! The pool of workers and the seats of the queue pairs.
//!
//! Every pair has a [`Seat`] at one worker, for as long as its port lives, and so has every lane of a
//! parent. A worker is one thread with one epoll instance; the kick eventfds, tap queues and sockets of
//! those who sit with it are registered there under a token that says which seat and what happened
//! (`Event`). The control side registers descriptors itself, since epoll is thread-safe, and asks for a
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

use super::lane::Lane;
use super::pair::{QueuePair, Side};
use super::signaller::{self, Signaller};
use crate::poll::{Interest, Poller};

/// What woke a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The control side asks for turns.
    Call,
    /// The guest kicked a ring of this seat.
    Kick(usize, Side),
    /// The tap or the socket of this seat is ready.
    Far(usize),
}

impl Event {
    fn token(self) -> u64 {
        let (seat, kind) = match self {
            Event::Call => (0, 0),
            Event::Kick(seat, Side::FromGuest) => (seat, 1),
            Event::Kick(seat, Side::ToGuest) => (seat, 2),
            Event::Far(seat) => (seat, 3),
        };
        (seat as u64) << 2 | kind
    }

    pub(super) fn of(token: u64) -> Event {
        let seat = (token >> 2) as usize;
        match token & 3 {
            0 => Event::Call,
            1 => Event::Kick(seat, Side::FromGuest),
            2 => Event::Kick(seat, Side::ToGuest),
            _ => Event::Far(seat),
        }
    }
}

/// What a worker and its seats share.
pub(super) struct Worker {
    pub(super) poller: Poller,
    wake: EventFd,
    inbox: Mutex<Vec<(usize, Side)>>,
    places: Mutex<Vec<Place>>,
    pub(super) stop: AtomicBool,
    /// How long it looks at a ring again after it has moved frames of it.
    pub(super) linger: Duration,
}

#[derive(Default, Clone)]
enum Place {
    #[default]
    Free,
    Reserved,
    Taken(Sitter),
}

/// Who sits with a worker.
#[derive(Clone)]
pub enum Sitter {
    /// A queue pair.
    Pair(Arc<QueuePair>),
    /// A lane of a parent.
    Lane(Arc<Lane>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Who sits here, if anybody.
    pub(super) fn sitter(&self, slot: usize) -> Option<Sitter> {
        match lock(&self.places).get(slot) {
            Some(Place::Taken(sitter)) => Some(sitter.clone()),
            _ => None,
        }
    }

    /// Takes the turns that the control side has asked for.
    pub(super) fn take_calls(&self, mut take: impl FnMut(usize, Side)) {
        lock(&self.inbox).drain(..).for_each(|(slot, side)| take(slot, side));
    }
}

/// A place at a worker.
#[derive(Clone)]
pub struct Seat {
    worker: Arc<Worker>,
    slot: usize,
}

impl Seat {
    /// Lets the worker know who sits here.
    pub fn take(&self, sitter: Sitter) {
        if let Some(place) = lock(&self.worker.places).get_mut(self.slot) {
            *place = Place::Taken(sitter);
        }
    }

    /// Leaves the seat for somebody else.
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
        Event::Kick(self.slot, side).token()
    }

    /// The token of the tap queue or socket.
    pub fn far_token(&self) -> u64 {
        Event::Far(self.slot).token()
    }

    /// The number of the seat at its worker.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Asks for a turn.
    pub fn call(&self, side: Side) {
        self.call_neighbour(self.slot, side);
    }

    /// Asks for a turn of who sits at `slot` of the same worker.
    pub fn call_neighbour(&self, slot: usize, side: Side) {
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
            worker.poller.add(&WakeFd(&worker.wake), events, Event::Call.token())?;
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

    /// Reserves a seat at the next worker in turn.
    pub fn seat(&mut self) -> Seat {
        let worker = self.next_worker();
        self.seat_at(worker)
    }

    /// Reserves a seat at a worker (modulo their number).
    pub fn seat_at(&self, worker: usize) -> Seat {
        let worker = Arc::clone(&self.workers[worker % self.workers.len()]);
        let mut places = lock(&worker.places);
        let slot = places.iter().position(|p| matches!(p, Place::Free)).unwrap_or(places.len());
        if slot == places.len() {
            places.push(Place::Reserved);
        } else {
            places[slot] = Place::Reserved;
        }
        drop(places);
        Seat { worker, slot }
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
