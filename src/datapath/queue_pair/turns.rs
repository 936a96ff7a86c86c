//! The worker's half of a queue pair: one turn of either direction, and what the tap reports.
//!
//! What follows from a turn's end (what the tap is watched for, which turn waits for an uplink queue) is done under the
//! same lock, so that a stop cannot come between the two.
//!
//! A frame may wait for a guest that offers too few buffers for it, but not indefinitely: the pair asks its worker for a
//! turn at the end of `PATIENCE`, and that turn drops the frame.

use std::sync::Arc;
use std::time::Duration;

use crate::datapath::backing::Backing;
use crate::datapath::queue_pair::{FromGuest, QueuePair, RingName, ToGuest};
use crate::datapath::scratch::Scratch;
use crate::datapath::side::Side;
use crate::datapath::turn_end::TurnEnd;
use crate::datapath::{guest_to_switch, guest_to_tap};
use crate::worker::task::{Budget, Outcome, Part, Readiness, Task, TurnId};

/// How long a frame waits for a guest that has buffers, but too few for it.
const PATIENCE: Duration = Duration::from_millis(20);

impl Task<Scratch> for QueuePair {
    fn turn(&self, part: Part, budget: Budget, scratch: &mut Scratch) -> Outcome {
        self.turn(Side::of_part(part), budget, scratch)
    }

    fn ready(&self, readiness: Readiness, due: &mut dyn FnMut(TurnId)) {
        if readiness.readable {
            due(self.slot.turn(Side::ToGuest.part()));
        }
        if readiness.writable {
            due(self.slot.turn(Side::FromGuest.part()));
            self.watch.output(&self.slot, false);
        }
        if readiness.failed {
            self.watch.give_up(&self.slot);
        }
    }
}

impl QueuePair {
    /// Worker: runs one turn.
    pub fn turn(&self, side: Side, budget: Budget, scratch: &mut Scratch) -> Outcome {
        match side {
            Side::FromGuest => self.turn_from_guest(budget, scratch),
            Side::ToGuest => self.turn_to_guest(budget, scratch),
        }
    }

    fn turn_from_guest(&self, budget: Budget, scratch: &mut Scratch) -> Outcome {
        let name = RingName(self, Side::FromGuest);
        let Some(mut state) = self.from_guest.work() else { return Outcome::More };
        let FromGuest { line, backing, .. } = &mut *state;
        let attachment = backing.attachment().filter(|_| line.active());
        let end = match attachment {
            Some(attachment) => guest_to_switch::turn(
                line,
                attachment,
                &self.port,
                self.index,
                budget.busy_poll,
                scratch,
                &name,
            ),
            None => {
                let tap = backing.tap().map(Arc::as_ref);
                guest_to_tap::turn(line, tap, &self.port, scratch, &name)
            }
        };
        line.check_memory(&name);
        match (end, attachment) {
            (TurnEnd::More, _) => Outcome::More,
            (TurnEnd::Polling { moved }, _) => Outcome::Polling { moved },
            (TurnEnd::Full, Some(attachment)) => {
                attachment.uplink_queue.wait(self.slot.turn(Side::FromGuest.part()));
                Outcome::Idle
            }
            (TurnEnd::Full, None) => {
                self.watch.output(&self.slot, true);
                Outcome::Idle
            }
            (TurnEnd::Idle | TurnEnd::Starved { .. }, _) => Outcome::Idle,
        }
    }

    fn turn_to_guest(&self, budget: Budget, scratch: &mut Scratch) -> Outcome {
        let name = RingName(self, Side::ToGuest);
        let Some(mut state) = self.to_guest.work() else { return Outcome::More };
        let expired = state.gives_up.take_if(|at| *at <= budget.now).is_some();
        let end = if matches!(state.backing, Backing::Switch(_)) {
            self.drain(&mut state, expired, scratch, &name)
        } else {
            self.turn_of_tap(&mut state, expired, &name)
        };
        state.line.check_memory(&name);
        match end {
            TurnEnd::Starved { waiting: true } => {
                let at = state.gives_up.get_or_insert(budget.now + PATIENCE);
                Outcome::Until(*at)
            }
            TurnEnd::More => {
                state.gives_up = None;
                Outcome::More
            }
            TurnEnd::Idle | TurnEnd::Full | TurnEnd::Polling { .. } | TurnEnd::Starved { .. } => {
                state.gives_up = None;
                Outcome::Idle
            }
        }
    }

    /// One turn from the tap.
    fn turn_of_tap(&self, state: &mut ToGuest, expired: bool, name: &RingName<'_>) -> TurnEnd {
        let ToGuest { line, backing, receive: Some(receive), .. } = state else {
            return TurnEnd::Idle;
        };
        let end = receive.turn(line, backing.tap().map(Arc::as_ref), expired, name);
        match end {
            TurnEnd::Idle => self.watch.input(&self.slot, true),
            TurnEnd::Starved { .. } => self.watch.input(&self.slot, false),
            TurnEnd::More | TurnEnd::Full | TurnEnd::Polling { .. } => {}
        }
        end
    }
}
