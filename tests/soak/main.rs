//! The hostile soak: one tenant does all the harm that it can, and fifteen others lose nothing.
//!
//! One process has sixteen ports, half of them macvtap and half of them userspace ports. Port 0
//! belongs to a party that means harm: guest and VMM at once. It does what stands in
//! `soak/deeds.rs`, in rounds of a random order, and connects again whenever it was cut off. The
//! other fifteen talk: each stream sends sixteen frames, waits until they have all arrived in their
//! order, and goes on. At the end the process must be alive, no frame lost, and descriptors,
//! threads, memory and log lines within the bounds below; SIGTERM must end it in time.
//!
//! `make soak` runs it for five minutes, `VUM_SOAK=seconds` sets the time; among the other tests it
//! takes half a minute. The seed is printed; `VUM_SEED` sets it, and with it the type of port 0 and
//! the order of deeds.
//!
//! What can go wrong with the test: a neighbour that is kept from the processor does not post
//! receive buffers, and frames for it are rightly dropped. So deeds send few broadcasts at a time,
//! and nothing else runs beside this test (.config/nextest.toml). A deed that fails in the hostile
//! party's own code is a deed done: what counts is what the back-end does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod connection;
mod deeds;
mod guest;
mod house;
mod memory;
mod party;
mod stream;

use std::time::{Duration, Instant, SystemTime};

use house::{House, Usage};
use party::Party;

/// Bounds on the hostile party's remains, beyond the process's use before.
const MORE_FDS: usize = 8;
const MORE_THREADS: usize = 2;
/// Memory of the process's own, in KiB: backlogs and lists of sixteen ports have room to grow to
/// their bounds.
const MORE_KIB: u64 = 32 << 10;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

#[test]
fn fifteen_neighbours_of_a_hostile_tenant_lose_nothing() {
    let time = Duration::from_secs(number("VUM_SOAK").unwrap_or(30));
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("VUM_SEED").unwrap_or(clock.as_nanos() as u64 | 1);
    println!("VUM_SEED={seed} VUM_SOAK={}", time.as_secs());

    let mut house = House::new(seed);
    let streams = house.neighbours();
    let mut party = Party::new(house.socket(0), house::mac(0), seed);
    let annoyance = house.annoy();
    // The use of a working process, before any harm: one connection of port 0 included.
    party.greet();
    let before = house.usage();
    let start = Instant::now();
    while start.elapsed() < time && house.alive() && streams.iter().all(|stream| stream.goes_on()) {
        party.deed();
    }
    println!("{party}");
    annoyance.stop();
    assert!(house.alive(), "the process has ended");
    // As before: all sixteen are connected. The listener may rest for a second after all that.
    party.leave();
    party.greet();
    let after = house.settled(|now| within(&before, now).is_ok());
    println!("before {before:?}\nafter {after:?}");
    for stream in streams {
        stream.stop();
    }
    within(&before, &after).unwrap();
    assert!(party.rounds() >= 1, "not even one round of deeds");
    let minutes = start.elapsed().as_secs() as usize / 60 + 1;
    house.check_log(minutes);
    house.ends_in_time();
}

/// Whether the process is as before, within the bounds of growth.
fn within(before: &Usage, after: &Usage) -> Result<(), String> {
    if after.fds > before.fds + MORE_FDS {
        return Err(format!("descriptors: {} and then {}", before.fds, after.fds));
    }
    if after.threads > before.threads + MORE_THREADS {
        return Err(format!("threads: {} and then {}", before.threads, after.threads));
    }
    if after.kib > before.kib + MORE_KIB {
        return Err(format!("memory: {} KiB and then {} KiB", before.kib, after.kib));
    }
    Ok(())
}
