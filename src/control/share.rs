//! The share of the control thread's time that one source of events may take.
//!
//! Guests, network managers and the LAN can each cause an event in a loop: a ring enabled and
//! disabled, a link up and down. The work for one event is small and useful. For a hundred thousand
//! a second it would keep the control thread from everything else. So work makes a debt, which time
//! pays off, [`FACTOR`] times as much of it as the work has taken. A source that owes more than
//! [`FREE`] rests until it does not. A source that is used now and then never rests. One that is
//! driven in a loop gets about three per cent of a processor. Events during a rest are not lost:
//! they wait in the source's descriptor, and many of them are one piece of work then.
//!
//! Work is processor time. The kernel lets the control thread wait for its locks, and for a grace
//! period of RCU when a socket's membership changes: that takes ten times as long as the work, and
//! costs nothing.
//!
//! What can go wrong: work that takes long for a good reason (a thousand devices at once) would be
//! followed by a rest of seconds; hence a longest one. Pure: the caller brings the time.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How much longer than the work the rest is.
pub const FACTOR: u32 = 31;
/// Work that is followed by no rest: that of some guests that start, or of a link that is set up.
pub const FREE: Duration = Duration::from_millis(40);

/// One source of events, and until when it rests.
#[derive(Debug)]
pub struct Share {
    longest: Duration,
    /// Work that is not paid off, as of `counted`.
    debt: Duration,
    counted: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Share {
    /// A source that never rests for longer than this.
    pub fn new(longest: Duration) -> Share {
        Share { longest, debt: Duration::ZERO, counted: None, rests_until: None }
    }

    /// The length of the rest after work of this length, for a source that has no free share left.
    pub fn rest_after(&self, work: Duration) -> Duration {
        work.saturating_mul(FACTOR).min(self.longest)
    }

    /// Whether it rests.
    pub fn rests(&self) -> bool {
        self.rests_until.is_some()
    }

    /// So much work has just ended, at `now`.
    pub fn rest(&mut self, work: Duration, now: Instant) {
        let passed =
            self.counted.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        // No more is owed than the longest rest pays off.
        let most = FREE + self.longest / FACTOR;
        self.debt = (self.debt.saturating_sub(passed / FACTOR) + work).min(most);
        self.counted = Some(now);
        let rest = self.rest_after(self.debt.saturating_sub(FREE));
        self.rests_until = (rest > Duration::ZERO).then(|| now + rest);
    }

    /// When the rest ends, if there is one.
    pub fn due(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Ends the rest if its time is over. True: the source is to be watched again.
    pub fn wake(&mut self, now: Instant) -> bool {
        self.rests_until.take_if(|until| *until <= now).is_some()
    }
}

/// The processor time that the calling thread has used.
pub fn used() -> Duration {
    // The clock of a thread always exists; without it no source would ever rest.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works 100 us whenever it may, for this long. Returns the share of the time.
    fn driven(share: &mut Share, start: Instant, time: Duration) -> f64 {
        let (mut now, mut worked) = (start, Duration::ZERO);
        while now < start + time {
            now = share.due().unwrap_or(now).max(now);
            share.wake(now);
            let end = now + Duration::from_micros(100);
            share.rest(end - now, end);
            (now, worked) = (end, worked + Duration::from_micros(100));
        }
        worked.as_secs_f64() / time.as_secs_f64()
    }

    #[test]
    fn a_source_in_a_loop_gets_its_share() {
        let start = Instant::now();
        let mut share = Share::new(Duration::from_millis(400));
        let first = driven(&mut share, start, Duration::from_secs(2));
        assert!((0.045..0.055).contains(&first), "{first}");
        let later = start + Duration::from_secs(2);
        let then = driven(&mut share, later, Duration::from_secs(10));
        assert!((0.029..0.034).contains(&then), "{then}");
    }

    #[test]
    fn a_source_that_is_used_now_and_then_does_not_rest() {
        let start = Instant::now();
        let mut share = Share::new(Duration::from_millis(400));
        for second in 0..100 {
            let at = start + Duration::from_secs(second);
            share.rest(Duration::from_millis(20), at);
            assert!(!share.rests(), "second {second}");
        }
    }

    #[test]
    fn no_rest_is_longer_than_the_longest() {
        let start = Instant::now();
        let mut share = Share::new(Duration::from_millis(400));
        assert!(!share.wake(start), "it does not rest");
        let end = start + Duration::from_secs(10);
        share.rest(Duration::from_secs(10), end);
        let due = share.due().unwrap();
        assert!(due <= end + Duration::from_millis(400) && due > end + Duration::from_millis(390));
        assert!(!share.wake(end) && share.wake(due) && !share.wake(due));
    }
}
