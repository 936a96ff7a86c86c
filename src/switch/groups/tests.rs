//! Groups that are joined and left, by one worker or several.

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

/// The workers of a port with several queue pairs, each joining and leaving the groups in its
/// reports.
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

/// A guest that left a group on VLAN 10 lost it untagged, too; one that left one of two IPv4 groups
/// with one MAC address lost both.
#[test]
fn bug_b4_what_is_left_is_what_was_joined() {
    let (one, other) = (Group::v4(Some(0), [239, 1, 2, 3]), Group::v4(Some(10), [239, 1, 2, 3]));
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

/// Under a guest with IPv6 that was there before, its solicited-node groups were not received.
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
