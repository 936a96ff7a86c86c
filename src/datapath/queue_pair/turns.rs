//! The worker's half of a queue pair: one turn of either direction, and what the tap says.
//!
//! What follows from a turn's end (what the tap is watched for, who waits for a uplink queue) is done under the same lock, so
//! that a stop cannot come between the two.

use crate::datapath::queue_pair::{QueuePair, RingName, Side};
use crate::datapath::scratch::Scratch;
use crate::datapath::{guest_to_switch, guest_to_tap};
use crate::virtqueue::vring::Backing;
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
                let line = &mut state.line;
                let attachment = match &line.backing {
                    Backing::Switch(attachment) if line.active() => Some(attachment.clone()),
                    _ => None,
                };
                let turn = match &attachment {
                    Some(attachment) => guest_to_switch::turn(
                        line,
                        attachment,
                        &self.port,
                        self.index,
                        terms.linger,
                        scratch,
                        &name,
                    ),
                    None => guest_to_tap::turn(line, &self.port, scratch, &name),
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
                if matches!(state.line.backing, Backing::Switch(_)) {
                    let turn = self.drain(state, terms.expired, scratch, &name);
                    state.line.check_memory(&name);
                    return turn;
                }
                let Some(receive) = &mut state.receive else { return Outcome::Idle };
                let turn = receive.turn(&mut state.line, terms.expired, &name);
                state.line.check_memory(&name);
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
