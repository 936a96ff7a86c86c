//! The multicast groups that a port's guest has joined.
//!
//! Only ports with `compat=on` ask: they hear what a macvtap with the kernel's filter would hear, only
//! exactly, where the kernel hashes into 256 bits (`macvlan_compute_filter`). The workers of a port add
//! and remove groups as they see its guest's reports (`snoop.rs`); every worker that floods reads. So
//! the list is an array of atomics, without a lock, and every access is relaxed: a group that is seen
//! one frame later is no harm.
//!
//! A guest may join any number of groups. The array has room for 64, which is also where QEMU gives up
//! (`MAC_TABLE_ENTRIES`); the 65th makes the port hear every group, until it is cleared. Rather too
//! much than too little: a multicast that is not heard is a fault that nobody finds.
//!
//! A frame is judged by its MAC address, but 32 IPv4 groups share one (RFC 1112, section 6.4), and a guest may join
//! a group on several VLANs. So a place holds what was joined, by IP address and VLAN, and only the same may be left:
//! the guest hears the union. Where a report does not say for sure which it was (two tags), nothing is left.
//!
//! A guest says what it joins when it joins it. One that was there before us (the back-end was restarted) has said it
//! to our predecessor, and says it again only when a querier asks. Its rings tell: they do not begin at 0. Such
//! a guest hears every group until its front-end goes. A query of our own would be answered, but only on VLANs that
//! we know, and would make us one of the LAN's queriers in the guest's eyes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::net::group::Group;
use crate::net::mac::Mac;

/// All IPv4 and all IPv6 hosts: the two groups that the kernel joins on every interface that is up.
const ALL_HOSTS: [Mac; 2] = [Mac([0x01, 0, 0x5e, 0, 0, 1]), Mac([0x33, 0x33, 0, 0, 0, 1])];

/// The groups a port takes; 0 marks a free place.
pub struct Groups {
    joined: [AtomicU64; 64],
    /// Bit n: ring n of the present front-end has run.
    started: AtomicU64,
    /// No place from here on was ever used since the last `clear`.
    used: AtomicUsize,
    all: AtomicBool,
    /// What `clear` returns to.
    always_all: bool,
}

impl Groups {
    /// Every group, whatever is joined or left.
    pub fn all() -> Groups {
        Groups::new(true)
    }

    /// Only those joined, besides broadcast and the all-hosts groups of IPv4 and IPv6.
    pub fn only() -> Groups {
        Groups::new(false)
    }

    fn new(all: bool) -> Groups {
        Groups {
            joined: [const { AtomicU64::new(0) }; 64],
            started: AtomicU64::new(0),
            used: AtomicUsize::new(0),
            all: AtomicBool::new(all),
            always_all: all,
        }
    }

    /// Adds a group; nothing happens when it is there or is no group. When there is no room, every
    /// group is taken from now on.
    pub fn join(&self, group: impl Into<Group>) {
        let Group { mac, key } = group.into();
        let known = |place: &AtomicU64| place.load(Relaxed) == key;
        let ours = mac.is_group() && mac != Mac::BROADCAST && !ALL_HOSTS.contains(&mac);
        if !ours || self.all.load(Relaxed) || self.joined.iter().any(known) {
            return;
        }
        for (at, place) in self.joined.iter().enumerate() {
            // Two workers may add one group at a time, in two places; `leave` removes both.
            if place.compare_exchange(0, key, Relaxed, Relaxed).is_ok() {
                self.used.fetch_max(at + 1, Relaxed);
                return;
            }
        }
        self.all.store(true, Relaxed);
    }

    /// Removes a group, if it is there.
    pub fn leave(&self, group: impl Into<Group>) {
        let Group { key, .. } = group.into();
        for place in &self.joined {
            // The place may have been given to another group in between: then it is not ours to free.
            let _ = place.compare_exchange(key, 0, Relaxed, Relaxed);
        }
    }

    /// Control: ring `ring` of the guest starts at this used index. What a guest joined that has used a ring before
    /// us, is not known.
    pub fn ring_starts(&self, ring: usize, used: u16) {
        let bit = 1u64.checked_shl(ring as u32).unwrap_or(0);
        if self.started.fetch_or(bit, Relaxed) & bit == 0 && used != 0 {
            self.all.store(true, Relaxed);
        }
    }

    /// Forgets what a guest has joined, because it has gone.
    pub fn clear(&self) {
        self.started.store(0, Relaxed);
        for place in &self.joined {
            place.store(0, Relaxed);
        }
        self.used.store(0, Relaxed);
        self.all.store(self.always_all, Relaxed);
    }

    /// Whether a frame to this group address is for the port.
    pub fn wants(&self, group: Mac) -> bool {
        if self.all.load(Relaxed) || group == Mac::BROADCAST || ALL_HOSTS.contains(&group) {
            return true;
        }
        let (wanted, mask) = Group::pattern(group);
        let mut places = self.joined.iter().take(self.used.load(Relaxed));
        places.any(|place| place.load(Relaxed) & mask == wanted)
    }
}

impl fmt::Debug for Groups {
    /// What is joined, or `all`, instead of 64 places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all.load(Relaxed) {
            return f.write_str("all");
        }
        let joined = self.joined.iter().map(|place| place.load(Relaxed)).filter(|&key| key != 0);
        f.debug_set().entries(joined.map(|key| format!("{key:x}"))).finish()
    }
}

#[cfg(test)]
mod tests;
