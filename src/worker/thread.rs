//! The loop of one worker thread.
//!
//! A worker carries the queue pairs and uplink queues that sit with it (`pool.rs`). Turns that have to go on wait in a run
//! list, served round by round, so that all pairs of a worker get their share; between rounds the worker
//! looks for new events without waiting. An event may be about a ring that is gone by now: the turn finds
//! nothing to do. A worker never ends by an error.
//!
//! To sleep and be woken takes some seven microseconds, and a kick costs the guest a system call. So a
//! worker that has just moved frames of a switch looks at those rings again for a moment (`--busy-poll`) before
//! it asks for kicks and sleeps: never for longer than the wake-up that this may save, and not at all when
//! nothing moves. Who wants answers in two microseconds and has processor time to give for them says for how
//! long (`--busy-poll`). Each ring has its own moment: one that is busy does not keep the others looked at.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::error;

use crate::datapath::queue_pair::Side;
use crate::datapath::scratch::Scratch;
use crate::worker::poller::{Interest, Ready};
use crate::worker::pool::{Task, Worker, WorkerEvent};
use crate::worker::run_list::{RunEntry, RunList};
use crate::worker::task::{Budget, Outcome};

/// Rounds of looking at rings for each look at the events: the latter is a system call.
const BLIND_ROUNDS: u32 = 4;

/// How long a frame waits for a guest that has some buffers, but too few for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a worker knows from one round to the next.
struct WorkerState<'w> {
    worker: &'w Worker,
    scratch: Scratch,
    run: RunList,
    /// Pairs for whose guest a frame waits that has found too few buffers.
    waiting: Vec<usize>,
    /// When the first of them has waited long enough.
    patience_ends: Option<Instant>,
    /// Rounds since the events were last looked at.
    blind: u32,
    ready: [Ready; 64],
}

impl Worker {
    /// Serves the pairs until the pool ends.
    pub(crate) fn run(&self) {
        let mut shift = WorkerState {
            worker: self,
            scratch: Scratch::default(),
            run: RunList::default(),
            waiting: Vec::new(),
            patience_ends: None,
            blind: 0,
            ready: [Ready::new(Interest::empty(), 0); 64],
        };
        while !self.stop.load(Ordering::Acquire) {
            shift.look();
            shift.round();
        }
    }

    /// Turns an event into due turns.
    fn note(&self, ready: &Ready, run: &mut RunList) {
        let events = Interest::from_bits_retain(ready.events);
        match WorkerEvent::of(ready.data) {
            WorkerEvent::Call => self.take_calls(|slot, side| run.push(slot, side)),
            WorkerEvent::Kick(slot, side) => run.push(slot, side),
            WorkerEvent::Backing(slot) => {
                let writable = events.contains(Interest::EPOLLOUT);
                let failed = events.intersects(Interest::EPOLLERR | Interest::EPOLLHUP);
                if events.contains(Interest::EPOLLIN) {
                    run.push(slot, Side::ToGuest);
                }
                match self.task(slot) {
                    Some(Task::Pair(pair)) => {
                        if writable {
                            run.push(slot, Side::FromGuest);
                        }
                        pair.tap_ready(writable, failed);
                    }
                    Some(Task::UplinkQueue(uplink_queue)) => {
                        uplink_queue
                            .ready(writable, failed, |slot| run.push(slot, Side::FromGuest));
                    }
                    None => {}
                }
            }
        }
    }
}

impl WorkerState<'_> {
    /// Looks for events, and waits for them when there is nothing to do.
    fn look(&mut self) {
        let lingers = self.run.lingers();
        // Between two looks at a ring that may have something any moment, not every time.
        if self.run.due() == 0 && lingers && self.blind < BLIND_ROUNDS {
            self.blind += 1;
            return;
        }
        self.blind = 0;
        let timeout = match self.patience_ends {
            _ if self.run.due() > 0 || lingers => 0,
            Some(_) => PATIENCE.as_millis() as i32,
            None => -1,
        };
        match self.worker.poller.wait(timeout, &mut self.ready) {
            Ok(events) => events.iter().for_each(|event| self.worker.note(event, &mut self.run)),
            Err(error) => {
                // Cannot happen to a valid instance; if it does, do not spin.
                error!("worker: epoll_wait: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// One turn for each ring that is due, then for each that lingers. What is pushed back meanwhile waits for
    /// the next look at the events.
    fn round(&mut self) {
        let now = Instant::now();
        let expired = self.patience_ends.is_some_and(|end| now >= end);
        if expired {
            self.patience_ends = None;
            self.waiting.iter().for_each(|&slot| self.run.push(slot, Side::ToGuest));
        }
        self.run.requeue();
        for _ in 0..self.run.due() {
            let Some(due) = self.run.pop() else { break };
            self.turn(due, now, expired);
        }
        if self.waiting.is_empty() {
            self.patience_ends = None;
        }
    }

    /// One turn, and what follows from how it ended.
    fn turn(&mut self, RunEntry { slot, side, until }: RunEntry, now: Instant, expired: bool) {
        let pair = match self.worker.task(slot) {
            Some(Task::Pair(pair)) => pair,
            Some(Task::UplinkQueue(uplink_queue)) => {
                if uplink_queue.turn(now, &mut self.scratch) == Outcome::More {
                    self.run.push(slot, side);
                }
                return;
            }
            None => return,
        };
        let terms = Budget {
            expired: expired && side == Side::ToGuest && self.waiting.contains(&slot),
            // At the end of its time a ring has the turn in which it is asked to kick.
            linger: until.is_none_or(|until| now < until),
        };
        match pair.turn(side, terms, &mut self.scratch) {
            Outcome::More => self.run.push(slot, side),
            Outcome::Lingering { moved } => {
                let until = match until {
                    Some(until) if !moved => until,
                    None if !moved => now,
                    _ => Instant::now() + self.worker.linger,
                };
                self.run.linger(slot, until);
                return;
            }
            Outcome::Starved { waiting: true } => {
                if !self.waiting.contains(&slot) {
                    self.waiting.push(slot);
                }
                self.patience_ends.get_or_insert_with(|| Instant::now() + PATIENCE);
                return;
            }
            Outcome::Idle | Outcome::Full | Outcome::Starved { waiting: false } => {}
        }
        if side == Side::ToGuest {
            self.waiting.retain(|&other| other != slot);
        }
    }
}
