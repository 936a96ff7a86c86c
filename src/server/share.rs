//! The share of the control thread's time that one source of events may take.
//!
//! Guests, network managers and the LAN can each cause an event in a loop: a ring enabled and disabled, a link
//! up and down. The work for one is small and useful, that for a hundred thousand a second would keep the
//! control thread from everything else. So a source rests after each piece of work, for [`FACTOR`] times as
//! long as the work has taken. A source that is used now and then does not notice: its first event is served
//! at once. One that is driven in a loop gets about three per cent of a processor, whatever it costs us.
//! What comes during a rest is not lost: it waits in its descriptor, and much of it is one piece of work then.
//!
//! What can go wrong: work that takes long for a good reason (a thousand devices at once) would be followed
//! by a rest of seconds; hence a longest one. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// How much longer than the work the rest is.
const FACTOR: u32 = 31;
/// One source of events, and until when it rests.
#[derive(Debug)]
pub struct Share {
    longest: Duration,
    rests_until: Option<Instant>,
}

impl Share {
    /// A source that never rests for longer than this.
    pub fn new(longest: Duration) -> Share {
        Share { longest, rests_until: None }
    }

    /// How long a source rests after work of this length.
    pub fn rest_after(&self, work: Duration) -> Duration {
        work.saturating_mul(FACTOR).min(self.longest)
    }

    /// Whether it rests.
    pub fn rests(&self) -> bool {
        self.rests_until.is_some()
    }

    /// Work that has begun at `start` has just ended, at `now`.
    pub fn rest(&mut self, start: Instant, now: Instant) {
        self.rests_until = Some(now + self.rest_after(now.saturating_duration_since(start)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_rests_many_times_as_long_as_it_works_and_never_long() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut share = Share::new(Duration::from_millis(400));
        assert!(!share.wake(at(0)), "it does not rest");
        share.rest(at(0), at(100));
        assert_eq!(share.due(), Some(at(3200)));
        assert!(!share.wake(at(3199)));
        assert!(share.wake(at(3200)) && !share.wake(at(3200)));
        share.rest(at(0), at(10_000_000));
        assert_eq!(share.due(), Some(at(10_400_000)));
    }
}
