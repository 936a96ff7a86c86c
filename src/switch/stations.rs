//! The machines of the LAN that sent a frame lately: no guest may take their addresses.
//!
//! A port without a given address adopts the first one that its guest uses. A guest that uses the
//! gateway's would get its siblings' frames to the gateway, and none of them would leave. So the
//! workers note the sources of frames from the wire here, and ask when a guest uses a new address.
//!
//! The table costs the data path next to nothing. Only frames that reach a guest are inspected. Of
//! four full batches of them one source is noted, of a small batch all. A machine that sends at all
//! is noted soon; the default gateway is also looked up among the host's neighbours
//! (`host/neighbours.rs`).
//!
//! It is bounded: [`SETS`] sets of [`WAYS`] addresses. A flood of random sources on the LAN must
//! not push the real machines out. An address that was seen in two different seconds is therefore
//! confirmed, and gives way to no new one until it has been silent for [`CONFIRMED`]. Guests cannot
//! write here: their frames do not come from the wire, and the caller leaves out reflected frames,
//! whose source is a port's address.
//!
//! An address counts as taken for [`HOLD`] after it was last seen. A guest that moves here from
//! another host was on the wire until a moment ago, and is the same machine: it is let in when the
//! wire has been silent about it for so long. (With a given address it need not wait.)
//!
//! What can go wrong: a machine that has been silent is not known, and its address can be taken.
//! That is so in every learning switch. Where guests are not trusted they need given addresses.
//!
//! Workers write side by side without a lock. Two that note different addresses in one set at the
//! same moment may lose one of them, until it sends again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::net::mac::Mac;

const SETS: usize = 256;
const WAYS: usize = 4;

/// How long an address is another machine's after it was seen.
pub const HOLD: Duration = Duration::from_secs(10);
/// How long a confirmed address keeps its place without being seen.
const CONFIRMED: u64 = 600;

/// The low bits of a slot: one for "confirmed", and the second of the last frame.
const STAMP: u32 = 16;
const SECONDS: u64 = 0x7fff;

/// One slot: 48 bits of address, 15 of seconds, 1 for "confirmed". Zero is empty: no machine has
/// that address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct StationSlot(u64);

impl StationSlot {
    fn new(mac: Mac, seconds: u64, confirmed: bool) -> StationSlot {
        StationSlot(mac.to_u64() << STAMP | (seconds & SECONDS) << 1 | u64::from(confirmed))
    }

    fn mac(self) -> u64 {
        self.0 >> STAMP
    }

    fn is_confirmed(self) -> bool {
        self.0 & 1 != 0
    }

    /// Seconds since the last frame, as far as 15 bits tell: after nine hours it seems fresh again
    /// for a moment, which delays a guest by [`HOLD`] at most.
    fn age(self, now: u64) -> u64 {
        now.wrapping_sub(self.0 >> 1) & SECONDS
    }
}

/// The addresses that were seen on one parent's wire.
#[derive(Debug)]
pub struct Stations {
    slots: Box<[AtomicU64]>,
    start: Instant,
}

impl Default for Stations {
    fn default() -> Stations {
        let slots = (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect();
        Stations { slots, start: Instant::now() }
    }
}

impl Stations {
    fn seconds(&self, now: Instant) -> u64 {
        // Not from zero on, so that an early one is not taken for an old one.
        now.saturating_duration_since(self.start).as_secs()
    }

    /// The slots in which the address may be.
    fn set(&self, mac: Mac) -> &[AtomicU64] {
        // Fibonacci hashing: the high bits of the product depend on all of the address.
        let hash = mac.to_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SETS.trailing_zeros());
        let first = hash as usize * WAYS;
        self.slots.get(first..first + WAYS).unwrap_or_default()
    }

    /// Worker: a frame with this source has come from the wire.
    pub fn note(&self, mac: Mac, now: Instant) {
        if !mac.is_station() {
            return;
        }
        let (number, now) = (mac.to_u64(), self.seconds(now));
        let set = self.set(mac);
        let mut victim: Option<(&AtomicU64, (bool, u64))> = None;
        for cell in set {
            let slot = StationSlot(cell.load(Ordering::Relaxed));
            if slot.mac() == number {
                let age = slot.age(now);
                if age > 0 {
                    // Seen again in another second. A random source is not.
                    let confirmed = age <= CONFIRMED || slot.is_confirmed();
                    cell.store(StationSlot::new(mac, now, confirmed).0, Ordering::Relaxed);
                }
                return;
            }
            let age = if slot.mac() == 0 { u64::MAX } else { slot.age(now) };
            if slot.is_confirmed() && age <= CONFIRMED {
                continue;
            }
            // The oldest of those that may go, those without confirmation first.
            let rank = (!slot.is_confirmed(), age);
            if victim.is_none_or(|(_, best)| rank > best) {
                victim = Some((cell, rank));
            }
        }
        if let Some((cell, _)) = victim {
            cell.store(StationSlot::new(mac, now, false).0, Ordering::Relaxed);
        }
    }

    /// Whether the address was seen on the wire within `HOLD`.
    pub fn has_heard(&self, mac: Mac, now: Instant) -> bool {
        let (number, now) = (mac.to_u64(), self.seconds(now));
        // An empty slot looks like the zero address.
        mac.is_station()
            && self.set(mac).iter().any(|cell| {
                let slot = StationSlot(cell.load(Ordering::Relaxed));
                slot.mac() == number && slot.age(now) < HOLD.as_secs()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_is_taken_while_it_is_heard_and_a_little_longer() {
        let stations = Stations::default();
        let start = stations.start;
        assert!(!stations.has_heard(GATEWAY, start));
        stations.note(GATEWAY, start);
        assert!(stations.has_heard(GATEWAY, after(start, 9)));
        assert!(!stations.has_heard(GATEWAY, after(start, 10)));
        stations.note(GATEWAY, after(start, 12));
        assert!(stations.has_heard(GATEWAY, after(start, 12)));
    }

    #[test]
    fn groups_and_the_zero_address_are_no_machines() {
        let stations = Stations::default();
        for mac in [Mac::BROADCAST, Mac::default(), Mac([1, 0, 0x5e, 0, 0, 1])] {
            stations.note(mac, stations.start);
            assert!(!stations.has_heard(mac, stations.start), "{mac}");
        }
    }

    #[test]
    fn a_flood_of_random_sources_does_not_push_out_what_was_heard_twice() {
        let stations = Stations::default();
        let start = stations.start;
        stations.note(GATEWAY, start);
        stations.note(GATEWAY, after(start, 1));
        let mut random = 1u64;
        for n in 0..1_000_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            stations.note(Mac::from_u64(random >> 16 & !(1 << 40)), after(start, 1 + n / 200_000));
        }
        assert!(stations.has_heard(GATEWAY, after(start, 6)));
        assert_eq!(stations.slots.len(), 1024, "it is bounded");
    }

    #[test]
    fn a_full_set_of_confirmed_machines_gives_way_when_they_have_been_silent() {
        let stations = Stations::default();
        let start = stations.start;
        // Five addresses of one set.
        let set = stations.set(GATEWAY).as_ptr();
        let of_set = |n: &u64| stations.set(Mac::from_u64(*n)).as_ptr() == set;
        let macs: Vec<Mac> = (1..).filter(of_set).take(5).map(Mac::from_u64).collect();
        for mac in &macs[..4] {
            stations.note(*mac, start);
            stations.note(*mac, after(start, 2));
        }
        stations.note(macs[4], after(start, 3));
        assert!(!stations.has_heard(macs[4], after(start, 3)));
        stations.note(macs[4], after(start, 700));
        assert!(stations.has_heard(macs[4], after(start, 700)));
    }
}
