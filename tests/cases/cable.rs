//! Frames of the link itself: a guest receives them from the wire, and must not send them.
//!
//! PAUSE and spanning tree concern only the host and its switch: a guest that sends them stops the
//! host's switch port, or makes a guarded one shut down for all guests. A guest may send and
//! receive LLDP, EAPOL and LACP.

use testkit::frames::{self, Mac};
use testkit::rig::{ARRIVAL, fresh_tag};

use super::pair::{FAR, MACS, Pair, SILENCE, TYPES};

const BRIDGE: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];
const PROVIDER_BRIDGE: Mac = [0x01, 0x80, 0xc2, 0, 0, 8];
const PAUSE: Mac = [0x01, 0x80, 0xc2, 0, 0, 1];
const PVST: Mac = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd];
const NEAREST: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const BPDU: &[u8] = &[0x42, 0x42, 0x03, 0, 0, 2, 2, 0x3c, 0x80, 0];
const SNAP_BPDU: &[u8] = &[0xaa, 0xaa, 0x03, 0, 0, 0x0c, 0x01, 0x0b, 0, 0];

/// A frame with these tags, a type or length, a body that begins so, and a tag of its own at the
/// end.
fn frame(dst: Mac, src: Mac, tags: &[u16], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = [&dst[..], &src].concat();
    tags.iter().for_each(|tag| frame.extend([&tag.to_be_bytes()[..], &[0, 5]].concat()));
    frame.extend(kind.to_be_bytes());
    frame.extend(body);
    frame.resize(frame.len().max(60), 0);
    frame.extend(fresh_tag().to_be_bytes());
    frame
}

/// What may not leave: address, type or length, and what it begins with.
fn of_the_cable() -> Vec<(Mac, u16, &'static [u8])> {
    let mut all: Vec<(Mac, u16, &[u8])> = vec![
        (PAUSE, 0x8808, &[0, 1, 0xff, 0xff]),
        (PAUSE, 0x88b5, &[0]),
        (BRIDGE, 38, BPDU),
        (PROVIDER_BRIDGE, 38, BPDU),
        (BRIDGE, 0x88b5, &[0]),
        (PVST, 50, SNAP_BPDU),
    ];
    for dst in [FAR, MACS[1], frames::BROADCAST] {
        let any: [(u16, &[u8]); 3] = [(0x8808, &[1, 1, 0, 0]), (38, BPDU), (50, SNAP_BPDU)];
        all.extend(any.map(|(kind, body)| (dst, kind, body)));
    }
    all
}

const TAGS: [&[u16]; 4] = [&[], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100, 0x8100]];

/// Every one of the frames that a guest sends arrives at the far end, or at the sibling.
fn expect(pair: &mut Pair, sent: &[Vec<u8>], arrive: bool) {
    for frame in sent {
        pair.send(0, frame);
        let found = pair.wire_gets(|f| f == frame, if arrive { ARRIVAL } else { SILENCE / 10 });
        assert_eq!(found, arrive, "{:02x?}", &frame[..30]);
    }
    if !arrive {
        // In order: a frame that had to be seen would have come before this one.
        let last = frames::tagged(FAR, MACS[0], fresh_tag(), 60);
        pair.send(0, &last);
        let mut others = 0;
        assert!(pair.wire_gets(|f| f == last, ARRIVAL));
        while pair.guest_gets(1, |f| sent.iter().any(|frame| f == frame), SILENCE) {
            others += 1;
        }
        assert_eq!(others, 0, "to the sibling");
    }
}

/// A guest's PAUSE and BPDUs used to come out of the host's cable, also behind VLAN tags.
#[test]
fn bug_s10_pause_and_spanning_tree_do_not_leave_a_guest() {
    for kind in TYPES {
        let keys = format!("type={kind}");
        let mut pair = Pair::new(&[&keys, &keys], 1500);
        let mut sent = Vec::new();
        for tags in TAGS {
            let all = of_the_cable().into_iter();
            sent.extend(all.map(|(dst, kind, body)| frame(dst, MACS[0], tags, kind, body)));
        }
        expect(&mut pair, &sent, false);
        assert_eq!(pair.dropped(0, "link control"), sent.len() as u64, "{kind}: counted");
    }
}

/// The guard is not to cost a guest its LLDP, EAPOL, LACP, PTP or anything else.
#[test]
fn bug_s10_lldp_eapol_and_lacp_pass() {
    for kind in TYPES {
        let keys = format!("type={kind}");
        let mut pair = Pair::new(&[&keys, &keys], 1500);
        let slow = [0x01, 0x80, 0xc2, 0, 0, 2];
        let port = [0x01, 0x80, 0xc2, 0, 0, 3];
        let mut sent = Vec::new();
        for tags in TAGS {
            for (dst, kind) in [
                (NEAREST, 0x88cc),
                (port, 0x88cc),
                (BRIDGE, 0x88cc),
                (port, 0x888e),
                (slow, 0x8809),
                (NEAREST, 0x88f7),
                ([0x01, 0x80, 0xc2, 0, 0, 0x21], 0x88f5),
            ] {
                sent.push(frame(dst, MACS[0], tags, kind, &[2, 7, 4]));
            }
            sent.push(frame(FAR, MACS[0], tags, 38, &[0xf0, 0xf0, 3]));
        }
        expect(&mut pair, &sent, true);
        assert_eq!(pair.dropped(0, "link control"), 0, "{kind}");
    }
}

/// One guest that has the cable for itself, the kernel's own rules, and a user who turns the guard
/// off.
#[test]
fn bug_s10_passes_in_passthru_in_compat_and_where_the_guard_is_off() {
    for keys in [
        "type=macvtap,mode=passthru",
        "type=macvlan,mode=passthru",
        "type=macvlan,compat=on",
        "type=macvtap,guard=off",
        "type=macvlan,guard=off",
    ] {
        let mut pair = Pair::new(&[keys], 1500);
        let all = of_the_cable().into_iter().filter(|(dst, ..)| *dst != MACS[1]);
        let sent: Vec<_> =
            all.map(|(dst, kind, body)| frame(dst, MACS[0], &[], kind, body)).collect();
        expect(&mut pair, &sent, true);
    }
    let mut pair = Pair::new(&["type=macvlan,mode=passthru,guard=stp"], 1500);
    expect_alone(&mut pair);
}

/// A guard that was asked for holds in passthru mode, too.
fn expect_alone(pair: &mut Pair) {
    pair.send(0, &frame(BRIDGE, MACS[0], &[], 38, BPDU));
    assert!(!pair.wire_gets(|f| f.starts_with(&BRIDGE), SILENCE));
    assert_eq!(pair.dropped(0, "link control"), 1);
}

/// Everything to a reserved group but PAUSE, which no device passes on, as a kernel device with all
/// multicast.
fn from_the_cable() -> Vec<Vec<u8>> {
    let group = |last| [0x01, 0x80, 0xc2, 0, 0, last];
    let mut all: Vec<_> =
        (0..=0x0f).map(|last| frame(group(last), FAR, &[], 0x88b5, &[last])).collect();
    for (last, kind) in [(0x0e, 0x88cc), (0x0e, 0x88f7), (3, 0x888e), (2, 0x8809), (0, 38)] {
        all.push(frame(group(last), FAR, &[], kind, BPDU));
    }
    all.push(frame(NEAREST, FAR, &[0x8100], 0x88cc, &[2, 7, 4]));
    all
}

/// The default userspace port did not give its guest LLDP, 802.1AS, EAPOL, LACP and spanning tree
/// from the wire.
#[test]
fn bug_b3_reserved_groups_reach_a_guest_from_the_wire() {
    for kind in TYPES {
        for mode in ["bridge", "vepa", "private", "passthru"] {
            let keys = format!("type={kind},mode={mode}");
            let keys = [&keys[..], &keys];
            let mut pair = Pair::new(if mode == "passthru" { &keys[..1] } else { &keys }, 1500);
            for frame in from_the_cable() {
                pair.send_far(&frame);
                for port in 0..pair.guests.len() {
                    let found = pair.guest_gets(port, |f| f == frame, ARRIVAL);
                    assert!(found, "{kind} {mode}: {:02x?} to guest {port}", &frame[..20]);
                }
            }
        }
    }
}

/// The key that refuses them: the sibling still receives them, and both receive other groups.
#[test]
fn bug_b3_a_port_may_refuse_reserved_groups() {
    let refuses = "type=macvlan,reserved-groups=drop";
    let mut pair = Pair::new(&[refuses, "type=macvlan"], 1500);
    for frame in from_the_cable() {
        pair.send_far(&frame);
        assert!(pair.guest_gets(1, |f| f == frame, ARRIVAL));
    }
    let last = frame([0x01, 0x80, 0xc2, 0, 0, 0x21], FAR, &[], 0x88f5, &[0]);
    pair.send_far(&last);
    let reserved = |f: &[u8]| f.starts_with(&[0x01, 0x80, 0xc2, 0, 0]);
    assert!(pair.guest_gets(
        0,
        |f| {
            assert!(f == last || !reserved(f));
            f == last
        },
        ARRIVAL
    ));
}

/// Between siblings they are not flooded, as no bridge would; they leave for the wire.
#[test]
fn bug_b3_no_reserved_group_between_siblings() {
    let mut pair = Pair::new(&["type=macvlan", "type=macvlan"], 1500);
    let lldp = frame(NEAREST, MACS[0], &[], 0x88cc, &[2, 7, 4]);
    pair.send(0, &lldp);
    assert!(pair.wire_gets(|f| f == lldp, ARRIVAL));
    assert!(!pair.guest_gets(1, |f| f == lldp, SILENCE));
}
