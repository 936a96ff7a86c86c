//! How fast a front-end may send requests.
//!
//! Each request costs its port's threads some time, and some cost other threads a little, such as a
//! new forwarding table for a ring that is enabled. A front-end that sends requests in a loop
//! therefore gets [`REQUESTS`] at once, more than any VMM sends at a start, and then
//! [`REQUESTS_A_SECOND`]. Further requests wait in the connection's socket: none is refused.

use std::time::{Duration, Instant};

/// Requests of a connection that are taken as fast as they come: more than any VMM sends at a
/// start.
pub const REQUESTS: u32 = 4096;
/// Requests that are taken in a second after that.
pub const REQUESTS_A_SECOND: u32 = 1000;
/// The rest of a connection that has used them up.
const REQUEST_REST: Duration = Duration::from_millis(20);

/// How many requests a connection may still send at once. Further requests wait in its socket.
#[derive(Debug)]
pub struct RequestPace {
    left: u32,
    since: Option<Instant>,
}

impl Default for RequestPace {
    fn default() -> RequestPace {
        RequestPace { left: REQUESTS, since: None }
    }
}

impl RequestPace {
    /// How long to rest before the next request is taken, if at all.
    pub fn rest(&mut self, now: Instant) -> Option<Duration> {
        if self.left > 0 {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed < REQUEST_REST {
            return Some(REQUEST_REST - passed);
        }
        let earned = passed.as_secs_f64() * f64::from(REQUESTS_A_SECOND);
        self.left = (earned as u32).min(REQUESTS);
        self.since = None;
        None
    }

    /// A request was taken.
    pub fn took(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_requests_is_taken_at_a_bounded_rate() {
        let start = Instant::now();
        let (mut pace, mut now, mut taken) = (RequestPace::default(), start, 0);
        while now < start + Duration::from_secs(10) {
            match pace.rest(now) {
                Some(rest) => now += rest,
                None => {
                    pace.took();
                    taken += 1;
                    now += Duration::from_micros(5);
                }
            }
        }
        assert!((4096..4096 + 10_500).contains(&taken), "{taken}");
        // A pause earns the whole again.
        assert_eq!(pace.rest(now + Duration::from_secs(60)), None);
        assert_eq!(pace.left, REQUESTS);
    }
}
