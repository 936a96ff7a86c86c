//! The pool of workers and the seats of the queue pairs.
//!
//! Every pair has a [`Seat`] at one worker, for as long as its port lives. A worker is one thread with one
//! epoll instance; the kick eventfds and tap queues of its pairs are registered there under a token that
//! says which seat and what happened (`Event`). The control side registers descriptors itself, since
//! epoll is thread-safe, and asks for a turn through an inbox and an eventfd.
//!
//! How many threads carry the pairs is a choice (`--workers`); seats are given out in turn.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::pair::{QueuePair, Side};
use crate::poll::{Interest, Poller};

/// What woke a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The control side asks for turns.
    Call,
    /// The guest kicked a ring of this seat.
    Kick(usize, Side),
    /// The tap of this seat is ready.
    Tap(usize),
}

impl Event {
    fn token(self) -> u64 {
        let (seat, kind) = match self {
            Event::Call => (0, 0),
            Event::Kick(seat, Side::FromGuest) => (seat, 1),
            Event::Kick(seat, Side::ToGuest) => (seat, 2),
            Event::Tap(seat) => (seat, 3),
        };
        (seat as u64) << 2 | kind
    }

    pub(super) fn of(token: u64) -> Event {
        let seat = (token >> 2) as usize;
        match token & 3 {
            0 => Event::Call,
            1 => Event::Kick(seat, Side::FromGuest),
            2 => Event::Kick(seat, Side::ToGuest),
            _ => Event::Tap(seat),
        }
    }
}

/// What a worker and its seats share.
pub(super) struct Worker {
    pub(super) poller: Poller,
    wake: EventFd,
    inbox: Mutex<Vec<(usize, Side)>>,
    pairs: Mutex<Vec<Place>>,
    pub(super) stop: AtomicBool,
}

#[derive(Default, Clone)]
enum Place {
    #[default]
    Free,
    Reserved,
    Taken(Arc<QueuePair>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Who sits here, if anybody.
    pub(super) fn pair(&self, slot: usize) -> Option<Arc<QueuePair>> {
        match lock(&self.pairs).get(slot) {
            Some(Place::Taken(pair)) => Some(Arc::clone(pair)),
            _ => None,
        }
    }

    /// Takes the turns that the control side has asked for.
    pub(super) fn take_calls(&self, mut take: impl FnMut(usize, Side)) {
        lock(&self.inbox).drain(..).for_each(|(slot, side)| take(slot, side));
    }
}

/// A queue pair's place at a worker.
#[derive(Clone)]
pub struct Seat {
    worker: Arc<Worker>,
    slot: usize,
}

impl Seat {
    /// Lets the worker know who sits here.
    pub fn take(&self, pair: Arc<QueuePair>) {
        if let Some(place) = lock(&self.worker.pairs).get_mut(self.slot) {
            *place = Place::Taken(pair);
        }
    }

    /// Leaves the seat for somebody else.
    pub fn leave(&self) {
        let left = lock(&self.worker.pairs).get_mut(self.slot).map(std::mem::take);
        // Outside the lock: this may be the pair's last reference.
        drop(left);
    }

    /// The epoll instance in which the pair's descriptors are registered.
    pub fn poller(&self) -> &Poller {
        &self.worker.poller
    }

    /// The token of a side's kick eventfd.
    pub fn kick_token(&self, side: Side) -> u64 {
        Event::Kick(self.slot, side).token()
    }

    /// The token of the pair's tap queue.
    pub fn tap_token(&self) -> u64 {
        Event::Tap(self.slot).token()
    }

    /// Asks for a turn.
    pub fn call(&self, side: Side) {
        lock(&self.worker.inbox).push((self.slot, side));
        // A full counter means that the worker is awake anyway.
        let _ = self.worker.wake.write(1);
    }
}

/// All workers of the process.
pub struct Pool {
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl Pool {
    /// Starts `count` workers (at least one).
    pub fn start(count: usize) -> io::Result<Pool> {
        let mut pool = Pool { workers: Vec::new(), threads: Vec::new(), next: 0 };
        for index in 0..count.max(1) {
            let worker = Arc::new(Worker {
                poller: Poller::new()?,
                wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
                inbox: Mutex::default(),
                pairs: Mutex::default(),
                stop: AtomicBool::new(false),
            });
            let events = Interest::EPOLLIN | Interest::EPOLLET;
            worker.poller.add(&WakeFd(&worker.wake), events, Event::Call.token())?;
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn({
                let worker = Arc::clone(&worker);
                move || worker.run()
            })?;
            pool.workers.push(worker);
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Reserves a seat at the next worker in turn.
    pub fn seat(&mut self) -> Seat {
        let worker = Arc::clone(&self.workers[self.next % self.workers.len()]);
        self.next += 1;
        let mut pairs = lock(&worker.pairs);
        let slot = pairs.iter().position(|p| matches!(p, Place::Free)).unwrap_or(pairs.len());
        if slot == pairs.len() {
            pairs.push(Place::Reserved);
        } else {
            pairs[slot] = Place::Reserved;
        }
        drop(pairs);
        Seat { worker, slot }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.stop.store(true, Ordering::Release);
            let _ = worker.wake.write(1);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for worker in &self.workers {
            let left = std::mem::take(&mut *lock(&worker.pairs));
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
