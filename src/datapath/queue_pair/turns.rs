//! The worker's half of a queue pair: one turn of either direction, and what the tap says.
//!
//! What follows from a turn's end (what the tap is watched for, who waits for a uplink queue) is done under the same lock, so
//! that a stop cannot come between the two.

use std::sync::Arc;

use crate::datapath::backing::Backing;
use crate::datapath::queue_pair::{FromGuest, QueuePair, RingName, Side, ToGuest};
use crate::datapath::scratch::Scratch;
use crate::datapath::{guest_to_switch, guest_to_tap};
use crate::worker::task::{Budget, Outcome};

impl QueuePair {
    /// Worker: the tap has become writable again, or reports an error for ever.
    pub(crate) fn tap_ready(&self, writable: bool, failed: bool) {
        if writable {
            self.watch.output(&self.slot, false);
        }
        if failed {
            self.watch.give_up(&self.slot);
        }
    }

    /// Worker: runs one turn.
    pub fn turn(&self, side: Side, terms: Budget, scratch: &mut Scratch) -> Outcome {
        let name = RingName(self, side);
        match side {
            Side::FromGuest => {
                let Some(mut state) = self.from_guest.work() else { return Outcome::More };
                let FromGuest { line, backing, .. } = &mut *state;
                let attachment = backing.attachment().filter(|_| line.active());
                let turn = match attachment {
                    Some(attachment) => guest_to_switch::turn(
                        line,
                        attachment,
                        &self.port,
                        self.index,
                        terms.linger,
                        scratch,
                        &name,
                    ),
                    None => {
                        let tap = backing.tap().map(Arc::as_ref);
                        guest_to_tap::turn(line, tap, &self.port, scratch, &name)
                    }
                };
                line.check_memory(&name);
                match (turn, attachment) {
                    (Outcome::Full, Some(attachment)) => {
                        attachment.uplink_queue.wait(self.slot.slot())
                    }
                    (Outcome::Full, None) => self.watch.output(&self.slot, true),
                    _ => {}
                }
                turn
            }
            Side::ToGuest => {
                let Some(mut guard) = self.to_guest.work() else { return Outcome::More };
                let state = &mut *guard;
                if matches!(state.backing, Backing::Switch(_)) {
                    let turn = self.drain(state, terms.expired, scratch, &name);
                    state.line.check_memory(&name);
                    return turn;
                }
                let ToGuest { line, backing, receive: Some(receive), .. } = state else {
                    return Outcome::Idle;
                };
                let tap = backing.tap().map(Arc::as_ref);
                let turn = receive.turn(line, tap, terms.expired, &name);
                line.check_memory(&name);
                // Under the lock, so that a stop cannot come between the turn and what follows from it.
                match turn {
                    Outcome::Idle => self.watch.input(&self.slot, true),
                    Outcome::Starved { .. } => self.watch.input(&self.slot, false),
                    Outcome::More | Outcome::Full | Outcome::Lingering { .. } => {}
                }
                turn
            }
        }
    }
}
