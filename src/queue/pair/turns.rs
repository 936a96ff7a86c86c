//! The worker's half of a queue pair: one turn of either direction, and what the tap says.
//!
//! What follows from a turn's end (what the tap is watched for, who waits for a lane) is done under the same lock, so
//! that a stop cannot come between the two.

use super::{QueuePair, RingName, Side};
use crate::queue::line::Far;
use crate::queue::scratch::Scratch;
use crate::queue::{Terms, Turn, from_guest, to_switch};

impl QueuePair {
    /// Worker: the tap has become writable again, or reports an error for ever.
    pub(in crate::queue) fn tap_ready(&self, writable: bool, failed: bool) {
        if writable {
            self.watch.output(&self.seat, false);
        }
        if failed {
            self.watch.give_up(&self.seat);
        }
    }

    /// Worker: runs one turn.
    pub fn turn(&self, side: Side, terms: Terms, scratch: &mut Scratch) -> Turn {
        let name = RingName(self, side);
        match side {
            Side::FromGuest => {
                let Some(mut state) = self.from_guest.work() else { return Turn::More };
                let line = &mut state.line;
                let plug = match &line.far {
                    Far::Switch(plug) if line.active() => Some(plug.clone()),
                    _ => None,
                };
                let turn = match &plug {
                    Some(plug) => to_switch::turn(
                        line,
                        plug,
                        &self.port,
                        self.index,
                        terms.linger,
                        scratch,
                        &name,
                    ),
                    None => from_guest::turn(line, &self.port, scratch, &name),
                };
                line.check_memory(&name);
                match (turn, plug) {
                    (Turn::Full, Some(plug)) => plug.lane.wait(self.seat.slot()),
                    (Turn::Full, None) => self.watch.output(&self.seat, true),
                    _ => {}
                }
                turn
            }
            Side::ToGuest => {
                let Some(mut guard) = self.to_guest.work() else { return Turn::More };
                let state = &mut *guard;
                if matches!(state.line.far, Far::Switch(_)) {
                    let turn = self.drain(state, terms.expired, scratch, &name);
                    state.line.check_memory(&name);
                    return turn;
                }
                let Some(receive) = &mut state.receive else { return Turn::Idle };
                let turn = receive.turn(&mut state.line, terms.expired, &name);
                state.line.check_memory(&name);
                // Under the lock, so that a stop cannot come between the turn and what follows from it.
                match turn {
                    Turn::Idle => self.watch.input(&self.seat, true),
                    Turn::Starved { .. } => self.watch.input(&self.seat, false),
                    Turn::More | Turn::Full | Turn::Lingering { .. } => {}
                }
                turn
            }
        }
    }
}
