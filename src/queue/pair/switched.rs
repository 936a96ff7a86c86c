//! The receive side of a pair in a switch: frames come from any worker, what waits is the pair's own's.

use super::{QueuePair, RingName, Side, ToGuest};
use crate::queue::Turn;
use crate::queue::deliver::{Carry, Delivery, Drained, Frame};
use crate::queue::flood::Flood;
use crate::queue::line::RingLog;
use crate::queue::scratch::Scratch;
use crate::queue::spread::From;

impl QueuePair {
    /// Worker: places what waits for the guest's buffers, and asks for more where they did not do.
    pub(super) fn drain(
        &self,
        state: &mut ToGuest,
        expired: bool,
        scratch: &mut Scratch,
        name: &dyn RingLog,
    ) -> Turn {
        let ToGuest { line, backlog: Some(backlog), .. } = state else { return Turn::Idle };
        if backlog.is_empty() {
            return Turn::Idle;
        }
        let carry = scratch.spread.carry();
        carry.begin_turn();
        let drained = Delivery::new(line, carry, Some(backlog)).drain(expired);
        line.publish();
        let Some(ring) = &mut line.ring else { return Turn::Idle };
        let turn = match drained {
            Ok(Drained::Empty) => {
                ring.no_kicks();
                Ok(Turn::Idle)
            }
            Ok(Drained::Later) => Ok(Turn::More),
            Ok(Drained::Waits) => ring.ask_for_more().and_then(|more| match more {
                true => Ok(Turn::More),
                // Some are there, but too few for the frame: it does not wait for ever.
                false => Ok(Turn::Starved { waiting: ring.waits()? > 0 }),
            }),
            Err(fault) => Err(fault),
        };
        turn.unwrap_or_else(|fault| {
            line.break_ring(fault, name);
            Turn::Idle
        })
    }

    /// Any worker: places frames in the guest's receive ring, or one that is for many.
    pub(in crate::queue) fn deliver<'a>(
        &self,
        frames: impl Iterator<Item = Frame<'a>> + Clone,
        from: From,
        carry: &mut Carry,
        flood: Option<&mut Flood>,
    ) {
        let name = RingName(self, Side::ToGuest);
        let mut state = self.to_guest.deliver();
        let ToGuest { line, backlog, .. } = &mut *state;
        let backlog = backlog.as_deref_mut().filter(|_| from == From::Wire);
        let waited = backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        let mut delivery = Delivery::new(line, carry, backlog).of_flood(flood);
        let outcome = delivery.frames(frames);
        if !waited && delivery.waits() {
            // From here on the pair's own worker looks after what waits.
            self.seat.call(Side::ToGuest);
        }
        line.publish();
        if let Err(fault) = outcome {
            line.break_ring(fault, &name);
        }
        line.check_memory(&name);
    }
}
