//! The loop of one worker thread.
//!
//! A worker runs the tasks in its slots (`slot.rs`). Turns that are due stand in a run list, which
//! the worker serves round by round, so that every task gets its share. Between two rounds it looks
//! for new events without waiting. An event may concern a ring that has stopped since: its turn
//! finds nothing to do. A worker never ends by an error.
//!
//! To sleep and to be woken takes some seven microseconds, and a kick costs the guest a system
//! call. So a task that has just moved frames is busy-polled: it has a turn in every round until
//! `--busy-poll` has passed without a frame. Only then does it ask to be notified, and the worker
//! sleeps. The default is no longer than the wake-up that it may save. Each turn has its own time,
//! so a busy ring does not keep the worker polling an idle one.
//!
//! All times, those of busy polling included, are in [`Deadlines`], and the epoll timeout is
//! derived from them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::error;

use crate::worker::deadlines::Deadlines;
use crate::worker::poller::{Interest, Ready};
use crate::worker::run_list::{RunEntry, RunList};
use crate::worker::slot::{Tasks, Worker};
use crate::worker::task::{Budget, Outcome, Readiness};
use crate::worker::token::EventToken;

/// Rounds of busy polling for each look at the events: a look is a system call.
const BLIND_ROUNDS: u32 = 4;

/// What a worker knows from one round to the next.
struct WorkerState<'w, S> {
    worker: &'w Worker<S>,
    scratch: S,
    run: RunList,
    deadlines: Deadlines,
    /// Rounds since the worker last looked at the events.
    blind: u32,
    ready: [Ready; 64],
}

/// Runs the worker's tasks until the pool ends.
pub(super) fn run<S: Default>(worker: &Worker<S>) {
    let mut state = WorkerState {
        worker,
        scratch: S::default(),
        run: RunList::default(),
        deadlines: Deadlines::default(),
        blind: 0,
        ready: [Ready::new(Interest::empty(), 0); 64],
    };
    while !worker.stop.load(Ordering::Acquire) {
        let tasks = state.look();
        state.round(&tasks);
    }
}

impl<S> WorkerState<'_, S> {
    /// Looks for events, and waits for them when there is nothing to do. Returns the tasks of the
    /// next round.
    fn look(&mut self) -> Tasks<S> {
        // While it only polls, the worker does not look every time.
        if self.run.due() == 0 && self.deadlines.polls() && self.blind < BLIND_ROUNDS {
            self.blind += 1;
            return self.worker.tasks();
        }
        self.blind = 0;
        let timeout = match self.run.due() {
            0 => self.deadlines.timeout_ms(Instant::now),
            _ => 0,
        };
        let WorkerState { worker, run, ready, .. } = self;
        let events = worker.poller.wait(timeout, ready).unwrap_or_else(|error| {
            // Cannot happen to a valid instance; if it does, the worker does not spin.
            error!("worker: epoll_wait: {error}");
            std::thread::sleep(Duration::from_millis(100));
            &[]
        });
        for event in events {
            match EventToken::of(event.data) {
                EventToken::Wake => worker.take_calls(|turn| run.push(turn)),
                EventToken::Turn(turn) => run.push(turn),
                EventToken::Ready(_) => {}
            }
        }
        // After the inbox was emptied: see `slot.rs`.
        let tasks = worker.tasks();
        for event in events {
            if let EventToken::Ready(slot) = EventToken::of(event.data)
                && let Some(task) = tasks.get(slot)
            {
                task.ready(readiness(event), &mut |turn| run.push(turn));
            }
        }
        tasks
    }

    /// One turn for each that is due, then one for each that is polled. Those that become due
    /// meanwhile wait for the next look at the events.
    fn round(&mut self, tasks: &Tasks<S>) {
        let now = Instant::now();
        self.deadlines.take_due(now, |turn| self.run.push(turn));
        self.deadlines.take_polled(|turn, until| self.run.push_polled(turn, until));
        for _ in 0..self.run.due() {
            let Some(entry) = self.run.pop() else { break };
            self.turn(tasks, entry, now);
        }
    }

    /// One turn, and what follows from its outcome.
    fn turn(&mut self, tasks: &Tasks<S>, RunEntry { turn, until }: RunEntry, now: Instant) {
        let outcome = tasks.get(turn.slot).map_or(Outcome::Idle, |task| {
            // At the end of its time, a polled task has the turn in which it asks to be notified.
            let busy_poll = until.is_none_or(|until| now < until);
            task.turn(turn.part, Budget { now, busy_poll }, &mut self.scratch)
        });
        if let Outcome::Until(at) = outcome {
            self.deadlines.set(turn, at);
            return;
        }
        self.deadlines.clear(turn);
        match outcome {
            Outcome::Idle | Outcome::Until(_) => {}
            Outcome::More => self.run.push(turn),
            Outcome::Polling { moved } => {
                let until = match until {
                    Some(until) if !moved => until,
                    None if !moved => now,
                    _ => Instant::now() + self.worker.busy_poll,
                };
                self.deadlines.poll(turn, until);
            }
        }
    }
}

/// What epoll reports of a descriptor.
fn readiness(event: &Ready) -> Readiness {
    let events = Interest::from_bits_retain(event.events);
    Readiness {
        readable: events.contains(Interest::EPOLLIN),
        writable: events.contains(Interest::EPOLLOUT),
        failed: events.intersects(Interest::EPOLLERR | Interest::EPOLLHUP),
    }
}

#[cfg(test)]
mod tests;
