//! Single frames, alone or among other ports that flood, and the time that each takes to the other
//! end.
//!
//! The first guest sends a stamped frame to the last one a thousand times a second. The guests in
//! between flood or are silent. The probe reads the time before it offers a frame and when it sees
//! the frame. It looks at the last guest after every burst of a flooding one, so it does not
//! measure the generator's own round.
//!
//! What can go wrong: the thread that runs all guests may lose its processor. The figures then
//! contain that time as latency.

use std::time::{Duration, Instant};

use super::guest::Guest;
use super::traffic::Plan;

/// The pause between two probes.
const PERIOD: Duration = Duration::from_millis(1);

/// Times from the first guest to the last, in nanoseconds, while the guests in between flood by
/// `plan`, if there is one.
pub fn run(guests: &mut [Guest], plan: &Plan, flooding: bool) -> Vec<u32> {
    let start = Instant::now();
    let (warm, end) = (start + plan.time / 10, start + plan.time);
    let mut times = Vec::with_capacity(1 << 16);
    let mut next = start;
    let last = guests.len() - 1;
    loop {
        let now = Instant::now();
        if now >= end {
            return times;
        }
        if now >= next {
            next += PERIOD;
            if let Some(tx) = guests[0].pairs[0].tx.as_mut() {
                tx.reap();
                let stamp = start.elapsed().as_nanos() as u64;
                tx.send(1, stamp);
            }
        }
        look(&mut guests[last], start, warm, &mut times);
        for number in 1..last {
            let pair = &mut guests[number].pairs[0];
            pair.rx.drain(|_| ());
            if let Some(tx) = &mut pair.tx {
                tx.reap();
                if flooding && plan.window.saturating_sub(tx.out()) >= plan.burst {
                    tx.send(plan.burst, 0);
                    look(&mut guests[last], start, warm, &mut times);
                }
            }
        }
    }
}

fn look(guest: &mut Guest, start: Instant, warm: Instant, times: &mut Vec<u32>) {
    guest.pairs[0].rx.drain(|eyes| {
        let stamp = eyes.last_chunk::<10>().and_then(|bytes| bytes.first_chunk::<8>());
        let sent =
            start + Duration::from_nanos(stamp.map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        if sent >= warm {
            times.push(sent.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
        }
    });
}
