//! Every timer of a worker, in one structure.
//!
//! A task asks for a turn in one of two ways: at a time (a frame has waited long enough for a
//! guest's buffers, a rate limit has credit again), or again and again until a time (busy polling).
//! Both are kept here, at most one of each for one turn of a task. The worker asks for what is due
//! at the beginning of each round, and derives its epoll timeout from the rest. There is no other
//! clock in a worker.
//!
//! A turn that ends without asking for a time has its deadline cleared, which happens after every
//! turn and must cost nothing. So deadlines stand in a table by slot, and only a lower bound of the
//! earliest one is kept. A deadline that is cleared leaves the bound as it is, and the worker may
//! wake up once for nothing; then the table is searched.
//!
//! Nothing here reads a clock: the tests decide what time it is.

use std::time::Instant;

use crate::worker::task::{PARTS, Part, TurnId};

/// The timers of a worker.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// When a turn is to run, by slot and part.
    at: Vec<[Option<Instant>; PARTS]>,
    /// None of them is earlier.
    earliest: Option<Instant>,
    /// Turns that run in each round, and until when.
    polled: Vec<(TurnId, Instant)>,
}

impl Deadlines {
    /// A turn is to run at that time. It replaces the turn's deadline of before.
    pub(super) fn set(&mut self, turn: TurnId, at: Instant) {
        if self.at.len() <= turn.slot {
            self.at.resize(turn.slot + 1, [None; PARTS]);
        }
        if let Some(parts) = self.at.get_mut(turn.slot) {
            parts[turn.part as usize] = Some(at);
        }
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }

    /// A turn is to run when it has an event, and not before.
    pub(super) fn clear(&mut self, turn: TurnId) {
        if self.earliest.is_some()
            && let Some(parts) = self.at.get_mut(turn.slot)
        {
            parts[turn.part as usize] = None;
        }
    }

    /// Takes the turns whose time has come.
    pub(super) fn take_due(&mut self, now: Instant, mut due: impl FnMut(TurnId)) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest = None;
        for (slot, parts) in self.at.iter_mut().enumerate() {
            for (part, at) in Part::ALL.into_iter().zip(parts) {
                match *at {
                    Some(time) if time <= now => {
                        *at = None;
                        due(TurnId { slot, part });
                    }
                    Some(time) => {
                        let earliest = self.earliest.map_or(time, |earliest| earliest.min(time));
                        self.earliest = Some(earliest);
                    }
                    None => {}
                }
            }
        }
    }

    /// A turn is to run in the next round. `until` is handed back with it.
    pub(super) fn poll(&mut self, turn: TurnId, until: Instant) {
        self.polled.push((turn, until));
    }

    /// Whether a turn is to run in the next round.
    pub(super) fn polls(&self) -> bool {
        !self.polled.is_empty()
    }

    /// Takes the turns that are to run in this round, each with the time until which it may go on
    /// so.
    pub(super) fn take_polled(&mut self, mut due: impl FnMut(TurnId, Instant)) {
        while let Some((turn, until)) = self.polled.pop() {
            due(turn, until);
        }
    }

    /// How long the worker may sleep, in whole milliseconds as epoll takes them: never less than
    /// until the next deadline, or the worker would spin before it; -1 when there is none. `now` is
    /// asked only if it matters.
    pub(super) fn timeout_ms(&self, now: impl FnOnce() -> Instant) -> i32 {
        if self.polls() {
            return 0;
        }
        let Some(earliest) = self.earliest else { return -1 };
        let left = earliest.saturating_duration_since(now()).as_nanos().div_ceil(1_000_000);
        i32::try_from(left).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: TurnId = TurnId { slot: 0, part: Part::First };
    const B: TurnId = TurnId { slot: 5, part: Part::Second };

    fn due(deadlines: &mut Deadlines, now: Instant) -> Vec<TurnId> {
        let mut all = Vec::new();
        deadlines.take_due(now, |turn| all.push(turn));
        all
    }

    #[test]
    fn each_deadline_is_due_once_and_not_before_its_time() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        deadlines.set(A, after(20));
        deadlines.set(B, after(10));
        assert_eq!(deadlines.timeout_ms(|| start), 10);
        assert_eq!(due(&mut deadlines, after(9)), []);
        assert_eq!(due(&mut deadlines, after(10)), [B]);
        assert_eq!(deadlines.timeout_ms(|| after(10)), 10);
        assert_eq!(due(&mut deadlines, after(30)), [A]);
        assert_eq!(due(&mut deadlines, after(90)), []);
        assert_eq!(deadlines.timeout_ms(|| after(90)), -1, "sleeps until an event comes");
    }

    #[test]
    fn a_later_answer_replaces_the_deadline() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        deadlines.set(A, after(10));
        deadlines.set(A, after(30));
        assert_eq!(due(&mut deadlines, after(10)), [], "at most one wake-up for nothing");
        assert_eq!(deadlines.timeout_ms(|| after(10)), 20);
        deadlines.set(A, after(15));
        assert_eq!(due(&mut deadlines, after(15)), [A]);
    }

    #[test]
    fn a_cleared_deadline_never_comes() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        deadlines.clear(B);
        deadlines.set(A, start);
        deadlines.clear(B);
        deadlines.clear(A);
        assert_eq!(due(&mut deadlines, start), []);
        assert_eq!(deadlines.timeout_ms(|| start), -1);
    }

    #[test]
    fn the_worker_does_not_wake_before_the_deadline_and_not_at_all_while_it_polls() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        deadlines.set(A, start + Duration::from_micros(1001));
        assert_eq!(deadlines.timeout_ms(|| start), 2, "a millisecond would be too early");
        assert_eq!(deadlines.timeout_ms(|| start + Duration::from_secs(1)), 0);
        deadlines.poll(B, start);
        assert_eq!(deadlines.timeout_ms(|| start), 0);
        let mut polled = Vec::new();
        deadlines.take_polled(|turn, until| polled.push((turn, until)));
        assert_eq!(polled, [(B, start)]);
        assert!(!deadlines.polls());
    }
}
