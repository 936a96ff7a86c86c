//! The address space that the guests of all ports share.
//!
//! A process has one address space, and the kernel allows it a number of mappings
//! (`vm.max_map_count`). Threads, buffers and every other port need both. A front-end can describe
//! a sparse file of many TiB, or many small regions, and would use up either. So the guests get
//! three quarters. Half of that is divided among the ports, so each port has a share of its own.
//! The other half is for ports that need more than their share, first come, first served. A port
//! that takes all it can get leaves every other port its share.
//!
//! An [`MappedAccount`] counts what one connection has mapped at this moment: old and new table are
//! there together while a front-end replaces the one by the other. `memory-limit` bounds one
//! connection's table, and is judged before anything is mapped
//! (`vhost_user/request_filter/memory.rs`).
//!
//! Specification: proc_sys_vm(5), "max_map_count"; the kernel's `mm/mmap.rst`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The kernel's own default of `vm.max_map_count`.
const USUAL_MAPS: u64 = 65530;

/// Each region is mapped by the vhost crate, which never touches it, and by us.
const COPIES: u64 = 2;

/// An amount of address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    bytes: u64,
    maps: u64,
}

impl Amount {
    fn plus(self, other: Amount) -> Amount {
        Amount {
            bytes: self.bytes.saturating_add(other.bytes),
            maps: self.maps.saturating_add(other.maps),
        }
    }

    fn minus(self, other: Amount) -> Amount {
        Amount {
            bytes: self.bytes.saturating_sub(other.bytes),
            maps: self.maps.saturating_sub(other.maps),
        }
    }

    fn holds(self, other: Amount) -> bool {
        other.bytes <= self.bytes && other.maps <= self.maps
    }
}

/// The address space of all guests together.
#[derive(Debug, PartialEq, Eq)]
struct MappedPool {
    /// Every account may have this much.
    share: Amount,
    /// The rest for accounts beyond their share.
    left: Amount,
}

impl MappedPool {
    /// Divides an address space of `bytes` bytes and `maps` mappings among that many ports.
    const fn new(bytes: u64, maps: u64, ports: u64) -> MappedPool {
        let ports = if ports == 0 { 1 } else { ports };
        let bytes = bytes / 4 * 3 / COPIES;
        let maps = maps / 4 * 3 / COPIES;
        MappedPool {
            share: Amount { bytes: bytes / 2 / ports, maps: maps / 2 / ports },
            left: Amount { bytes: bytes / 2, maps: maps / 2 },
        }
    }

    /// The part beyond its share of an account that has `used`.
    fn beyond(&self, used: Amount) -> Amount {
        used.minus(self.share)
    }

    /// Lets an account go from `before` to `after`, if there is enough.
    fn change(&mut self, before: Amount, after: Amount) -> bool {
        let there = self.left.plus(self.beyond(before));
        let needed = self.beyond(after);
        let enough = there.holds(needed);
        if enough {
            self.left = there.minus(needed);
        }
        enough
    }
}

/// 2^47 bytes: x86-64, and less than what most other machines have.
static POOL: Mutex<MappedPool> = Mutex::new(MappedPool::new(1 << 47, USUAL_MAPS, 1));

fn pool() -> MutexGuard<'static, MappedPool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Divides the process's address space among that many ports. Call it before the first of them
/// serves.
pub fn share_among(ports: usize) {
    let local = 0u8;
    // The stack and the libraries lie at the upper end of the address space that the machine gives
    // a process.
    let bytes = (&raw const local as u64).checked_next_power_of_two().unwrap_or(1 << 47);
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(USUAL_MAPS);
    *pool() = MappedPool::new(bytes, maps, ports as u64);
}

/// The process has no address space, or no mappings, left for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the process has no address space left for it beside the other ports' guests; lower \
             their memory-limit, raise vm.max_map_count, or serve some ports by another process",
        )
    }
}

impl std::error::Error for Full {}

/// The mappings of one connection.
#[derive(Debug, Default)]
pub struct MappedAccount {
    used: Mutex<Amount>,
    condemned: AtomicBool,
}

impl MappedAccount {
    /// Counts one mapping of `bytes` bytes, before it is made.
    ///
    /// # Errors
    /// Too little is left; nothing is counted.
    pub fn take(&self, bytes: u64) -> Result<(), Full> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.plus(Amount { bytes, maps: 1 });
        if self.condemned.load(Ordering::Relaxed) || !pool().change(*used, after) {
            return Err(Full);
        }
        *used = after;
        Ok(())
    }

    /// Counts one mapping of `bytes` bytes less, after it was removed.
    pub fn give_back(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.minus(Amount { bytes, maps: 1 });
        pool().change(*used, after);
        *used = after;
    }

    /// No more is taken from now on. True when that is new.
    pub fn condemn(&self) -> bool {
        !self.condemned.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_thousand_ports_on_a_plain_machine_have_room_for_plain_guests() {
        let pool = MappedPool::new(1 << 47, USUAL_MAPS, 1000);
        assert!(pool.share.bytes >= 20 * GIB, "{pool:?}");
        // QEMU's pc has two to four regions, twice while a table replaces another.
        assert!(pool.share.maps >= 8, "{pool:?}");
        assert!(pool.left.bytes >= 16 << 40, "a single large guest: {pool:?}");
    }

    /// Seen before: one front-end mapped 128 TiB of a sparse file, and no other could connect any
    /// more.
    #[test]
    fn bug_f7_a_greedy_account_leaves_every_other_its_share() {
        let mut pool = MappedPool::new(1 << 47, USUAL_MAPS, 4);
        let share = pool.share;
        let mut greedy = Amount::default();
        loop {
            let more = greedy.plus(Amount { bytes: 100 * GIB, maps: 1 });
            if !pool.change(greedy, more) {
                break;
            }
            greedy = more;
        }
        for _ in 0..3 {
            assert!(pool.change(Amount::default(), share));
            assert!(!pool.change(share, share.plus(Amount { bytes: 100 * GIB, maps: 1 })));
        }
        assert!(pool.change(greedy, Amount::default()));
        assert!(pool.change(share, share.plus(Amount { bytes: 100 * GIB, maps: 1 })));
    }

    proptest! {
        /// In any order of taking and giving back, the sum of all stays within the whole, and all
        /// is there again at the end.
        #[test]
        fn the_whole_is_never_exceeded(
            steps in prop::collection::vec((0usize..5, 0u64..2000, any::<bool>()), 0..200),
        ) {
            let mut pool = MappedPool::new(16_000, 400, 5);
            let whole = pool.share.bytes * 5 + pool.left.bytes;
            let start = pool.left;
            let mut used: [Vec<u64>; 5] = Default::default();
            let sum = |maps: &[u64]| Amount { bytes: maps.iter().sum(), maps: maps.len() as u64 };
            for (who, bytes, take) in steps {
                let before = sum(&used[who]);
                if take {
                    if pool.change(before, before.plus(Amount { bytes, maps: 1 })) {
                        used[who].push(bytes);
                    }
                } else if let Some(bytes) = used[who].pop() {
                    let less = pool.change(before, before.minus(Amount { bytes, maps: 1 }));
                    prop_assert!(less);
                }
                prop_assert!(used.iter().flatten().sum::<u64>() <= whole);
            }
            for maps in &used {
                prop_assert!(pool.change(sum(maps), Amount::default()));
            }
            prop_assert_eq!(pool.left, start);
        }
    }
}
