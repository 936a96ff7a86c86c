//! `--compat`: a port receives the groups that its guest has joined, on any VLAN, and loses none by
//! a restart.

use std::time::Duration;

use testkit::frames::{self, Mac};
use testkit::rig::{ARRIVAL, fresh_tag};
use testkit::vmm::QemuOptions;

use super::pair::{FAR, MACS, Pair, SILENCE};

const COMPAT: &str = "type=macvlan,compat=on";
/// 239.1.2.3, and the solicited-node group of an address that ends in 12:3456.
const V4: Mac = [0x01, 0x00, 0x5e, 1, 2, 3];
const V6: Mac = [0x33, 0x33, 0xff, 0x12, 0x34, 0x56];

/// A report of these bytes, with tags of these kinds and VLANs.
fn igmp(kind: u8, group: [u8; 4], tags: &[(u16, u16)]) -> Vec<u8> {
    let packet = frames::ipv4([192, 0, 2, 7], group, 2, &[&[kind, 0, 0, 0][..], &group].concat());
    tag(frames::ethernet(V4, MACS[0], frames::ETH_IPV4, &packet), tags)
}

fn mld(kind: u8, tags: &[(u16, u16)]) -> Vec<u8> {
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56];
    let body = [&[58, 0, 5, 2, 0, 0, 1, 0, kind, 0, 0, 0, 0, 0, 0, 0][..], &group].concat();
    let packet = frames::ipv6(frames::link_local(MACS[0]), group, 0, 1, &body);
    tag(frames::ethernet(V6, MACS[0], frames::ETH_IPV6, &packet), tags)
}

fn tag(frame: Vec<u8>, tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> =
        tags.iter().flat_map(|(kind, vid)| [*kind, *vid]).flat_map(u16::to_be_bytes).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// Whether the guest receives a group from the wire.
fn hears(pair: &mut Pair, group: Mac) -> bool {
    let (wanted, last) = (fresh_tag(), fresh_tag());
    pair.send_far(&frames::tagged(group, FAR, wanted, 60));
    pair.send_far(&frames::tagged(MACS[0], FAR, last, 60));
    let mut heard = false;
    let driver = &mut pair.guests[0].driver;
    while let Some(frame) = driver.recv(0, ARRIVAL) {
        match frames::tag_of(&frame.bytes) {
            Some(tag) if tag == wanted => heard = true,
            Some(tag) if tag == last => return heard,
            _ => {}
        }
    }
    panic!("the port is deaf");
}

/// Sends reports and waits until the back-end has seen them.
fn say(pair: &mut Pair, reports: &[Vec<u8>]) {
    for report in reports {
        pair.send(0, report);
        assert!(pair.wire_gets(|f| f == report, ARRIVAL));
    }
    // They are noted after they have been sent.
    std::thread::sleep(Duration::from_millis(20));
}

/// A group that was joined untagged and on a VLAN was lost for both when it was left on one of
/// them.
#[test]
fn bug_b4_a_group_left_on_one_vlan_is_heard_for_the_others() {
    let mut pair = Pair::new(&[COMPAT], 1500);
    let places: [&[(u16, u16)]; 4] = [&[], &[(0x8100, 10)], &[(0x8100, 11)], &[(0x88a8, 10)]];
    let group = [239, 1, 2, 3];
    assert!(!hears(&mut pair, V4) && !hears(&mut pair, V6), "nothing is joined");
    for place in places {
        say(&mut pair, &[igmp(0x16, group, place), mld(131, place)]);
    }
    for (left, place) in places.iter().enumerate() {
        assert!(hears(&mut pair, V4) && hears(&mut pair, V6), "{left} places are left");
        say(&mut pair, &[igmp(0x17, group, place), mld(132, place)]);
    }
    assert!(!hears(&mut pair, V4) && !hears(&mut pair, V6), "all are left");
    // 32 IPv4 groups have one MAC address: one that is left leaves the other.
    say(&mut pair, &[igmp(0x16, group, &[]), igmp(0x16, [224, 129, 2, 3], &[])]);
    say(&mut pair, &[igmp(0x17, [224, 129, 2, 3], &[])]);
    assert!(hears(&mut pair, V4), "its neighbour of the same address was left");
    // A priority is no VLAN; and a report behind two tags is not undone.
    say(&mut pair, &[igmp(0x17, group, &[(0x8100, 0x6000)])]);
    assert!(!hears(&mut pair, V4));
    let stacked = [(0x88a8, 3), (0x8100, 4)];
    say(&mut pair, &[igmp(0x16, group, &stacked), igmp(0x17, group, &stacked)]);
    assert!(hears(&mut pair, V4));
}

/// After a restart of the back-end under a guest, the guest did not receive its groups until a
/// querier asked: with IPv6 its neighbours could not find it.
#[test]
fn bug_b5_a_restarted_back_end_loses_no_group() {
    let options = QemuOptions::default();
    let mut pair = Pair::new(&[COMPAT], 1500);
    say(&mut pair, &[igmp(0x16, [239, 1, 2, 3], &[]), mld(131, &[(0x8100, 10)])]);
    let unjoined = [0x01, 0x00, 0x5e, 9, 9, 9];
    assert!(hears(&mut pair, V4) && hears(&mut pair, V6) && !hears(&mut pair, unjoined));
    pair.restart(&options);
    assert!(hears(&mut pair, V4) && hears(&mut pair, V6), "lost by the restart");
    // A report about one group says nothing of the others.
    say(&mut pair, &[igmp(0x16, [239, 7, 7, 7], &[]), igmp(0x17, [239, 7, 7, 7], &[])]);
    assert!(hears(&mut pair, V4) && hears(&mut pair, V6));
    // A guest that starts anew is believed again.
    pair.guests.clear();
    pair.backend.wait_caught_up();
    std::thread::sleep(SILENCE);
    pair.reconnect_fresh(&options);
    assert!(!hears(&mut pair, V4) && !hears(&mut pair, V6));
    say(&mut pair, &[mld(131, &[])]);
    assert!(hears(&mut pair, V6) && !hears(&mut pair, V4));
}
