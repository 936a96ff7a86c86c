//! VLAN tags on top of a full MTU: both types send the frames that a plain kernel macvtap sends.
//!
//! A kernel macvtap does not check the length of frames to the wire. To a sibling the kernel allows
//! four bytes more than the parent's MTU and an Ethernet header, so there two tags at full MTU need
//! a parent with a larger MTU; userspace ports do not.

use std::time::Duration;

use testkit::driver::VnetHdr;
use testkit::frames::{self, End, Mac};
use testkit::rig::{ARRIVAL, fresh_tag};

use super::pair::{FAR, MACS, Pair, SILENCE, TYPES};

const MTU: usize = 1500;

/// Every kind, equal ones, pairs of any two kinds, and depths beyond what the kernel looks at.
fn tags() -> Vec<Vec<u16>> {
    let kinds = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
    let mut all: Vec<Vec<u16>> = kinds.iter().map(|kind| vec![*kind]).collect();
    all.extend(kinds.iter().flat_map(|outer| kinds.map(|inner| vec![*outer, inner])));
    all.extend([3, 4, 7, 8, 9, 12, 16].map(|depth| vec![0x8100; depth]));
    all.push(vec![0x88a8, 0x88a8, 0x8100]);
    all.push(vec![0x9300, 0x9100, 0x88a8, 0x8100]);
    all
}

/// A frame with these tags and a payload of so many bytes.
fn tagged(dst: Mac, src: Mac, tags: &[u16], payload: usize) -> Vec<u8> {
    insert(&frames::tagged(dst, src, fresh_tag(), 14 + payload), tags)
}

fn insert(frame: &[u8], tags: &[u16]) -> Vec<u8> {
    let tags = (5u16..).zip(tags).flat_map(|(vid, kind)| [*kind, vid]).flat_map(u16::to_be_bytes);
    let tags: Vec<u8> = tags.collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// Two tags were dropped as `long frame` with both types; one of type 0x88a8 was `refused by the
/// kernel` from a userspace port, because a packet socket allows four bytes more for 0x8100 only.
#[test]
fn bug_b1_every_tag_at_full_mtu_leaves_for_the_wire() {
    for kind in TYPES {
        let mut pair = Pair::new(&[&format!("type={kind}")], MTU as u32);
        for tags in tags() {
            for dst in [FAR, frames::BROADCAST, [0x33, 0x33, 0, 0, 0, 0x16]] {
                let frame = tagged(dst, MACS[0], &tags, MTU);
                pair.send(0, &frame);
                let found = pair.wire_gets(|f| f == frame, ARRIVAL);
                assert!(found, "{kind}: {tags:x?} to {dst:02x?}");
            }
        }
        // Untagged, with the four bytes that are allowed without a check.
        let frame = tagged(FAR, MACS[0], &[], MTU + 4);
        pair.send(0, &frame);
        assert!(pair.wire_gets(|f| f == frame, ARRIVAL), "{kind}: 1518 bytes without a tag");
    }
}

/// The same to a sibling, which was a `long frame`, too.
#[test]
fn bug_b1_every_tag_at_full_mtu_reaches_a_sibling() {
    for (kind, parent) in [("macvlan", 1500), ("macvlan", 9000), ("macvtap", 9000)] {
        let keys = format!("type={kind},mtu={MTU}");
        let mut pair = Pair::new(&[&keys, &keys], parent);
        for tags in tags() {
            // The kernel measures a broadcast by the sibling's MTU.
            let groups: &[Mac] = if kind == "macvlan" { &[frames::BROADCAST] } else { &[] };
            for dst in [&[MACS[1]][..], groups].concat() {
                let frame = tagged(dst, MACS[0], &tags, MTU);
                pair.send(0, &frame);
                let found = pair.guest_gets(1, |f| f == frame, ARRIVAL);
                assert!(found, "{kind} on {parent}: {tags:x?} to {dst:02x?}");
            }
        }
    }
}

/// For frames from the wire only the parent's own driver checks the length.
#[test]
fn bug_b1_every_tag_at_full_mtu_comes_in_from_the_wire() {
    for kind in TYPES {
        let keys = format!("type={kind},mtu={MTU}");
        let mut pair = Pair::new(&[&keys, &keys], 9000);
        for tags in tags() {
            for dst in [MACS[0], frames::BROADCAST] {
                let frame = tagged(dst, FAR, &tags, MTU);
                pair.send_far(&frame);
                let found = pair.guest_gets(0, |f| f == frame, ARRIVAL);
                assert!(found, "{kind}: {tags:x?} to {dst:02x?}");
            }
        }
    }
}

/// A tag adds its own four bytes and no more; other headers add none.
#[test]
fn bug_b1_what_is_longer_than_its_tags_explain_is_dropped() {
    for kind in TYPES {
        let mut pair = Pair::new(&[&format!("type={kind}")], MTU as u32);
        let mut sent = vec![tagged(FAR, MACS[0], &[], MTU + 5)];
        sent.extend(tags().iter().map(|tags| tagged(FAR, MACS[0], tags, MTU + 1)));
        // A 17th tag is not looked at, and 0x8847 is a label, not a tag.
        sent.push(tagged(FAR, MACS[0], &[0x8100; 17], MTU));
        sent.push(tagged(FAR, MACS[0], &[0x8847, 0x8100], MTU));
        for frame in &sent {
            pair.send(0, frame);
        }
        let last = frames::tagged(FAR, MACS[0], fresh_tag(), 60);
        pair.send(0, &last);
        let found = pair.wire_gets(
            |f| {
                assert!(f.len() < 1500 || !sent.iter().any(|s| s == f));
                f == last
            },
            ARRIVAL,
        );
        assert!(found);
        assert_eq!(pair.dropped(0, "long frame"), sent.len() as u64, "{kind}");
    }
}

/// Long frames among others, many at a time: all of them arrive, in order.
#[test]
fn bug_b1_long_frames_keep_their_order_and_are_not_lost() {
    for kind in TYPES {
        let mut pair = Pair::new(&[&format!("type={kind}")], MTU as u32);
        let depths: [&[u16]; 4] = [&[], &[0x88a8, 0x8100], &[0x8100], &[0x88a8]];
        for _ in 0..10 {
            let sent: Vec<_> =
                (0..200).map(|n| tagged(FAR, MACS[0], depths[(n / 3) % 4], MTU - n % 2)).collect();
            pair.guests[0].driver.send(0, &sent);
            let mut next = 0;
            let all = pair.wire_gets(
                |f| {
                    if sent.get(next).is_some_and(|frame| f == frame) {
                        next += 1;
                    } else {
                        assert!(!sent.iter().any(|frame| f == frame), "{kind}: out of order");
                    }
                    next == sent.len()
                },
                ARRIVAL,
            );
            assert!(all, "{kind}: {next} of 200 arrived");
        }
    }
}

/// The parent's MTU changes under the guest: frames that fit now pass, longer ones are dropped.
#[test]
fn bug_b1_long_frames_follow_the_parents_mtu() {
    let mut pair = Pair::new(&["type=macvlan"], MTU as u32);
    for mtu in [4000, 1400, 9000] {
        pair.host.ip(&format!("link set p0 mtu {mtu}"));
        pair.backend.wait_for_log(&format!("MTU {mtu}"), ARRIVAL);
        pair.backend.wait_caught_up();
        let frame = tagged(FAR, MACS[0], &[0x88a8, 0x8100], mtu - 30);
        let full = tagged(FAR, MACS[0], &[0x88a8, 0x8100], mtu);
        pair.send(0, &frame);
        assert!(pair.wire_gets(|f| f == frame, ARRIVAL));
        pair.send(0, &full);
        let within = if mtu < 9000 { ARRIVAL } else { Duration::ZERO };
        // The far end's own MTU is 9000, and 18 bytes.
        assert_eq!(pair.wire_gets(|f| f == full, within), mtu < 9000, "{mtu}");
        let beyond = tagged(FAR, MACS[0], &[0x88a8, 0x8100], mtu + 1);
        pair.send(0, &beyond);
        assert!(!pair.wire_gets(|f| f == beyond, SILENCE));
    }
}

/// Super-frames pass behind the tags behind which the kernel can cut them: two kinds, seven at
/// most.
#[test]
fn bug_b1_segmentation_behind_tags_leaves_for_the_wire() {
    let end = |mac: Mac, last| End { mac, ip: [192, 0, 2, last], port: 7 };
    for kind in TYPES {
        let mut pair = Pair::new(&[&format!("type={kind}")], MTU as u32);
        let known = |tags: &Vec<u16>| {
            tags.len() < 8 && tags.iter().all(|tag| [0x8100, 0x88a8].contains(tag))
        };
        for tags in tags().into_iter().filter(known) {
            let data = vec![7; 20_000];
            let (header, frame) =
                frames::tcp4_gso(end(MACS[0], 1), end(FAR, 2), fresh_tag() as u32, 1400, &data);
            let shift = 4 * tags.len() as u16;
            let header = VnetHdr {
                hdr_len: header.hdr_len + shift,
                csum_start: header.csum_start + shift,
                ..header
            };
            let frame = insert(&frame, &tags);
            pair.send_with(0, &header, &frame);
            assert!(pair.wire_gets(|f| f == frame, ARRIVAL), "{kind}: {tags:x?}");
        }
    }
}
