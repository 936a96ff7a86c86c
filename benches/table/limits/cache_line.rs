//! The round trip of a cache line between the processors of generator and back-end.
//!
//! All traffic between two processors consists of such round trips. On a virtual machine the two
//! may be neighbours or on different sockets, and the guest cannot see which. So the table measures
//! it beside each case. The figure also shows if another machine shares a processor with us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::figures::percentile;
use crate::{Result, host};

/// The time of the measurement.
const TIME: Duration = Duration::from_millis(20);

/// The median in nanoseconds.
///
/// # Errors
/// The other thread failed.
pub fn there_and_back() -> Result<u32> {
    let (there, back) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let (near, far, end) = (there.clone(), back.clone(), stop.clone());
    let echo = std::thread::spawn(move || {
        let _ = host::pin(host::BACKEND);
        while !end.load(Ordering::Relaxed) {
            far.store(near.load(Ordering::Acquire), Ordering::Release);
        }
    });
    let mut times = Vec::with_capacity(1 << 17);
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < TIME {
        number += 1;
        let sent = Instant::now();
        there.store(number, Ordering::Release);
        while back.load(Ordering::Acquire) != number {
            std::hint::spin_loop();
        }
        times.push(sent.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
    }
    stop.store(true, Ordering::Relaxed);
    echo.join().map_err(|_| "the other thread panicked")?;
    percentile(&mut times, 0.5).ok_or_else(|| "no time to measure".into())
}
