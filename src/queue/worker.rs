//! The threads that carry the queue pairs.
//!
//! Every pair has a [`Seat`] at one worker. A worker is one thread with one epoll instance, in which
//! the kick eventfds and tap queues of its pairs are registered; the token says which seat and what
//! happened. Turns that have to go on wait in a run list, served round by round, so that all pairs of a
//! worker get their share; between rounds the worker looks for new events without waiting.
//!
//! The control side registers descriptors itself (epoll is thread-safe) and asks for a turn through an
//! inbox and an eventfd. An event may therefore be about a ring that is gone by now: the turn finds
//! nothing to do. A worker never ends by an error.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::error;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Turn;
use super::from_guest::Scratch;
use super::pair::{QueuePair, Side};
use crate::poll::{Interest, Poller, Ready};

/// How long a frame waits for a guest that has some buffers, but too few for it.
const PATIENCE: Duration = Duration::from_millis(20);
const WAKE: u64 = u64::MAX;
const KICK_FROM_GUEST: u64 = 0;
const KICK_TO_GUEST: u64 = 1;
const TAP: u64 = 2;

/// What a worker and its seats share.
struct Worker {
    poller: Poller,
    wake: EventFd,
    inbox: Mutex<Vec<(usize, Side)>>,
    pairs: Mutex<Vec<Place>>,
    stop: AtomicBool,
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
        let kind = match side {
            Side::FromGuest => KICK_FROM_GUEST,
            Side::ToGuest => KICK_TO_GUEST,
        };
        (self.slot as u64) << 2 | kind
    }

    /// The token of the pair's tap queue.
    pub fn tap_token(&self) -> u64 {
        (self.slot as u64) << 2 | TAP
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
            worker.poller.add(&WakeFd(&worker.wake), events, WAKE)?;
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

struct WakeFd<'a>(&'a EventFd);

impl std::os::fd::AsRawFd for WakeFd<'_> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd;
        self.0.as_fd().as_raw_fd()
    }
}

/// Turns that are due, each at most once.
#[derive(Default)]
struct RunList {
    due: VecDeque<(usize, Side)>,
    queued: Vec<[bool; 2]>,
}

impl RunList {
    fn push(&mut self, slot: usize, side: Side) {
        if self.queued.len() <= slot {
            self.queued.resize(slot + 1, [false; 2]);
        }
        if !std::mem::replace(&mut self.queued[slot][side as usize], true) {
            self.due.push_back((slot, side));
        }
    }

    fn pop(&mut self) -> Option<(usize, Side)> {
        let (slot, side) = self.due.pop_front()?;
        self.queued[slot][side as usize] = false;
        Some((slot, side))
    }
}

impl Worker {
    fn pair(&self, slot: usize) -> Option<Arc<QueuePair>> {
        match lock(&self.pairs).get(slot) {
            Some(Place::Taken(pair)) => Some(Arc::clone(pair)),
            _ => None,
        }
    }

    fn run(&self) {
        let mut scratch = Scratch::default();
        let mut run = RunList::default();
        let mut waiting: Vec<usize> = Vec::new();
        let mut patience_ends: Option<Instant> = None;
        let mut ready = [Ready::new(Interest::empty(), 0); 64];
        while !self.stop.load(Ordering::Acquire) {
            let timeout = match patience_ends {
                _ if !run.due.is_empty() => 0,
                Some(_) => PATIENCE.as_millis() as i32,
                None => -1,
            };
            match self.poller.wait(timeout, &mut ready) {
                Ok(events) => events.iter().for_each(|event| self.note(event, &mut run)),
                Err(error) => {
                    // Cannot happen to a valid instance; if it does, do not spin.
                    error!("worker: epoll_wait: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            let expired = patience_ends.is_some_and(|end| Instant::now() >= end);
            if expired {
                patience_ends = None;
                waiting.iter().for_each(|&slot| run.push(slot, Side::ToGuest));
            }
            // One round: what is pushed back waits for the next look at the events.
            for _ in 0..run.due.len() {
                let Some((slot, side)) = run.pop() else { break };
                let Some(pair) = self.pair(slot) else { continue };
                let late = expired && side == Side::ToGuest && waiting.contains(&slot);
                match pair.turn(side, late, &mut scratch) {
                    Turn::More => run.push(slot, side),
                    Turn::Starved { waiting: true } => {
                        if !waiting.contains(&slot) {
                            waiting.push(slot);
                        }
                        patience_ends.get_or_insert_with(|| Instant::now() + PATIENCE);
                        continue;
                    }
                    Turn::Idle | Turn::TapFull | Turn::Starved { waiting: false } => {}
                }
                if side == Side::ToGuest {
                    waiting.retain(|&other| other != slot);
                }
            }
            if waiting.is_empty() {
                patience_ends = None;
            }
        }
    }

    /// Turns an event into due turns.
    fn note(&self, event: &Ready, run: &mut RunList) {
        let (token, events) = (event.data, Interest::from_bits_retain(event.events));
        if token == WAKE {
            for (slot, side) in lock(&self.inbox).drain(..) {
                run.push(slot, side);
            }
            return;
        }
        let slot = (token >> 2) as usize;
        match token & 3 {
            KICK_FROM_GUEST => run.push(slot, Side::FromGuest),
            KICK_TO_GUEST => run.push(slot, Side::ToGuest),
            _ => {
                let Some(pair) = self.pair(slot) else { return };
                if events.contains(Interest::EPOLLIN) {
                    run.push(slot, Side::ToGuest);
                }
                if events.contains(Interest::EPOLLOUT) {
                    pair.tap_writable();
                    run.push(slot, Side::FromGuest);
                }
                if events.intersects(Interest::EPOLLERR | Interest::EPOLLHUP) {
                    pair.tap_failed();
                }
            }
        }
    }
}
