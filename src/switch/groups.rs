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
mod tests {
    use super::*;

    fn group(number: u8) -> Mac {
        Mac([0x01, 0, 0x5e, 1, 2, number])
    }

    #[test]
    fn joined_is_wanted_until_left() {
        let groups = Groups::only();
        assert!(groups.wants(Mac::BROADCAST));
        assert!(ALL_HOSTS.iter().all(|&group| groups.wants(group)));
        assert!(!groups.wants(group(1)));
        groups.join(group(1));
        groups.join(group(2));
        groups.join(group(1));
        assert!(groups.wants(group(1)));
        groups.leave(group(1));
        assert!(!groups.wants(group(1)), "joined twice is left at once");
        assert!(groups.wants(group(2)));
        groups.clear();
        assert!(!groups.wants(group(2)));
    }

    #[test]
    fn the_all_hosts_groups_cannot_be_left() {
        let groups = Groups::only();
        groups.leave(ALL_HOSTS[0]);
        assert!(groups.wants(ALL_HOSTS[0]));
    }

    #[test]
    fn a_station_or_zero_is_no_group() {
        let groups = Groups::only();
        for mac in [Mac::default(), Mac([2, 0, 0, 0, 0, 1])] {
            groups.join(mac);
            assert!(!groups.wants(mac));
            groups.leave(mac);
        }
    }

    #[test]
    fn one_too_many_means_all_until_cleared() {
        let groups = Groups::only();
        (0..64).for_each(|n| groups.join(group(n)));
        assert!(!groups.wants(group(200)));
        groups.join(group(64));
        assert!(groups.wants(group(200)));
        groups.leave(group(64));
        assert!(groups.wants(group(200)), "nobody knows any more what is left");
        groups.clear();
        assert!(!groups.wants(group(200)));
    }

    #[test]
    fn a_free_place_is_used_again() {
        let groups = Groups::only();
        for n in 0..=255 {
            groups.join(group(n));
            assert!(groups.wants(group(n)));
            groups.leave(group(n));
        }
        assert!(!groups.wants(group(3)));
    }

    /// The workers of a port with several queue pairs, each joining and leaving what passes it.
    #[test]
    fn workers_side_by_side_lose_nothing() {
        let groups = Groups::only();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let groups = &groups;
                scope.spawn(move || {
                    for round in 0..2000 {
                        let own = group(worker * 10 + (round % 10) as u8);
                        groups.join(own);
                        assert!(groups.wants(own));
                        groups.leave(own);
                        assert!(!groups.wants(own));
                    }
                    (0..10).for_each(|n| groups.join(group(worker * 10 + n)));
                });
            }
        });
        assert!((0..40).all(|n| groups.wants(group(n))));
        assert!(!groups.wants(group(40)));
    }

    /// A guest that left a group on VLAN 10 lost it untagged, too; one that left one of two IPv4 groups with one
    /// MAC address lost both.
    #[test]
    fn bug_b4_what_is_left_is_what_was_joined() {
        let (one, other) =
            (Group::v4(Some(0), [239, 1, 2, 3]), Group::v4(Some(10), [239, 1, 2, 3]));
        let same_mac = Group::v4(Some(0), [224, 129, 2, 3]);
        let six = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56];
        let site = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56];
        let sixes = [Group::v6(Some(0), &six), Group::v6(Some(7), &six), Group::v6(Some(0), &site)];
        for all in [&[one, other, same_mac][..], &sixes] {
            let groups = Groups::only();
            all.iter().for_each(|group| groups.join(*group));
            for (left, group) in all.iter().enumerate() {
                assert!(groups.wants(group.mac), "{left} of {} left", all.len());
                groups.leave(*group);
                groups.leave(*group);
            }
            assert!(!groups.wants(one.mac) && !groups.wants(sixes[0].mac));
        }
        let groups = Groups::only();
        groups.join(Group::v4(None, [239, 1, 2, 3]));
        groups.leave(one);
        assert!(groups.wants(one.mac), "joined behind two tags");
    }

    /// Under a guest with IPv6 that was there before, its solicited-node groups were not heard.
    #[test]
    fn bug_b5_a_guest_from_before_hears_every_group() {
        let groups = Groups::only();
        groups.ring_starts(0, 0);
        groups.ring_starts(1, 0);
        // A stop and a start in between: nothing was missed.
        groups.ring_starts(1, 77);
        assert!(!groups.wants(group(1)));
        groups.clear();
        groups.ring_starts(0, 0);
        groups.ring_starts(1, 77);
        assert!(groups.wants(group(1)));
        groups.leave(group(1));
        assert!(groups.wants(group(1)));
        groups.clear();
        assert!(!groups.wants(group(1)));
    }

    #[test]
    fn all_stays_all() {
        let groups = Groups::all();
        groups.clear();
        assert!(groups.wants(group(9)));
    }
}
