//! How fast front-ends may connect to a port.
//!
//! A front-end that fails right after it has connected, and tries again at once, costs a
//! connection's set-up each time: QEMU 7.2 with more queues than the port has connected 2,000 times
//! a second. So the listener rests between two connections of a loop. A front-end that is
//! restarted, or a guest that reboots, must not notice it: the first [`BURST`] connections are
//! taken at once, and each second without a connection earns one back. Then the rest is
//! [`SHORTEST`], and grows with the age of the loop up to [`LONGEST`].
//!
//! The kernel keeps new connections in the listener's queue meanwhile: none is refused.

use std::time::{Duration, Instant};

/// Connections that are taken without a rest.
pub const BURST: u32 = 16;
/// Time without a connection that earns one back.
const EARN: Duration = Duration::from_secs(1);
/// The first rest of a loop.
pub const SHORTEST: Duration = Duration::from_millis(50);
/// The longest one.
pub const LONGEST: Duration = Duration::from_millis(250);
/// A loop of this many times a rest's length has that rest.
const GROWTH: u32 = 50;

/// The pace of one listener. Pure: the caller brings the time.
#[derive(Debug)]
pub struct Pace {
    left: u32,
    last: Option<Instant>,
    /// When the burst was used up.
    loop_since: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { left: BURST, last: None, loop_since: None }
    }
}

impl Pace {
    /// A connection was taken at `now`. Returns how long the listener is to rest, if at all.
    pub fn connected(&mut self, now: Instant) -> Option<Duration> {
        let gap = self.last.replace(now).map_or(EARN, |last| now.saturating_duration_since(last));
        let earned = u32::try_from(gap.as_nanos() / EARN.as_nanos()).unwrap_or(BURST);
        self.left = self.left.saturating_add(earned).min(BURST);
        if self.left == BURST {
            self.loop_since = None;
        }
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        let since = *self.loop_since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        Some((lasted / GROWTH).clamp(SHORTEST, LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many connections a front-end gets that comes again at once, in this time.
    fn loop_for(pace: &mut Pace, start: Instant, time: Duration) -> u32 {
        let (mut now, mut count) = (start, 0);
        while now < start + time {
            count += 1;
            now += pace.connected(now).unwrap_or(Duration::from_micros(500));
        }
        count
    }

    #[test]
    fn a_loop_gets_twenty_connections_a_second_and_then_four() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let first = loop_for(&mut pace, start, Duration::from_secs(1));
        assert!((34..=38).contains(&first), "{first}");
        loop_for(&mut pace, start + Duration::from_secs(1), Duration::from_secs(60));
        let minute = loop_for(&mut pace, start + Duration::from_secs(61), Duration::from_secs(60));
        assert!((239..=245).contains(&minute), "{minute}");
    }

    #[test]
    fn a_front_end_that_is_started_again_does_not_wait() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for n in 0..BURST {
            assert_eq!(pace.connected(start), None, "connection {n}");
        }
        assert_eq!(pace.connected(start), Some(SHORTEST));
        // One a second, as QEMU's reconnect=1, without an end.
        for second in 2..1000 {
            assert_eq!(pace.connected(start + Duration::from_secs(second)), None, "{second}");
        }
    }
}
