//! A virtio-net header and a frame, both from a hostile guest, for any receiver.
//!
//! Input: eight bytes of features, twelve of header, then the frame.

use vhost_user_macvtap::net::vnet_hdr;
use vhost_user_macvtap::net::vnet_hdr::{HEADER, HeaderVerdict, MAX_SEGMENTS, VnetHeader};
use vhost_user_macvtap::offload::{Accepts, HEAD, Need, mark_length, need, pass, repair};

use crate::input::Input;
use crate::packets::{ethernet, ipv4, ipv6, tcp, udp};

/// A header that is accepted stays inside the frame; a frame that is repaired becomes a bounded
/// number of frames, none of which needs repair.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (features, header) = (input.u64(), input.array::<HEADER>());
    let frame = input.rest();
    let mut checked = header;
    if vnet_hdr::check(&mut checked, frame.len(), features) != HeaderVerdict::Bad {
        let fields = VnetHeader::from_le(&checked);
        assert!(!fields.needs_csum() || fields.csum_end() <= frame.len());
        assert!(usize::from(fields.hdr_len) <= frame.len());
        let again = checked;
        assert_ne!(vnet_hdr::check(&mut checked, frame.len(), features), HeaderVerdict::Bad);
        assert_eq!(again, checked, "a second check changed the header");
    }
    let mut marked = header;
    mark_length(&mut marked, frame.len(), |at| {
        frame.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
    });
    for header in [header, checked, marked] {
        for accepts in [Accepts::of_guest(features), Accepts::NONE, Accepts::ALL] {
            repaired(&header, frame, accepts, features);
        }
    }
}

fn repaired(header: &[u8; HEADER], frame: &[u8], accepts: Accepts, features: u64) {
    let (mut count, mut payload) = (0, 0);
    // The header of a USO frame does not say whether it is IPv4 or IPv6. For a receiver that
    // accepts only one of them, every such frame is inspected.
    let one_uso = features >> 54 & 1 != features >> 55 & 1;
    let emit = &mut |header: &[u8; HEADER], head: &[u8], body: &[u8]| {
        count += 1;
        payload += body.len();
        assert!(head.len() <= HEAD);
        if VnetHeader::from_le(header).gso_type != vnet_hdr::VIRTIO_NET_HDR_GSO_UDP_L4 || !one_uso {
            assert_eq!(need(header, accepts), Need::Nothing);
        }
        assert_eq!(pass(header, accepts), *header);
    };
    match repair(header, &mut frame.to_vec(), accepts, MAX_SEGMENTS, emit) {
        Ok(told) => {
            assert_eq!(told, count);
            assert!((1..=MAX_SEGMENTS).contains(&count));
            assert!(payload <= frame.len());
        }
        Err(_) => assert_eq!(count, 0, "emitted before it was refused"),
    }
}

/// TSO, USO, UFO and checksums alone, over IPv4 and IPv6, behind tags and extension headers.
pub fn seeds() -> Vec<Vec<u8>> {
    let dst = [2, 0, 0, 0, 0, 9];
    let mut seeds = Vec::new();
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
        let options = [&[17, 0][..], &[0; 6], &udp(900)].concat();
        for (gso, size, field, l4, frame) in [
            (1u8, 100u16, 16u16, 34, ethernet(dst, tags, 0x0800, &ipv4(6, &tcp(1000)))),
            (0x81, 100, 16, 34, ethernet(dst, tags, 0x0800, &ipv4(6, &tcp(1000)))),
            (4, 100, 16, 54, ethernet(dst, tags, 0x86dd, &ipv6(6, &tcp(1000)))),
            (3, 200, 6, 34, ethernet(dst, tags, 0x0800, &ipv4(17, &udp(900)))),
            (3, 200, 6, 62, ethernet(dst, tags, 0x86dd, &ipv6(60, &options))),
            (5, 200, 6, 34, ethernet(dst, tags, 0x0800, &ipv4(17, &udp(900)))),
            (5, 200, 6, 54, ethernet(dst, tags, 0x86dd, &ipv6(17, &udp(900)))),
            (0, 0, 6, 34, ethernet(dst, tags, 0x0800, &ipv4(17, &udp(90)))),
        ] {
            let fields = VnetHeader {
                gso_type: gso,
                gso_size: size,
                ..VnetHeader::checksum(l4 + 4 * tags.len() as u16, field)
            };
            for features in [0, 1 << 1 | 1 << 7, u64::MAX] {
                seeds.push([&u64::to_le_bytes(features)[..], &fields.to_le(), &frame].concat());
            }
        }
    }
    seeds
}
