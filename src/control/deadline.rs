//! When the control loop has to look again.
//!
//! Every part with later work returns the time of that work. The loop sleeps until the earliest
//! one. Pure: the caller brings the time.

use std::time::Instant;

/// The longest sleep, in milliseconds.
const LONGEST: u128 = 60_000;

/// The earlier of two times; none if there is none.
pub(crate) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// How long epoll may sleep until `next`, in milliseconds; -1 (no limit) without one. Rounded up,
/// so that the loop does not wake just before the time.
pub(crate) fn sleep_until(next: Option<Instant>, now: Instant) -> i32 {
    match next {
        Some(time) => (time.saturating_duration_since(now).as_millis() + 1).min(LONGEST) as i32,
        None => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_loop_sleeps_until_the_earliest_time() {
        let now = Instant::now();
        let later = Some(now + Duration::from_millis(20));
        let latest = Some(now + Duration::from_secs(3600));
        assert_eq!(sooner(None, None), None);
        assert_eq!(sooner(latest, later), later);
        assert_eq!(sooner(later, None), later);
        assert_eq!(sleep_until(None, now), -1);
        assert_eq!(sleep_until(later, now), 21);
        assert_eq!(sleep_until(Some(now), now + Duration::from_secs(1)), 1, "past");
        assert_eq!(sleep_until(latest, now), 60_000);
    }
}
