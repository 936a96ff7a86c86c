//! From a MAC address to a port, in a few nanoseconds.
//!
//! An open-addressing table of one 64-bit word per slot: 48 bits of address, 16 bits of port, 0 for
//! empty. It is built once and never changed, so it needs no deletion and no lock; at most half of
//! its slots are used, and 1000 ports fit into 16 KiB, which a first-level cache holds. A small
//! table has more free slots than that, so the few addresses of a few ports seldom meet.
//!
//! Users choose addresses, and so do guests, on ports that may adopt their guest's. A guest that
//! knew the hash function could pick addresses that all land in one place and make every lookup of
//! every port walk over them. So the function multiplies by a random number that no guest sees, and
//! a table whose longest walk is too long is built again with another one. The walk of a *missing*
//! address, which any machine on the LAN may choose, is as bounded as that of a present one: it
//! ends at the first empty slot, and the longest run of full slots is the limit.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::net::mac::Mac;
use crate::switch::port_id::PortId;

/// Slots of the smallest table: eight cache lines.
const LEAST: usize = 64;
/// A run of full slots that is good enough: four cache lines, walked in order.
const GOOD_RUN: usize = 32;
/// Tables tried before the best one is taken. With honest addresses the first is nearly always
/// good.
const TRIES: usize = 8;

/// A map from station addresses to ports, immutable.
#[derive(Clone, Debug)]
pub struct Lookup {
    slots: Box<[u64]>,
    multiplier: u64,
    /// The shift for the product's upper half: 64 less the logarithm of the number of slots.
    shift: u32,
}

impl Lookup {
    /// A table of these addresses. Those that are no station's are left out; of two equal addresses
    /// the first one counts.
    pub fn new(ports: &[(Mac, PortId)]) -> Lookup {
        let mut best = Lookup::build(ports, random());
        let mut run = best.longest_run();
        for _ in 1..TRIES {
            if run <= GOOD_RUN {
                break;
            }
            let next = Lookup::build(ports, random());
            let its = next.longest_run();
            if its < run {
                (best, run) = (next, its);
            }
        }
        best
    }

    /// The port with this address.
    #[inline]
    pub fn get(&self, mac: Mac) -> Option<PortId> {
        let key = mac.to_u64();
        // Ends at an empty slot, of which there is one at least.
        let mut at = self.home(key);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return None;
            }
            if slot >> 16 == key {
                return Some(slot as PortId);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn build(ports: &[(Mac, PortId)], multiplier: u64) -> Lookup {
        let size = ports.len().saturating_mul(2).next_power_of_two().max(LEAST);
        let shift = 64 - size.trailing_zeros();
        // Odd, or its lowest bits would be wasted.
        let multiplier = multiplier | 1;
        let mut lookup = Lookup { slots: vec![0; size].into(), multiplier, shift };
        for &(mac, port) in ports.iter().filter(|(mac, _)| mac.is_station()) {
            let key = mac.to_u64();
            let mut at = lookup.home(key);
            while let Some(slot) = lookup.slots.get_mut(at) {
                if *slot == 0 {
                    *slot = key << 16 | u64::from(port);
                    break;
                }
                if *slot >> 16 == key {
                    break;
                }
                at = (at + 1) & (size - 1);
            }
        }
        lookup
    }

    /// The first slot of the search for an address (multiply-shift: Dietzfelbinger and others,
    /// 1997; two addresses meet with a probability of at most two in the number of slots).
    #[inline]
    fn home(&self, key: u64) -> usize {
        (key.wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    /// The most full slots in a row.
    fn longest_run(&self) -> usize {
        let (mut longest, mut run) = (0, 0);
        // Twice around, for the run across the end.
        for &slot in self.slots.iter().chain(self.slots.iter()) {
            run = if slot == 0 { 0 } else { run + 1 };
            longest = run.max(longest);
        }
        longest
    }
}

/// A number that no guest can know. The standard library's keys are its only source without I/O.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn mac(number: u64) -> Mac {
        Mac::from_u64(0x0200_0000_0000 | number)
    }

    #[test]
    fn empty_finds_nothing() {
        let lookup = Lookup::new(&[]);
        assert_eq!(lookup.get(mac(0)), None);
        assert_eq!(lookup.get(Mac::default()), None);
    }

    #[test]
    fn groups_and_zero_are_left_out_and_the_first_of_two_counts() {
        let lookup = Lookup::new(&[
            (Mac::default(), 1),
            (Mac::BROADCAST, 2),
            (mac(7), 0),
            (mac(7), u16::MAX),
        ]);
        assert_eq!(lookup.get(Mac::default()), None);
        assert_eq!(lookup.get(Mac::BROADCAST), None);
        assert_eq!(lookup.get(mac(7)), Some(0));
    }

    /// Addresses that differ in high bits only, in low bits only, and by a stride of the table's
    /// size.
    #[test]
    fn regular_addresses_do_not_cluster() {
        for stride in [1u64, 2048, 4096, 1 << 20, 1 << 30] {
            let ports: Vec<_> = (0..1000).map(|i| (mac(i * stride), i as PortId)).collect();
            let lookup = Lookup::new(&ports);
            assert!(lookup.longest_run() <= 64, "stride {stride}: {}", lookup.longest_run());
            assert!(ports.iter().all(|&(mac, port)| lookup.get(mac) == Some(port)));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_hash_map(
            ports in prop::collection::vec((0u64..300, any::<u16>()), 0..200),
            asked in prop::collection::vec(0u64..300, 0..100),
        ) {
            let ports: Vec<_> = ports.into_iter().map(|(n, port)| (mac(n), port)).collect();
            let lookup = Lookup::new(&ports);
            let mut map = HashMap::new();
            for &(mac, port) in &ports {
                map.entry(mac).or_insert(port);
            }
            for n in asked {
                prop_assert_eq!(lookup.get(mac(n)), map.get(&mac(n)).copied());
            }
        }
    }
}
