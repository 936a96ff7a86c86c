//! Frames of a guest: the multicast groups that it reports, and link control.

use vhost_user_macvtap::net::ethernet::EthernetHeader;
use vhost_user_macvtap::switch::{
    Groups, Membership, is_link_control, may_be_link_control, memberships, worth_a_look,
};

use crate::packets::{ethernet, ipv4, ipv6};

/// A report's groups are groups, bounded in number, and no cheap test denies what the full one
/// finds.
pub fn target(frame: &[u8]) {
    let groups = Groups::only();
    let mut count = 0;
    memberships(frame, |membership| {
        count += 1;
        match membership {
            Membership::Join(group) => {
                assert!(group.mac.is_group());
                groups.join(group);
                assert!(groups.wants(group.mac));
            }
            Membership::Leave(group) => {
                assert!(group.mac.is_group());
                groups.leave(group);
            }
        }
    });
    assert!(count <= 256, "{count} memberships of one frame");
    let Some((ethernet, behind)) = frame.split_first_chunk() else {
        assert_eq!(count, 0, "a report without an Ethernet header");
        return;
    };
    let head = EthernetHeader::of(ethernet);
    assert!(may_be_link_control(&head) || !is_link_control(&head, behind));
    // A report goes to a group. Reports to a station are not inspected, and need not be.
    if head.dst.is_group() && count > 0 && is_ip_multicast(&head) {
        assert!(worth_a_look(&head), "a report that is never looked at: {head:?}");
    }
}

fn is_ip_multicast(head: &EthernetHeader) -> bool {
    matches!(head.dst.0, [0x33, 0x33, ..] | [0x01, 0x00, 0x5e, ..])
}

/// A report of every version of IGMP and MLD, plain and behind tags, and a BPDU.
pub fn seeds() -> Vec<Vec<u8>> {
    let igmp = |body: &[u8]| ipv4(2, body);
    let mld = |body: &[u8]| {
        // Hop-by-hop options with the router alert (RFC 2711).
        ipv6(0, &[&[58, 0, 5, 2, 0, 0, 1, 0][..], body].concat())
    };
    let six = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 1, 2, 3];
    let report = [&[0x22, 0, 0, 0, 0, 0, 0, 2][..], &[4, 0, 0, 0, 239, 1, 2, 3]].concat();
    let report = [&report[..], &[3, 1, 0, 1, 239, 1, 2, 4, 10, 0, 0, 1, 9, 9, 9, 9]].concat();
    let report6 = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &six].concat();
    let mut seeds = Vec::new();
    for tags in [&[][..], &[0x8100], &[0x88a8], &[0x88a8, 0x8100]] {
        let to4 = [0x01, 0, 0x5e, 1, 2, 3];
        let to6 = [0x33, 0x33, 0xff, 1, 2, 3];
        for body in [
            &[0x12, 0, 0, 0, 239, 1, 2, 3][..],
            &[0x16, 0, 0, 0, 239, 1, 2, 3],
            &[0x17, 0, 0, 0, 239, 1, 2, 3],
            &report,
        ] {
            seeds.push(ethernet(to4, tags, 0x0800, &igmp(body)));
        }
        for kind in [131, 132] {
            let body = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &six].concat();
            seeds.push(ethernet(to6, tags, 0x86dd, &mld(&body)));
        }
        seeds.push(ethernet(to6, tags, 0x86dd, &mld(&report6)));
        let bridges = [0x01, 0x80, 0xc2, 0, 0, 0];
        seeds.push(ethernet(bridges, tags, 38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]));
    }
    seeds
}
