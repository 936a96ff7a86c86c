//! Link control: frames between the two ends of one cable, which a guest may not send.
//!
//! PAUSE and spanning tree concern one cable. A guest sits behind the host's cable, not at its end.
//! Its PAUSE stops the host's switch port, and its BPDU makes a switch port with BPDU guard shut
//! down, for the host and all its guests. So such frames are dropped, unless the port is the only
//! one (`passthru`) or behaves as the kernel's (`compat`); `guard=off` lets them pass.
//!
//! | frame | known by |
//! | --- | --- |
//! | PAUSE, per-priority PAUSE (IEEE 802.3, annex 31B and 31D) | type 0x8808, or the address 01:80:c2:00:00:01 |
//! | BPDU of a bridge, of a provider bridge (IEEE 802.1Q-2022, table 8-1) | 01:80:c2:00:00:00, 01:80:c2:00:00:08 |
//! | the same, to any address | LLC with both service access points 0x42 (IEEE 802.1D-2004, section 9.2) |
//! | PVST+ | 01:00:0c:cc:cc:cd, or SNAP with 00:00:0c and 0x010b |
//!
//! LLDP may use the bridge group's address, too (IEEE 802.1AB-2016, section 7.1). No switch
//! mistakes it for a BPDU, so it passes. So do EAPOL and the slow protocols (LACP). All of this
//! holds behind VLAN tags as well, because a switch with a trunk runs a tree for each VLAN.
//!
//! What can go wrong: addresses and outermost type are a private copy, and cannot change after they
//! were judged. The bytes behind them are read from the guest's memory, and the guest may change
//! them afterwards. It gains a frame to an address by which no switch would recognise a BPDU.

use crate::net::ethernet::EthernetHeader;
use crate::net::mac::Mac;
use crate::net::vlan::MAX_TAGS;
use crate::net::{ethertype, vlan};

/// Bytes that [`is_link_control`] reads behind a frame's first fourteen: the tags, a length or
/// type, LLC and SNAP.
pub const LOOK: usize = vlan::TAG * MAX_TAGS + 8;

const SPANNING_TREE: u8 = 0x42;
const PVST: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x01, 0x0b];

const BRIDGES: [Mac; 2] = [Mac([0x01, 0x80, 0xc2, 0, 0, 0]), Mac([0x01, 0x80, 0xc2, 0, 0, 8])];
const PAUSE: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 1]);
const PVST_BRIDGES: Mac = Mac([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]);

/// Whether a frame with this header may be link control: cheap, and false for nearly every frame to
/// a station.
#[inline]
pub fn may_be_link_control(head: &EthernetHeader) -> bool {
    // Every type of a tag, and MAC control, ends in 0x00, 0x08 or 0xa8. Of the usual types only
    // IPv4's does.
    let kind = head.ethertype;
    head.dst.is_group() || kind < ethertype::FIRST || (kind & 0x57 == 0 && kind != ethertype::IPV4)
}

/// Whether a frame is link control. `behind` is the bytes after its first fourteen. At most
/// [`LOOK`] bytes of it are read, and it may be cut off.
pub fn is_link_control(head: &EthernetHeader, behind: &[u8]) -> bool {
    if head.dst == PAUSE || head.dst == PVST_BRIDGES {
        return true;
    }
    let (inner, rest) = vlan::inner(head.ethertype, behind);
    match inner {
        ethertype::MAC_CONTROL => true,
        ethertype::LLDP => false,
        _ if BRIDGES.contains(&head.dst) => true,
        0..ethertype::FIRST => {
            rest.starts_with(&[SPANNING_TREE, SPANNING_TREE]) || rest.starts_with(&PVST)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATION: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const BRIDGE: [u8; 6] = BRIDGES[0].0;
    const LLC: &[u8] = &[0x42, 0x42, 0x03, 0, 0, 2, 2, 0x3c];

    /// A frame to `dst` with these tags, this type or length, and these bytes.
    fn caught(dst: [u8; 6], tags: &[u16], kind: u16, body: &[u8]) -> bool {
        let mut frame = [&dst[..], &[2, 0, 0, 0, 0, 1]].concat();
        tags.iter().for_each(|tag| frame.extend([&tag.to_be_bytes()[..], &[0, 5]].concat()));
        frame.extend(kind.to_be_bytes());
        frame.extend(body);
        let (first, behind) = frame.split_first_chunk().unwrap();
        let head = EthernetHeader::of(first);
        let caught = is_link_control(&head, behind);
        assert!(!caught || may_be_link_control(&head), "{head:?} is not looked at");
        caught
    }

    #[test]
    fn what_belongs_to_the_cable_is_caught_behind_any_tags() {
        let tags: [&[u16]; 5] = [&[], &[0x8100], &[0x88a8, 0x8100], &[0x9100; 3], &[0x8100; 16]];
        for tags in tags {
            for dst in BRIDGES.into_iter().chain([PAUSE, PVST_BRIDGES]) {
                assert!(caught(dst.0, tags, 38, LLC) && caught(dst.0, tags, 0x88b5, &[0; 46]));
            }
            for dst in [STATION, BRIDGE, PAUSE.0, Mac::BROADCAST.0] {
                assert!(
                    caught(dst, tags, ethertype::MAC_CONTROL, &[0, 1]),
                    "PAUSE to {dst:?} {tags:?}"
                );
                assert!(caught(dst, tags, 38, LLC), "a BPDU to {dst:?} {tags:?}");
                assert!(caught(dst, tags, 50, &PVST), "PVST+ to {dst:?} {tags:?}");
            }
        }
    }

    #[test]
    fn every_type_that_matters_is_looked_at() {
        for ethertype in 0..=u16::MAX {
            let matters = ethertype < ethertype::FIRST
                || ethertype == ethertype::MAC_CONTROL
                || vlan::is_tag(ethertype);
            let head = EthernetHeader { ethertype, dst: Mac(STATION), ..EthernetHeader::default() };
            assert!(!matters || may_be_link_control(&head), "{ethertype:#x}");
        }
    }

    #[test]
    fn everything_else_passes() {
        let nearest = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
            for (dst, kind) in [
                (nearest, ethertype::LLDP),
                ([0x01, 0x80, 0xc2, 0, 0, 3], ethertype::LLDP),
                (BRIDGE, ethertype::LLDP),
                ([0x01, 0x80, 0xc2, 0, 0, 3], 0x888e),
                ([0x01, 0x80, 0xc2, 0, 0, 2], 0x8809),
                (nearest, 0x88f7),
                (STATION, 0x0800),
                (Mac::BROADCAST.0, 0x0806),
                ([0x33, 0x33, 0, 0, 0, 1], 0x86dd),
                ([0x01, 0x00, 0x5e, 0, 0, 1], 0x0800),
            ] {
                assert!(!caught(dst, tags, kind, LLC), "{dst:?} {kind:#x} {tags:?}");
            }
            // LLC of another kind: NetBIOS, CDP.
            assert!(!caught(STATION, tags, 38, &[0xf0, 0xf0, 0x03]));
            let cdp = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00];
            assert!(!caught([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc], tags, 38, &cdp));
            assert!(!caught(STATION, tags, 38, &[]), "cut off");
        }
    }
}
