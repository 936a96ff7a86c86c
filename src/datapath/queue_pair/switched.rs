//! The receive side of a pair in a switch: frames come from any worker, what waits is the pair's own's.

use crate::datapath::deliver::{Delivery, Drained, RxScratch};
use crate::datapath::fanout::Origin;
use crate::datapath::flood::Flood;
use crate::datapath::frame::Frame;
use crate::datapath::queue_pair::{QueuePair, RingName, ToGuest};
use crate::datapath::scratch::Scratch;
use crate::datapath::side::Side;
use crate::datapath::turn_end::TurnEnd;
use crate::virtqueue::vring::RingLog;

impl QueuePair {
    /// Worker: places what waits for the guest's buffers, and asks for more where they did not do.
    pub(crate) fn drain(
        &self,
        state: &mut ToGuest,
        expired: bool,
        scratch: &mut Scratch,
        name: &dyn RingLog,
    ) -> TurnEnd {
        let ToGuest { line, backlog: Some(backlog), .. } = state else { return TurnEnd::Idle };
        if backlog.is_empty() {
            return TurnEnd::Idle;
        }
        let carry = scratch.spread.carry();
        carry.begin_turn();
        let drained = Delivery::new(line, carry, Some(backlog)).drain(expired);
        line.publish();
        let Some(ring) = &mut line.ring else { return TurnEnd::Idle };
        let turn = match drained {
            Ok(Drained::Empty) => {
                ring.disable_notification();
                Ok(TurnEnd::Idle)
            }
            Ok(Drained::Later) => Ok(TurnEnd::More),
            Ok(Drained::Waits) => ring.enable_notification_at().and_then(|more| match more {
                true => Ok(TurnEnd::More),
                // Some are there, but too few for the frame: it does not wait for ever.
                false => Ok(TurnEnd::Starved { waiting: ring.waits()? > 0 }),
            }),
            Err(fault) => Err(fault),
        };
        turn.unwrap_or_else(|fault| {
            line.break_ring(fault, name);
            TurnEnd::Idle
        })
    }

    /// Any worker: places frames in the guest's receive ring, or one that is for many.
    pub(crate) fn deliver<'a>(
        &self,
        frames: impl Iterator<Item = Frame<'a>> + Clone,
        from: Origin,
        carry: &mut RxScratch,
        flood: Option<&mut Flood>,
    ) {
        let name = RingName(self, Side::ToGuest);
        let mut state = self.to_guest.deliver();
        let ToGuest { line, backlog, .. } = &mut *state;
        let backlog = backlog.as_deref_mut().filter(|_| from == Origin::Wire);
        let waited = backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        let mut delivery = Delivery::new(line, carry, backlog).of_flood(flood);
        let outcome = delivery.frames(frames);
        if !waited && delivery.waits() {
            // From here on the pair's own worker looks after what waits.
            self.slot.call(Side::ToGuest.part());
        }
        line.publish();
        if let Err(fault) = outcome {
            line.break_ring(fault, &name);
        }
        line.check_memory(&name);
    }
}
