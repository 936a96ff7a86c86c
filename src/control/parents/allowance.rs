//! How often a port may have its parent's table made anew.
//!
//! A new table is work for the control thread, and the filters that go with it are for the kernel:
//! in some modes a BPF program is loaded. A front-end that enables and disables a ring in a loop
//! asks for a hundred thousand a second. Each port therefore has an allowance: [`BURST`] at once,
//! more than some starts of a guest take, and then one each [`STEP`]. A change that has to wait is
//! not lost: the table is made when it is due, with the port as it is then. The changes of other
//! ports do not wait. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// Most tables at once.
const BURST: u32 = 32;
/// The time that one of them costs.
const STEP: Duration = Duration::from_millis(100);

/// The allowance of one port.
#[derive(Debug, Default)]
pub struct Allowance {
    /// The time when the whole debt is paid.
    paid: Option<Instant>,
}

impl Allowance {
    /// Takes one.
    ///
    /// # Errors
    /// There is none before this time.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let paid = self.paid.unwrap_or(now).max(now);
        let credit = STEP * (BURST - 1);
        if paid > now + credit {
            return Err(paid - credit);
        }
        self.paid = Some(paid + STEP);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_then_ten_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        let taken = (0..100_000u64)
            .filter(|n| allowance.take(start + Duration::from_micros(10 * n)).is_ok())
            .count();
        assert!((41..=42).contains(&taken), "{taken} in a second");
        let second = start + Duration::from_secs(1);
        let later = (0..50).find_map(|_| allowance.take(second).err()).unwrap();
        assert!(allowance.take(later).is_ok(), "when it says so");
        let rested = start + Duration::from_secs(5);
        assert_eq!((0..50).filter(|_| allowance.take(rested).is_ok()).count(), 32);
    }
}
