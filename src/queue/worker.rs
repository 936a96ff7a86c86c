//! The loop of one worker thread.
//!
//! A worker carries the queue pairs and lanes that sit with it (`pool.rs`). Turns that have to go on wait in a run
//! list, served round by round, so that all pairs of a worker get their share; between rounds the worker
//! looks for new events without waiting. An event may be about a ring that is gone by now: the turn finds
//! nothing to do. A worker never ends by an error.
//!
//! To sleep and be woken takes some seven microseconds, and a kick costs the guest a system call. So a
//! worker that has just moved frames of a switch looks at those rings again for a moment ([`LINGER`]) before
//! it asks for kicks and sleeps: never for longer than the wake-up that this may save, and not at all when
//! nothing moves. Who wants answers in two microseconds and has processor time to give for them says for how
//! long (`--busy-poll`). Each ring has its own moment: one that is busy does not keep the others looked at.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::error;

use super::from_guest::Scratch;
use super::pair::Side;
use super::pool::{Event, Sitter, Worker};
use super::{Terms, Turn};
use crate::poll::{Interest, Ready};

/// How long a worker looks at a ring again after it has moved frames, where nothing else is asked for.
pub const LINGER: Duration = Duration::from_micros(5);

/// Rounds of looking at rings for each look at the events: the latter is a system call.
const BLIND_ROUNDS: u32 = 4;

/// How long a frame waits for a guest that has some buffers, but too few for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// Turns that are due, each at most once.
#[derive(Default)]
struct RunList {
    due: VecDeque<(usize, Side)>,
    queued: Vec<[bool; 2]>,
    /// Pairs that were not asked to kick, and until when they are not.
    lingering: Vec<(usize, Instant)>,
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
    /// Serves the pairs until the pool ends.
    pub(super) fn run(&self) {
        let mut scratch = Scratch::default();
        let mut run = RunList::default();
        let mut waiting: Vec<usize> = Vec::new();
        let mut lingered: Vec<Instant> = Vec::new();
        let mut patience_ends: Option<Instant> = None;
        let mut blind = 0;
        let mut ready = [Ready::new(Interest::empty(), 0); 64];
        while !self.stop.load(Ordering::Acquire) {
            let timeout = match patience_ends {
                _ if !run.due.is_empty() || !run.lingering.is_empty() => 0,
                Some(_) => PATIENCE.as_millis() as i32,
                None => -1,
            };
            // Between two looks at a ring that may have something any moment, not every time.
            if run.due.is_empty() && !run.lingering.is_empty() && blind < BLIND_ROUNDS {
                blind += 1;
            } else {
                blind = 0;
                match self.poller.wait(timeout, &mut ready) {
                    Ok(events) => events.iter().for_each(|event| self.note(event, &mut run)),
                    Err(error) => {
                        // Cannot happen to a valid instance; if it does, do not spin.
                        error!("worker: epoll_wait: {error}");
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
            let expired = patience_ends.is_some_and(|end| Instant::now() >= end);
            if expired {
                patience_ends = None;
                waiting.iter().for_each(|&slot| run.push(slot, Side::ToGuest));
            }
            // Those that linger have their turn after those that are due, and at the end of their time the
            // one in which they are asked to kick.
            let due = run.due.len();
            let now = Instant::now();
            lingered.clear();
            while let Some((slot, until)) = run.lingering.pop() {
                let before = run.due.len();
                run.push(slot, Side::FromGuest);
                if run.due.len() > before {
                    lingered.push(until);
                }
            }
            // One round: what is pushed back waits for the next look at the events.
            for turn in 0..run.due.len() {
                let Some((slot, side)) = run.pop() else { break };
                let pair = match self.sitter(slot) {
                    Some(Sitter::Pair(pair)) => pair,
                    Some(Sitter::Lane(lane)) => {
                        if lane.turn(&mut scratch) == Turn::More {
                            run.push(slot, side);
                        }
                        continue;
                    }
                    None => continue,
                };
                let until = turn.checked_sub(due).and_then(|at| lingered.get(at)).copied();
                let terms = Terms {
                    expired: expired && side == Side::ToGuest && waiting.contains(&slot),
                    linger: until.is_none_or(|until| now < until),
                };
                match pair.turn(side, terms, &mut scratch) {
                    Turn::More => run.push(slot, side),
                    Turn::Lingering { moved } => {
                        let until = match until {
                            Some(until) if !moved => until,
                            None if !moved => now,
                            _ => Instant::now() + self.linger,
                        };
                        run.lingering.push((slot, until));
                        continue;
                    }
                    Turn::Starved { waiting: true } => {
                        if !waiting.contains(&slot) {
                            waiting.push(slot);
                        }
                        patience_ends.get_or_insert_with(|| Instant::now() + PATIENCE);
                        continue;
                    }
                    Turn::Idle | Turn::Full | Turn::Starved { waiting: false } => {}
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
    fn note(&self, ready: &Ready, run: &mut RunList) {
        let events = Interest::from_bits_retain(ready.events);
        match Event::of(ready.data) {
            Event::Call => self.take_calls(|slot, side| run.push(slot, side)),
            Event::Kick(slot, side) => run.push(slot, side),
            Event::Far(slot) => {
                let writable = events.contains(Interest::EPOLLOUT);
                let failed = events.intersects(Interest::EPOLLERR | Interest::EPOLLHUP);
                if events.contains(Interest::EPOLLIN) {
                    run.push(slot, Side::ToGuest);
                }
                match self.sitter(slot) {
                    Some(Sitter::Pair(pair)) => {
                        if writable {
                            run.push(slot, Side::FromGuest);
                        }
                        pair.tap_ready(writable, failed);
                    }
                    Some(Sitter::Lane(lane)) => {
                        lane.ready(writable, failed, |slot| run.push(slot, Side::FromGuest));
                    }
                    None => {}
                }
            }
        }
    }
}
