//! One frame there and one back: round trips between two guests.
//!
//! One thread runs both guests. It sleeps while a frame is on its way, or polls, if the case says
//! so. With sleep, a round trip has four wakes: the back-end, the second guest, the back-end again,
//! the first guest. The two guests never have work at the same time, so one thread for both changes
//! nothing.
//!
//! What can go wrong: a call that never arrives. After a second without a frame the case gives up
//! the round trip.

use std::time::{Duration, Instant};

use super::guest::{Guest, Pair};
use crate::Result;

/// The time limit of a frame.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames before the first counted one, to learn neighbours and warm the caches.
const WARM: usize = 100;

/// Round trips in nanoseconds, repeated for this time.
///
/// # Errors
/// A frame did not arrive.
pub fn run(guests: &mut [Guest], time: Duration, sleeping: bool) -> Result<Vec<u32>> {
    let [first, second] = guests else { return Err("round trips need two guests".into()) };
    let (a, b) = (&mut first.pairs[0], &mut second.pairs[0]);
    let mut trips = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        let sent = Instant::now();
        leave(a)?;
        arrive(b, sleeping)?;
        leave(b)?;
        arrive(a, sleeping)?;
        count += 1;
        if count > WARM {
            trips.push(sent.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
        }
    }
    Ok(trips)
}

fn leave(pair: &mut Pair) -> Result<()> {
    let tx = pair.tx.as_mut().ok_or("a guest with nothing to send")?;
    tx.reap();
    if tx.send(1, 0) == 0 { Err("the transmit ring is full".into()) } else { Ok(()) }
}

fn arrive(pair: &mut Pair, sleeping: bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while pair.rx.drain(|_| ()) == 0 {
        if Instant::now() > end {
            return Err("a frame did not arrive within a second".into());
        }
        if sleeping {
            pair.rx.ring.calls_on(0);
            if pair.rx.ring.ready() == 0 {
                wait(pair.rx.ring.call_fd());
            }
            pair.rx.ring.calls();
        } else {
            std::hint::spin_loop();
        }
    }
    Ok(())
}

fn wait(fd: i32) {
    let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut fd, 1, 100) };
}
