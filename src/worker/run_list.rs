//! Which turns of a worker are due.
//!
//! Turns run in the order in which they became due, each at most once at a time: a ring that is
//! kicked while its turn is due anyway has one turn. A busy-polled turn (`thread.rs`) runs after
//! all others, and carries the time until which it may go on so. A turn that is due for a reason of
//! its own carries none.

use std::collections::VecDeque;
use std::time::Instant;

use crate::worker::task::{PARTS, TurnId};

/// A turn that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunEntry {
    /// Which one.
    pub(super) turn: TurnId,
    /// For a busy-polled turn, until when.
    pub(super) until: Option<Instant>,
}

/// Turns that are due, each at most once.
#[derive(Debug, Default)]
pub(super) struct RunList {
    due: VecDeque<RunEntry>,
    queued: Vec<[bool; PARTS]>,
}

impl RunList {
    /// A turn has something to do.
    pub(super) fn push(&mut self, turn: TurnId) {
        self.add(RunEntry { turn, until: None });
    }

    /// A turn is busy-polled until then.
    pub(super) fn push_polled(&mut self, turn: TurnId, until: Instant) {
        self.add(RunEntry { turn, until: Some(until) });
    }

    /// The next turn.
    pub(super) fn pop(&mut self) -> Option<RunEntry> {
        let entry = self.due.pop_front()?;
        if let Some(queued) = self.queued.get_mut(entry.turn.slot) {
            queued[entry.turn.part as usize] = false;
        }
        Some(entry)
    }

    /// How many are due.
    pub(super) fn due(&self) -> usize {
        self.due.len()
    }

    fn add(&mut self, entry: RunEntry) {
        let TurnId { slot, part } = entry.turn;
        if self.queued.len() <= slot {
            self.queued.resize(slot + 1, [false; PARTS]);
        }
        let queued = self.queued.get_mut(slot).map(|queued| &mut queued[part as usize]);
        if queued.is_some_and(|queued| !std::mem::replace(queued, true)) {
            self.due.push_back(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::task::Part;

    fn turn(slot: usize, part: Part) -> TurnId {
        TurnId { slot, part }
    }

    fn order(run: &mut RunList) -> Vec<(usize, Part, bool)> {
        let next = || run.pop();
        std::iter::from_fn(next).map(|d| (d.turn.slot, d.turn.part, d.until.is_some())).collect()
    }

    #[test]
    fn a_turn_is_due_once_and_in_its_order() {
        let mut run = RunList::default();
        run.push(turn(7, Part::Second));
        run.push(turn(2, Part::First));
        run.push(turn(7, Part::Second));
        run.push(turn(7, Part::First));
        assert_eq!(run.due(), 3);
        let all = [(7, Part::Second, false), (2, Part::First, false), (7, Part::First, false)];
        assert_eq!(order(&mut run), all);
        run.push(turn(7, Part::Second));
        assert_eq!(run.due(), 1, "served, it may become due again");
    }

    #[test]
    fn a_polled_turn_comes_last_unless_it_is_due_anyway() {
        let mut run = RunList::default();
        run.push(turn(2, Part::First));
        run.push(turn(3, Part::First));
        run.push_polled(turn(2, Part::First), Instant::now());
        run.push_polled(turn(1, Part::First), Instant::now());
        let all = [(2, Part::First, false), (3, Part::First, false), (1, Part::First, true)];
        assert_eq!(order(&mut run), all);
    }
}
