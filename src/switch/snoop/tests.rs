//! Reports as real stacks send them, and bytes that only look like some.

use proptest::prelude::*;

use super::*;
use crate::net::mac::Mac;

/// A membership, by the address of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    Join(Mac),
    Leave(Mac),
}
use Report::{Join, Leave};

const VLAN: u16 = 0x8100;

const ALL_ROUTERS_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 0x16];

fn told(frame: &[u8]) -> Vec<Report> {
    let mut told = Vec::new();
    memberships(frame, |membership| {
        told.push(match membership {
            Membership::Join(group) => Join(group.mac),
            Membership::Leave(group) => Leave(group.mac),
        });
    });
    told
}

fn ethernet(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = [ALL_ROUTERS_MAC, [2, 0, 0, 0, 0, 1]].concat();
    for tag in tags {
        frame.extend([tag.to_be_bytes(), [0, 5]].concat());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

/// IPv4 with the router alert option, as every IGMP message has it.
fn igmp(message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x46, 0xc0, 0, 24 + message.len() as u8, 0, 0, 0x40, 0, 1, 2, 0, 0];
    packet.extend([10, 0, 0, 1, 224, 0, 0, 22, 0x94, 4, 0, 0]);
    packet.extend(message);
    packet
}

/// IPv6 with a hop-by-hop header that holds the router alert.
fn mld(message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8 + message.len() as u8, 0, 1];
    packet.extend([0xfe; 32]);
    packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    packet.extend(message);
    packet
}

fn v4(last: u8) -> Mac {
    Mac([0x01, 0x00, 0x5e, 0x01, 0x02, last])
}

fn v6(last: u8) -> Mac {
    Mac([0x33, 0x33, 0xff, 0x12, 0x34, last])
}

fn v6_group(last: u8) -> [u8; 16] {
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, last]
}

#[test]
fn igmp_1_and_2() {
    // 239.129.2.3: the top bit of the second byte does not go into the MAC address.
    for (kind, want) in [(0x12, Join(v4(3))), (0x16, Join(v4(3))), (0x17, Leave(v4(3)))] {
        let frame = ethernet(&[], ethertype::IPV4, &igmp(&[kind, 0, 0, 0, 239, 0x81, 2, 3]));
        assert_eq!(told(&frame), [want]);
    }
    let query = ethernet(&[], ethertype::IPV4, &igmp(&[0x11, 0, 0, 0, 239, 1, 2, 3]));
    assert_eq!(told(&query), []);
    let no_group = ethernet(&[], ethertype::IPV4, &igmp(&[0x16, 0, 0, 0, 10, 1, 2, 3]));
    assert_eq!(told(&no_group), []);
}

#[test]
fn igmp_3_every_record_type() {
    let mut report = vec![0x22, 0, 0, 0, 0, 0, 0, 10];
    // (type, sources): IS_IN, IS_IN of none, IS_EX, TO_IN, TO_IN of none, TO_EX, ALLOW, ALLOW none,
    // BLOCK
    let records =
        [(1, 1), (1, 0), (2, 0), (3, 2), (3, 0), (4, 1), (5, 1), (5, 0), (6, 1), (9, 1u8)];
    for (n, (kind, sources)) in (0..).zip(records) {
        // One word of auxiliary data behind the sources, to be skipped.
        report.extend([kind, 1, 0, sources, 239, 1, 2, n]);
        report.extend(vec![10; 4 * usize::from(sources)]);
        report.extend([0xaa; 4]);
    }
    let want = [Join(v4(0)), Join(v4(2)), Join(v4(3)), Leave(v4(4)), Join(v4(5)), Join(v4(6))];
    assert_eq!(told(&ethernet(&[], ethertype::IPV4, &igmp(&report))), want);
    assert_eq!(told(&ethernet(&[VLAN], ethertype::IPV4, &igmp(&report))), want);
    // Behind several tags, the group that is left is not sure.
    let joins: Vec<_> = want.into_iter().filter(|told| matches!(told, Join(_))).collect();
    assert_eq!(told(&ethernet(&[ethertype::S_TAG, VLAN], ethertype::IPV4, &igmp(&report))), joins);
    assert_eq!(told(&ethernet(&[VLAN; 3], ethertype::IPV4, &igmp(&report))), joins);
}

#[test]
fn mld_1_and_2() {
    for (kind, want) in [(131, Join(v6(9))), (132, Leave(v6(9)))] {
        let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &v6_group(9)].concat();
        assert_eq!(told(&ethernet(&[], ethertype::IPV6, &mld(&message))), [want]);
    }
    let mut report = vec![143, 0, 0, 0, 0, 0, 0, 3];
    report.extend([&[4, 0, 0, 0][..], &v6_group(1)].concat());
    report.extend([&[3, 0, 0, 1][..], &v6_group(2), &[0xfd; 16]].concat());
    report.extend([&[3, 0, 0, 0][..], &v6_group(3)].concat());
    let frame = ethernet(&[VLAN], ethertype::IPV6, &mld(&report));
    assert_eq!(told(&frame), [Join(v6(1)), Join(v6(2)), Leave(v6(3))]);
}

#[test]
fn a_report_cut_off_tells_what_is_there() {
    let report = [0x22, 0, 0, 0, 0, 0, 0, 9, 4, 0, 0, 0, 239, 1, 2, 1, 4, 0, 0, 0, 239, 1];
    assert_eq!(told(&ethernet(&[], ethertype::IPV4, &igmp(&report))), [Join(v4(1))]);
    // Bytes behind the packet's end are padding.
    let mut packet = igmp(&report[..16]);
    packet.extend([4, 0, 0, 0, 239, 1, 2, 2]);
    assert_eq!(told(&ethernet(&[], ethertype::IPV4, &packet)), [Join(v4(1))]);
}

#[test]
fn fragments_are_not_read() {
    for (high, low) in [(0x20, 0), (0, 1), (0x3f, 0xff)] {
        let mut packet = igmp(&[0x16, 0, 0, 0, 239, 1, 2, 3]);
        (packet[6], packet[7]) = (high, low);
        assert_eq!(told(&ethernet(&[], ethertype::IPV4, &packet)), []);
    }
}

#[test]
fn no_more_records_than_the_limit() {
    let mut report = vec![0x22, 0, 0, 0, 0, 0, 0xff, 0xff];
    (0..5000).for_each(|_| report.extend([4, 0, 0, 0, 239, 1, 2, 3]));
    let mut packet = igmp(&[]);
    packet[2..4].copy_from_slice(&[0xff, 0xff]);
    packet.extend(report);
    assert_eq!(told(&ethernet(&[], ethertype::IPV4, &packet)).len(), RECORDS);
}

#[test]
fn a_look_is_worth_for_multicast_of_ip_only() {
    let head = EthernetHeader {
        dst: Mac(ALL_ROUTERS_MAC),
        src: Mac::default(),
        ethertype: ethertype::IPV4,
    };
    assert!(worth_a_look(&head));
    assert!(worth_a_look(&EthernetHeader { dst: v6(1), ethertype: VLAN, ..head }));
    assert!(!worth_a_look(&EthernetHeader { ethertype: 0x0806, ..head }));
    assert!(!worth_a_look(&EthernetHeader { dst: Mac::BROADCAST, ..head }));
    assert!(!worth_a_look(&EthernetHeader { dst: Mac([0x01, 0x80, 0xc2, 0, 0, 0]), ..head }));
}

proptest! {
    /// For any bytes: no panic, bounded, and only group addresses are reported.
    #[test]
    fn any_bytes_are_survived(
        tags in prop::collection::vec(prop::sample::select(vec![VLAN, ethertype::S_TAG]), 0..3),
        six in any::<bool>(),
        message in prop::collection::vec(any::<u8>(), 0..200),
        (changes, cut) in (prop::collection::vec((0usize..300, any::<u8>()), 0..6), 0usize..300),
        kind in prop::sample::select(vec![0x12u8, 0x16, 0x17, 0x22, 131, 132, 143]),
    ) {
        let message = [&[kind][..], &message].concat();
        let mut frame = match six {
            true => ethernet(&tags, ethertype::IPV6, &mld(&message)),
            false => ethernet(&tags, ethertype::IPV4, &igmp(&message)),
        };
        for (at, byte) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.truncate(cut);
        let told = told(&frame);
        prop_assert!(told.len() <= RECORDS);
        for membership in told {
            let (Join(mac) | Leave(mac)) = membership;
            prop_assert!(mac.is_group());
        }
    }
}
