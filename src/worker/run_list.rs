//! Which turns of a worker are due.
//!
//! Turns are served in the order in which they became due, each at most once at a time: a ring that is kicked
//! while its turn is due anyway has one turn. A transmit ring that lingers (`thread.rs`) has its turn after all
//! that are due, and carries the time until which it may go on so; what is due for a reason of its own does not.

use std::collections::VecDeque;
use std::time::Instant;

use crate::datapath::queue_pair::Side;

/// A turn that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Whose it is: the worker slot in the pool.
    pub slot: usize,
    /// Which ring of the pair.
    pub side: Side,
    /// For a ring that lingers, until when.
    pub until: Option<Instant>,
}

/// Turns that are due, each at most once.
#[derive(Debug, Default)]
pub struct RunList {
    due: VecDeque<RunEntry>,
    queued: Vec<[bool; 2]>,
    lingering: Vec<(usize, Instant)>,
}

impl RunList {
    /// A ring has something to do.
    pub fn push(&mut self, slot: usize, side: Side) {
        self.add(RunEntry { slot, side, until: None });
    }

    /// A transmit ring was not asked to kick, and is to be looked at again until then.
    pub fn linger(&mut self, slot: usize, until: Instant) {
        self.lingering.push((slot, until));
    }

    /// Those that linger have their turn, after those that are due.
    pub fn requeue(&mut self) {
        while let Some((slot, until)) = self.lingering.pop() {
            self.add(RunEntry { slot, side: Side::FromGuest, until: Some(until) });
        }
    }

    /// The next turn.
    pub fn pop(&mut self) -> Option<RunEntry> {
        let due = self.due.pop_front()?;
        if let Some(queued) = self.queued.get_mut(due.slot) {
            queued[due.side as usize] = false;
        }
        Some(due)
    }

    /// How many are due.
    pub fn due(&self) -> usize {
        self.due.len()
    }

    /// Whether a ring lingers.
    pub fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    fn add(&mut self, due: RunEntry) {
        if self.queued.len() <= due.slot {
            self.queued.resize(due.slot + 1, [false; 2]);
        }
        let queued = self.queued.get_mut(due.slot).map(|queued| &mut queued[due.side as usize]);
        if queued.is_some_and(|queued| !std::mem::replace(queued, true)) {
            self.due.push_back(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(run: &mut RunList) -> Vec<(usize, Side, bool)> {
        std::iter::from_fn(|| run.pop()).map(|d| (d.slot, d.side, d.until.is_some())).collect()
    }

    #[test]
    fn a_turn_is_due_once_and_in_its_order() {
        let mut run = RunList::default();
        run.push(7, Side::ToGuest);
        run.push(2, Side::FromGuest);
        run.push(7, Side::ToGuest);
        run.push(7, Side::FromGuest);
        assert_eq!(run.due(), 3);
        let all =
            [(7, Side::ToGuest, false), (2, Side::FromGuest, false), (7, Side::FromGuest, false)];
        assert_eq!(order(&mut run), all);
        run.push(7, Side::ToGuest);
        assert_eq!(run.due(), 1, "served, it may become due again");
    }

    #[test]
    fn who_lingers_comes_last_unless_it_is_due_anyway() {
        let mut run = RunList::default();
        run.linger(1, Instant::now());
        run.linger(2, Instant::now());
        run.push(2, Side::FromGuest);
        run.push(3, Side::FromGuest);
        assert!(run.lingers());
        run.requeue();
        assert!(!run.lingers());
        let all =
            [(2, Side::FromGuest, false), (3, Side::FromGuest, false), (1, Side::FromGuest, true)];
        assert_eq!(order(&mut run), all);
    }
}
