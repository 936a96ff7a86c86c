//! Headers as Linux sends them, and headers that lie.

use super::*;
use proptest::prelude::*;

const ALL: u64 = 1 << feature::VIRTIO_NET_F_CSUM
    | 1 << feature::VIRTIO_NET_F_HOST_TSO4
    | 1 << feature::VIRTIO_NET_F_HOST_TSO6
    | 1 << feature::VIRTIO_NET_F_HOST_ECN
    | 1 << feature::VIRTIO_NET_F_HOST_UFO
    | 1 << feature::VIRTIO_NET_F_HOST_USO;

fn header(flags: u8, gso: u8, hdr: u16, size: u16, start: u16, offset: u16) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = flags;
    bytes[1] = gso;
    for (at, value) in [(2, hdr), (4, size), (6, start), (8, offset), (10, 7)] {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[test]
fn takes_what_linux_sends() {
    let mut tso = header(1, VIRTIO_NET_HDR_GSO_TCPV4, 66, 1448, 34, 16);
    assert_eq!(check(&mut tso, 30_000, ALL), HeaderVerdict::Segmented);
    assert_eq!(tso, header(1, VIRTIO_NET_HDR_GSO_TCPV4, 66, 1448, 34, 16).map_at(10, 0));
    assert_eq!(check(&mut header(1, 0, 0, 0, 34, 6), 60, ALL), HeaderVerdict::Plain);
    assert_eq!(check(&mut header(0, 0, 0, 0, 0, 0), 60, 0), HeaderVerdict::Plain);
    let ecn = VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN;
    assert_eq!(check(&mut header(1, ecn, 86, 1428, 54, 16), 9000, ALL), HeaderVerdict::Segmented);
}

trait MapAt {
    fn map_at(self, at: usize, value: u8) -> Self;
}
impl MapAt for [u8; HEADER] {
    fn map_at(mut self, at: usize, value: u8) -> Self {
        self[at] = value;
        self
    }
}

#[test]
fn cve_2024_11614_checksum_beyond_the_frame() {
    for frame in [14usize, 59, 60, 1514] {
        for start in [0u16, 13, 14, 58, 1513, 65535] {
            for offset in [0u16, 16, 65535] {
                let fits = start >= 14 && usize::from(start) + usize::from(offset) + 2 <= frame;
                let verdict = check(&mut header(1, 0, 0, 0, start, offset), frame, ALL);
                assert_eq!(verdict == HeaderVerdict::Plain, fits, "{start}+{offset} in {frame}");
            }
        }
    }
}

#[test]
fn refuses_what_was_not_negotiated_or_has_no_size() {
    for (gso, number) in [
        (VIRTIO_NET_HDR_GSO_TCPV4, feature::VIRTIO_NET_F_HOST_TSO4),
        (VIRTIO_NET_HDR_GSO_TCPV6, feature::VIRTIO_NET_F_HOST_TSO6),
        (VIRTIO_NET_HDR_GSO_UDP, feature::VIRTIO_NET_F_HOST_UFO),
        (VIRTIO_NET_HDR_GSO_UDP_L4, feature::VIRTIO_NET_F_HOST_USO),
    ] {
        let make = |size| header(1, gso, 54, size, 34, 6);
        assert_eq!(check(&mut make(1000), 5000, ALL), HeaderVerdict::Segmented);
        assert_eq!(check(&mut make(1000), 5000, ALL & !(1 << number)), HeaderVerdict::Bad);
        assert_eq!(check(&mut make(0), 5000, ALL), HeaderVerdict::Bad);
    }
    for gso in (0..=255u8).filter(|g| ![0, 1, 3, 4, 5, 0x81, 0x83, 0x84].contains(g)) {
        assert_eq!(
            check(&mut header(1, gso, 54, 1000, 34, 6), 5000, ALL),
            HeaderVerdict::Bad,
            "{gso}"
        );
    }
}

proptest! {
    #[test]
    fn an_accepted_header_stays_inside_the_frame(
        bytes: [u8; HEADER], frame in 14usize..70_000, features: u64
    ) {
        let mut checked = bytes;
        if check(&mut checked, frame, features) != HeaderVerdict::Bad {
            let word = |at: usize| usize::from(u16::from_le_bytes([checked[at], checked[at + 1]]));
            prop_assert!(checked[0] & !VIRTIO_NET_HDR_F_NEEDS_CSUM == 0);
            if checked[0] != 0 {
                prop_assert!(word(6) + word(8) + 2 <= frame);
            }
            prop_assert!(word(2) <= frame);
            // What was checked once passes again unchanged: the copy is what counts.
            let mut again = checked;
            prop_assert!(check(&mut again, frame, features) != HeaderVerdict::Bad);
            prop_assert_eq!(again, checked);
        }
    }
}
