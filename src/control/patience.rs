//! How often a device is put right before it is left alone.
//!
//! Two programs that each set a device as they like it keep the kernel busy and fill the logs, and
//! neither wins. So a device is put right at most [`REPAIRS`] times in a [`WINDOW`]; after that it
//! is left as it is for a [`REST`], which is reported once. Then the next [`REPAIRS`] are due: by
//! then the operator has perhaps told the network manager to leave the device alone. Pure: the
//! caller brings the time.

use std::time::{Duration, Instant};

/// Most repairs in a [`WINDOW`].
pub const REPAIRS: usize = 5;
/// The time in which repairs are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long a device is left alone after that.
pub const REST: Duration = Duration::from_secs(600);

/// The decision about a device that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairVerdict {
    /// Put it right.
    PutRight,
    /// Leave it alone from now on, and report it.
    GiveUp,
    /// It is being left alone.
    LeaveAlone,
}

/// The repairs of one device.
#[derive(Debug, Default)]
pub struct Patience {
    /// When the last repairs were made; the oldest first.
    repairs: Vec<Instant>,
    rests_until: Option<Instant>,
}

impl Patience {
    /// A device that differs is to be judged at `now`.
    pub fn judge(&mut self, now: Instant) -> RepairVerdict {
        if self.rests_until.is_some_and(|until| now < until) {
            return RepairVerdict::LeaveAlone;
        }
        self.rests_until = None;
        self.repairs.retain(|repair| now.saturating_duration_since(*repair) < WINDOW);
        if self.repairs.len() < REPAIRS {
            self.repairs.push(now);
            return RepairVerdict::PutRight;
        }
        self.repairs.clear();
        self.rests_until = Some(now + REST);
        RepairVerdict::GiveUp
    }

    /// When a device that is left alone is to be looked at again.
    pub fn due(&self) -> Option<Instant> {
        self.rests_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_repairs_a_minute_and_then_ten_minutes_of_peace() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut judged = |after| patience.judge(start + Duration::from_secs(after));
        for second in 0..5 {
            assert_eq!(judged(second), RepairVerdict::PutRight);
        }
        assert_eq!(judged(5), RepairVerdict::GiveUp);
        assert_eq!(judged(6), RepairVerdict::LeaveAlone);
        assert_eq!(judged(604), RepairVerdict::LeaveAlone);
        assert_eq!(judged(605), RepairVerdict::PutRight);
    }

    #[test]
    fn a_change_now_and_then_is_put_right_for_years() {
        let start = Instant::now();
        let mut patience = Patience::default();
        for n in 0..100 {
            let now = start + Duration::from_secs(13 * n);
            assert_eq!(patience.judge(now), RepairVerdict::PutRight, "{n}");
            assert!(patience.repairs.len() <= REPAIRS);
        }
    }
}
