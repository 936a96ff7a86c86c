//! What a frame's header asks for, compared with what its receiver accepts.
//!
//! Every frame goes through this file, so it looks at twelve bytes and no further. Two kinds of header
//! always go to the repair: one that makes no sense, to be refused, and one that asks for segmentation
//! without a checksum to complete, to be given one. Linux accepts the latter as it is, but not behind
//! a VLAN tag (tests/offload/apart.rs); what other receivers do is not known.
//!
//! USO may come without the UDP length, or with a wrong one ([`mark_length`]): no receiver accepts that.
//!
//! What can go wrong: UDP segmentation does not say whether it is of IPv4 or IPv6, while a receiver
//! may accept one of them only. The repair then looks into the frame.

use crate::net::feature;
use crate::net::feature::has;
use crate::net::ip::Version;
use crate::net::vnet_hdr;
use crate::net::vnet_hdr::{
    HEADER, NUM_BUFFERS, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_HDR_GSO_UDP_L4, VnetHeader,
};

/// What a receiver accepts undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts(u8);

impl Accepts {
    /// Finished frames only.
    pub const NONE: Accepts = Accepts(0);
    /// Everything that virtio 1.2 knows.
    pub const ALL: Accepts = Accepts(0x7f);

    pub(crate) const CSUM: Accepts = Accepts(1);
    const TSO4: Accepts = Accepts(2);
    const TSO6: Accepts = Accepts(4);
    const ECN: Accepts = Accepts(8);
    const UFO: Accepts = Accepts(16);
    const USO4: Accepts = Accepts(32);
    const USO6: Accepts = Accepts(64);
    /// A USO frame without its UDP length, which no receiver accepts.
    const NO_LENGTH: Accepts = Accepts(128);

    /// What a guest accepts, by the features that it acknowledged. None of the others holds without
    /// GUEST_CSUM (virtio 1.2, section 5.1.3.1): a guest that breaks this rule gets finished frames.
    pub fn of_guest(features: u64) -> Accepts {
        if !has(features, feature::VIRTIO_NET_F_GUEST_CSUM) {
            return Accepts::NONE;
        }
        [
            (feature::VIRTIO_NET_F_GUEST_TSO4, Accepts::TSO4),
            (feature::VIRTIO_NET_F_GUEST_TSO6, Accepts::TSO6),
            (feature::VIRTIO_NET_F_GUEST_ECN, Accepts::ECN),
            (feature::VIRTIO_NET_F_GUEST_UFO, Accepts::UFO),
            (feature::VIRTIO_NET_F_GUEST_USO4, Accepts::USO4),
            (feature::VIRTIO_NET_F_GUEST_USO6, Accepts::USO6),
        ]
        .into_iter()
        .filter(|(number, _)| has(features, *number))
        .fold(Accepts::CSUM, |all, (_, one)| all.and(one))
    }

    /// The part of it that makes a difference to a frame with this header. Two receivers that have this
    /// part in common get the same from [`repair()`](crate::offload::repair()).
    pub fn distinguished(self, header: &[u8; HEADER]) -> Accepts {
        let csum = Accepts(self.0 & Accepts::CSUM.0);
        match wanted(&VnetHeader::from_le(header), None) {
            // Of IPv4 and IPv6 one counts, and the header does not say which.
            Some(wanted) if wanted.all_of(Accepts::USO4) => Accepts(self.0 & wanted.0),
            Some(wanted) if self.all_of(wanted) => wanted,
            _ => csum,
        }
    }

    const fn and(self, other: Accepts) -> Accepts {
        Accepts(self.0 | other.0)
    }

    /// Whether all of `other` is taken.
    pub(crate) const fn all_of(self, other: Accepts) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What must be done to a frame before its receiver may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: [`pass`] says what its header becomes.
    Nothing,
    /// Its checksum is missing.
    Checksum,
    /// It is to be cut, or to be refused because its header makes no sense.
    Segments,
}

/// What a receiver must accept to get the frame uncut; `None` when the header makes no sense
/// (include/linux/virtio_net.h, `__virtio_net_hdr_to_skb`). `version`: unknown on the hot path, where the
/// header does not tell IPv4 from IPv6 for UDP.
#[inline]
pub(crate) fn wanted(header: &VnetHeader, version: Option<Version>) -> Option<Accepts> {
    // 0xffff means something else inside the kernel (GSO_BY_FRAGS), which therefore refuses it.
    if header.gso_size == 0 || header.gso_size == u16::MAX {
        return None;
    }
    let ecn = header.gso_type & VIRTIO_NET_HDR_GSO_ECN != 0;
    let kind = match header.gso_type & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_TCPV4 => Accepts::TSO4,
        VIRTIO_NET_HDR_GSO_TCPV6 => Accepts::TSO6,
        VIRTIO_NET_HDR_GSO_UDP if !ecn => Accepts::UFO,
        VIRTIO_NET_HDR_GSO_UDP_L4 if !ecn && header.needs_csum() => {
            // The note of `mark_length`.
            let marked = header.num_buffers != 0;
            let length = if marked { Accepts::NO_LENGTH } else { Accepts::NONE };
            length.and(match version {
                None => Accepts::USO4.and(Accepts::USO6),
                Some(Version::V4) => Accepts::USO4,
                Some(Version::V6) => Accepts::USO6,
            })
        }
        _ => return None,
    };
    let ecn = if ecn { Accepts::ECN } else { Accepts::NONE };
    Some(Accepts::CSUM.and(kind).and(ecn))
}

/// Notes in a header that the frame's UDP length is not that of its datagram, if it is to be cut by USO.
/// The kernel always cuts such frames before a guest gets them, and a guest would drop the whole. `length`
/// reads two bytes of the frame, which is `frame` bytes long, at a given place. The note stands where
/// `num_buffers` will, and never leaves ([`pass`]).
#[inline]
pub fn mark_length(header: &mut [u8; HEADER], frame: usize, length: impl FnOnce(usize) -> [u8; 2]) {
    let fields = VnetHeader::from_le(header);
    if fields.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4 {
        let start = usize::from(fields.csum_start);
        let true_length = frame.saturating_sub(start);
        let written = usize::from(u16::from_be_bytes(length(start.saturating_add(4))));
        header[NUM_BUFFERS] = u8::from(written != true_length);
    }
}

/// What must be done to a frame with this header for a receiver that takes `accepts`. Looks at the
/// header only: `Segments` may still turn out to be a single frame, or none.
#[inline]
pub fn need(header: &[u8; HEADER], accepts: Accepts) -> Need {
    let header = VnetHeader::from_le(header);
    if !header.is_gso() {
        return if header.needs_csum() && !accepts.all_of(Accepts::CSUM) {
            Need::Checksum
        } else {
            Need::Nothing
        };
    }
    match wanted(&header, None) {
        Some(wanted) if header.needs_csum() && accepts.all_of(wanted) => Need::Nothing,
        _ => Need::Segments,
    }
}

/// The header as the receiver may see it when [`need()`] says `Nothing`: see [`vnet_hdr::visible`].
#[inline]
pub fn pass(header: &[u8; HEADER], accepts: Accepts) -> [u8; HEADER] {
    let (first, second) = pass_words(header, accepts);
    let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (first.to_le_bytes(), second.to_le_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// [`pass`] as two little-endian numbers, the first 8 bytes and the last 4.
#[inline]
pub fn pass_words(header: &[u8; HEADER], accepts: Accepts) -> (u64, u32) {
    vnet_hdr::visible(header, accepts.all_of(Accepts::CSUM))
}
