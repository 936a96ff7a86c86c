//! The time to wake a thread on another processor and to be woken by it.
//!
//! A round trip with sleeping guests consists of this. A frame from guest to guest and back wakes
//! four times: back-end, guest, back-end, guest. Here two threads on the two processors do that
//! with eventfds alone: one writes and sleeps; the other wakes, writes and sleeps. Two of those
//! exchanges are a round trip.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use crate::{Result, host};

/// Times of four wakes in nanoseconds, repeated for this time.
///
/// # Errors
/// No eventfds, or only one processor.
pub fn four(time: Duration) -> Result<Vec<u32>> {
    let there = Arc::new(EventFd::new(0)?);
    let back = Arc::new(EventFd::new(0)?);
    let stop = Arc::new(AtomicBool::new(false));
    let (near, far, end) = (there.clone(), back.clone(), stop.clone());
    let echo = std::thread::spawn(move || {
        let _ = host::pin(host::BACKEND);
        while !end.load(Ordering::Relaxed) {
            wait(&near);
            if near.read().is_err() || far.write(1).is_err() {
                return;
            }
        }
    });
    let mut times = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = Instant::now();
        for _ in 0..2 {
            there.write(1)?;
            wait(&back);
            back.read()?;
        }
        times.push(sent.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
    }
    stop.store(true, Ordering::Relaxed);
    there.write(1)?;
    back.read()?;
    echo.join().map_err(|_| "the other thread panicked")?;
    Ok(times)
}

/// Waits as a worker does: in the kernel until the descriptor is readable, then reads it.
fn wait(event: &EventFd) {
    let mut fd = libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut fd, 1, -1) };
}
