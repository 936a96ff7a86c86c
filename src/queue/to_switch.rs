//! From the guest into the switch: the guest's transmit ring, where we forward.
//!
//! A turn takes batches: all frames are looked at and decided upon (`batch.rs`), then what is for the
//! wire goes out in one `sendmmsg`, then what is for siblings is copied into their rings
//! (`spread.rs`), then the chains are given back and the index published once.
//!
//! The wire comes first because it may push back: the batch is then cut before the first frame that it
//! did not take, and the rest, siblings' frames included, goes back into the ring as if it had never been
//! looked at; likewise what would make the turn too long: a broadcast counts as many frames as there are
//! ports, so that a guest that floods gets no more of the worker's time than one that does not. So no frame leaves twice, none is lost for want of room, and chains complete in order.

use super::Turn;
use super::batch::{Batch, End};
use super::budget::Budget;
use super::copy::get;
use super::deliver::Frame;
use super::entry::Fate;
use super::line::{Line, RingLog};
use super::plug::Plug;
use super::spread::{From, Parcels};
use crate::port::PortData;
use crate::queue::scratch::Scratch;
use crate::stats::Drop;
use crate::switch::{self, Groups, Head, Membership, Receivers};

/// What is looked at of a membership report, in bytes: a frame of the usual MTU.
const REPORT: usize = 1518;

/// The frames of a batch that go their way, and the queue pair that they come from.
struct Sent<'a> {
    batch: &'a Batch,
    count: usize,
    flow: u32,
}

impl Parcels for Sent<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn receivers(&self, index: usize) -> Receivers {
        match self.batch.entries.get(index).map(|entry| entry.fate) {
            Some(Fate::Go(verdict)) => verdict.to,
            _ => Receivers::None,
        }
    }

    fn head(&self, index: usize) -> Head {
        self.batch.entries.get(index).map(|entry| entry.head).unwrap_or_default()
    }

    /// A guest keeps a flow on one of its queues, and so do we.
    #[inline]
    fn flow(&self, _index: usize) -> u32 {
        self.flow
    }

    fn frame(&self, index: usize) -> Option<Frame<'_>> {
        self.batch.entries.get(index).and_then(|entry| self.batch.frame(entry))
    }
}

/// Notes which multicast groups a guest joins and leaves by this frame, if it is a report.
fn note_groups(groups: &Groups, frame: &Frame<'_>, whole: &mut [u8]) {
    let Some(copy) = whole.get_mut(..frame.len.min(REPORT)) else { return };
    let Some((head, rest)) = copy.split_at_mut_checked(frame.head.len()) else { return };
    head.copy_from_slice(frame.head);
    get(frame.body, rest);
    switch::memberships(copy, |membership| match membership {
        Membership::Join(group) => groups.join(group),
        Membership::Leave(group) => groups.leave(group),
    });
}

/// Runs one turn of queue pair `index`'s transmit ring. The line is enabled and has a ring. With `linger` the
/// guest is not asked to kick at the end.
pub fn turn(
    line: &mut Line,
    plug: &Plug,
    port: &PortData,
    index: u16,
    linger: bool,
    scratch: &mut Scratch,
    name: &dyn RingLog,
) -> Turn {
    let view = plug.lan.view();
    let mut budget = Budget::TURN;
    let mut moved = false;
    scratch.spread.carry().begin_turn();
    if let Some(ring) = &mut line.ring {
        ring.no_kicks();
    }
    loop {
        if budget.is_spent() {
            return Turn::More;
        }
        let Line { ring: Some(ring), counters, features, .. } = &mut *line else {
            return Turn::Idle;
        };
        let Scratch { batch, spread, .. } = scratch;
        let end = batch.fill(ring, *features, &mut budget);
        batch.judge(port, plug.port, &view.table, *features);
        let late = batch.limit(&mut budget, view.table.len());
        let cut = plug.lane.send(batch);
        let all = batch.entries.len();
        moved |= all > 0;
        if let Some(groups) = &plug.groups {
            let whole = &mut spread.carry().whole;
            for entry in batch.entries.iter().take(cut) {
                if matches!(entry.fate, Fate::Go(_)) && switch::worth_a_look(&entry.head) {
                    batch.frame(entry).iter().for_each(|frame| note_groups(groups, frame, whole));
                }
            }
        }
        let sent = Sent { batch, count: cut, flow: u32::from(index) };
        spread.deliver(&view, &sent, From::Sibling);
        for entry in batch.entries.iter().take(cut) {
            match (entry.fate, entry.lost) {
                (Fate::Go(_), Some(reason)) => counters.drop(reason),
                (Fate::Go(verdict), _) if verdict.why.is_some() => {
                    counters.drop(Drop::NotForwarded);
                }
                (Fate::Go(_), _) => counters.frame(entry.len),
                (Fate::Drop(reason), _) => counters.drop(reason),
                (Fate::Undecided, _) => {}
            }
            ring.give_back(entry.chain, 0);
        }
        ring.unpop((all - cut + late) as u16);
        line.publish();
        if cut < all {
            return Turn::Full;
        }
        if late > 0 {
            return Turn::More;
        }
        if end == End::Empty && linger {
            return Turn::Lingering { moved };
        }
        if line.rests(end, name) {
            return Turn::Idle;
        }
    }
}

#[cfg(test)]
#[path = "to_switch_tests.rs"]
mod tests;
