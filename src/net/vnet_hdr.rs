//! The header in front of every frame: `virtio_net_hdr`, virtio 1.2, section 5.1.6.
//!
//! A header from a guest is an offer to the kernel: "complete this checksum", "segment this". The
//! kernel checks it once more when the frame is written to the tap, but what it lets pass may still
//! break a neighbour (DPDK's CVE-2022-2132 and CVE-2024-11614 are of this kind), so a header is first
//! held against the frame's length and against what was negotiated. The decision is pure; the caller
//! copies the header out of guest memory once and hands the checked copy to the kernel.

use crate::net::vlan::{MAX_TAGS, TAG};

/// Length of the header with VERSION_1 or MRG_RXBUF, in bytes.
pub const HEADER: usize = 12;
/// Length of the header of a legacy driver without mergeable buffers, in bytes.
pub const LEGACY_HEADER: usize = 10;
/// Length of an Ethernet header, in bytes: no frame is shorter.
pub const ETHERNET: usize = 14;
/// The largest frame with its header: 64 KiB behind an IPv6 header, Ethernet and VLAN tags around it.
pub const MAX_FRAME: usize = HEADER + ETHERNET + TAG * MAX_TAGS + 40 + 65535;

/// Where `num_buffers` stands in the header.
pub const NUM_BUFFERS: usize = 10;

pub(crate) const F_NEEDS_CSUM: u8 = 1;
pub(crate) const F_DATA_VALID: u8 = 2;
use crate::datapath::work_limit::SEGMENTS;

pub(crate) const GSO_NONE: u8 = 0;
pub(crate) const GSO_TCPV4: u8 = 1;
pub(crate) const GSO_UDP: u8 = 3;
pub(crate) const GSO_TCPV6: u8 = 4;
pub(crate) const GSO_UDP_L4: u8 = 5;
pub(crate) const GSO_ECN: u8 = 0x80;

/// Virtio feature bit numbers (virtio 1.2, sections 5.1.3 and 6).
pub mod bit {
    #![allow(missing_docs)]
    pub const CSUM: u32 = 0;
    pub const GUEST_CSUM: u32 = 1;
    pub const MTU: u32 = 3;
    pub const MAC: u32 = 5;
    pub const GUEST_TSO4: u32 = 7;
    pub const GUEST_TSO6: u32 = 8;
    pub const GUEST_ECN: u32 = 9;
    pub const GUEST_UFO: u32 = 10;
    pub const HOST_TSO4: u32 = 11;
    pub const HOST_TSO6: u32 = 12;
    pub const HOST_ECN: u32 = 13;
    pub const HOST_UFO: u32 = 14;
    pub const MRG_RXBUF: u32 = 15;
    pub const CTRL_VQ: u32 = 17;
    pub const GUEST_ANNOUNCE: u32 = 21;
    pub const MQ: u32 = 22;
    pub const INDIRECT_DESC: u32 = 28;
    pub const EVENT_IDX: u32 = 29;
    pub const PROTOCOL_FEATURES: u32 = 30;
    pub const VERSION_1: u32 = 32;
    pub const IN_ORDER: u32 = 35;
    pub const GUEST_USO4: u32 = 54;
    pub const GUEST_USO6: u32 = 55;
    pub const HOST_USO: u32 = 56;
}

/// Whether feature `number` is in `features`.
pub fn has(features: u64, number: u32) -> bool {
    features & (1 << number) != 0
}

/// Length of the header under the negotiated features, in bytes.
#[inline]
pub fn header_len(features: u64) -> usize {
    if has(features, bit::VERSION_1) || has(features, bit::MRG_RXBUF) {
        HEADER
    } else {
        LEGACY_HEADER
    }
}

/// The outcome of [`check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVerdict {
    /// Plain frame: the length limit of the port applies.
    Plain,
    /// Super-frame: the kernel cuts it to size.
    Segmented,
    /// The header cannot be right.
    Bad,
}

/// Whether a guest's header asks for nothing, as most do. Then nothing of it has a meaning.
#[inline]
pub fn asks_for_nothing(header: &[u8; HEADER]) -> bool {
    header[0] & F_NEEDS_CSUM == 0 && header[1] == GSO_NONE
}

/// Holds a guest's header against a frame of `frame` bytes (without the header) and against the
/// negotiated features. What has no meaning in this direction is cleared in place.
#[inline]
pub fn check(header: &mut [u8; HEADER], frame: usize, features: u64) -> HeaderVerdict {
    if asks_for_nothing(header) {
        *header = [0; HEADER];
        return HeaderVerdict::Plain;
    }
    if header[1] == GSO_UDP | GSO_ECN {
        header[1] = GSO_UDP;
    }
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (flags, gso) = (header[0] & F_NEEDS_CSUM, header[1]);
    let (hdr_len, gso_size, csum_start, csum_offset) = (word(2), word(4), word(6), word(8));
    if flags & F_NEEDS_CSUM != 0 {
        // In usize, so that two u16 cannot wrap.
        let end = usize::from(csum_start) + usize::from(csum_offset) + 2;
        if end > frame || usize::from(csum_start) < ETHERNET || !has(features, bit::CSUM) {
            return HeaderVerdict::Bad;
        }
    }
    let accepted = match gso & !GSO_ECN {
        GSO_NONE if gso == GSO_NONE => None,
        GSO_TCPV4 => Some(bit::HOST_TSO4),
        GSO_TCPV6 => Some(bit::HOST_TSO6),
        // With ECN it makes no sense, but the kernel takes it.
        GSO_UDP => Some(bit::HOST_UFO),
        GSO_UDP_L4 if gso & GSO_ECN == 0 => Some(bit::HOST_USO),
        _ => return HeaderVerdict::Bad,
    };
    let verdict = match accepted {
        None => HeaderVerdict::Plain,
        Some(number) => {
            let ecn = gso & GSO_ECN == 0 || has(features, bit::HOST_ECN);
            let many = frame > usize::from(gso_size) * SEGMENTS;
            if !has(features, number) || !ecn || many || usize::from(hdr_len) > frame {
                return HeaderVerdict::Bad;
            }
            HeaderVerdict::Segmented
        }
    };
    header[0] = flags;
    if flags == 0 {
        header[6..10].fill(0);
    }
    if verdict == HeaderVerdict::Plain {
        header[2..6].fill(0);
    }
    header[NUM_BUFFERS..].fill(0);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: u64 = 1 << bit::CSUM
        | 1 << bit::HOST_TSO4
        | 1 << bit::HOST_TSO6
        | 1 << bit::HOST_ECN
        | 1 << bit::HOST_UFO
        | 1 << bit::HOST_USO;

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
        let mut tso = header(1, GSO_TCPV4, 66, 1448, 34, 16);
        assert_eq!(check(&mut tso, 30_000, ALL), HeaderVerdict::Segmented);
        assert_eq!(tso, header(1, GSO_TCPV4, 66, 1448, 34, 16).map_at(10, 0));
        assert_eq!(check(&mut header(1, 0, 0, 0, 34, 6), 60, ALL), HeaderVerdict::Plain);
        assert_eq!(check(&mut header(0, 0, 0, 0, 0, 0), 60, 0), HeaderVerdict::Plain);
        let ecn = GSO_TCPV6 | GSO_ECN;
        assert_eq!(
            check(&mut header(1, ecn, 86, 1428, 54, 16), 9000, ALL),
            HeaderVerdict::Segmented
        );
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
                    assert_eq!(
                        verdict == HeaderVerdict::Plain,
                        fits,
                        "{start}+{offset} in {frame}"
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_what_was_not_negotiated_or_has_no_size() {
        for (gso, number) in [
            (GSO_TCPV4, bit::HOST_TSO4),
            (GSO_TCPV6, bit::HOST_TSO6),
            (GSO_UDP, bit::HOST_UFO),
            (GSO_UDP_L4, bit::HOST_USO),
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
                prop_assert!(checked[0] & !F_NEEDS_CSUM == 0);
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
}
