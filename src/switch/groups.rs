//! The multicast groups that a port's guest has joined.
//!
//! Only ports with `compat=on` ask. They receive what a macvtap with the kernel's filter would
//! receive, but exactly, where the kernel hashes into 256 bits (`macvlan_compute_filter`). The
//! workers of a port add and remove groups as they see its guest's reports (`snoop.rs`); every
//! worker that floods reads. So the list is an array of atomics without a lock, and every access is
//! relaxed: it does no harm if a worker sees a group one frame later.
//!
//! A guest may join any number of groups. The array has room for 64, which is also where QEMU gives
//! up (`MAC_TABLE_ENTRIES`). The 65th makes the port receive every group, until it is cleared. Too
//! much is better than too little: a missing multicast is an error that is hard to find.
//!
//! A frame is judged by its MAC address, but 32 IPv4 groups share one (RFC 1112, section 6.4), and
//! a guest may join a group on several VLANs. So a place holds the joined group by IP address and
//! VLAN, and only the same may be left: the guest receives the union. If a report does not name its
//! group for sure (two tags), no group is left.
//!
//! A guest reports a group when it joins it. A guest that was there before this back-end started
//! has reported to the previous one, and reports again only when a querier asks. Its rings show
//! that: they do not begin at 0. Such a guest receives every group until its front-end disconnects.
//! A query of our own would be answered, but only on VLANs that are known here, and the guest would
//! take us for one of the LAN's queriers.

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
    /// The state after `clear`.
    always_all: bool,
}

impl Groups {
    /// Every group, joined or not.
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

    /// Adds a group; does nothing when it is there or is no group. When there is no room, every
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
            // The place may have been given to another group in between: then it is not ours to
            // free.
            let _ = place.compare_exchange(key, 0, Relaxed, Relaxed);
        }
    }

    /// Control: ring `ring` of the guest starts at this used index. If another back-end has used
    /// the ring before, the guest's groups are not known.
    pub fn ring_starts(&self, ring: usize, used: u16) {
        let bit = 1u64.checked_shl(ring as u32).unwrap_or(0);
        if self.started.fetch_or(bit, Relaxed) & bit == 0 && used != 0 {
            self.all.store(true, Relaxed);
        }
    }

    /// Forgets the guest's groups: its front-end has disconnected.
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
    /// The joined groups, or `all`, instead of 64 places.
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
