//! What the kernel puts in front of a received frame and beside it.
//!
//! Input: one byte of which bit 0 says that there is a tag beside, four bytes of tag, then the
//! header (ten bytes, in the host's byte order) and the frame.

use vhost_user_macvtap::net::vlan::{TAG, Tag};
use vhost_user_macvtap::net::vnet_hdr::{LEGACY_HEADER, VnetHeader};
use vhost_user_macvtap::uplink::packet::frame::{FrameRead, read};

use crate::input::Input;
use crate::packets::{ethernet, ipv4, ipv6, tcp, udp};

/// A frame comes out whole, its checksum inside it.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, tag) = (input.u8(), input.array());
    let tag = (kind & 1 != 0).then_some(Tag(tag));
    let mut place = input.rest().to_vec();
    let size = place.len();
    if let FrameRead::Frame(found) = read(&mut place, true, tag) {
        let tag = tag.map_or(0, |_| TAG);
        assert_eq!(found.len(), size - LEGACY_HEADER + tag);
        assert!(found.head.len() >= 14);
        let header = VnetHeader::from_le(&found.header);
        assert!(!header.needs_csum() || header.csum_end() <= found.len());
    }
}

/// Plain frames, super-frames and SCTP's checksum, with and without a tag.
pub fn seeds() -> Vec<Vec<u8>> {
    let dst = [2, 0, 0, 0, 0, 9];
    let mut seeds = Vec::new();
    for tag in [[0, 0, 0, 0, 0], [1, 0x81, 0, 0, 5], [1, 0x88, 0xa8, 0x60, 5]] {
        for (flags, gso, start, offset, frame) in [
            (0u8, 0u8, 0u16, 0u16, ethernet(dst, &[], 0x0800, &ipv4(17, &udp(40)))),
            (1, 0, 34, 6, ethernet(dst, &[], 0x0800, &ipv4(17, &udp(40)))),
            (1, 0, 34, 8, ethernet(dst, &[], 0x0800, &ipv4(132, &[7; 40]))),
            (1, 1, 34, 16, ethernet(dst, &[], 0x0800, &ipv4(6, &tcp(900)))),
            (1, 5, 54, 6, ethernet(dst, &[], 0x86dd, &ipv6(17, &udp(900)))),
        ] {
            let words = [54u16, 100, start, offset].map(u16::to_ne_bytes).concat();
            seeds.push([&tag[..], &[flags, gso], &words, &frame].concat());
        }
    }
    seeds
}
