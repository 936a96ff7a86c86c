//! What a frame's header asks for, held against what its receiver takes.
//!
//! This is the part that every frame goes through, so it looks at twelve bytes and no further. Two
//! kinds of header always go to the repair: one that makes no sense, to be refused, and one that asks
//! for segmentation without a checksum to complete, to be given one. Linux takes the latter as it is,
//! but not behind a VLAN tag (tests/offload/apart.rs); of other receivers nothing is known.
//!
//! USO may come without the UDP length, or with a wrong one ([`mark_length`]): no receiver takes that.
//!
//! What can go wrong: UDP segmentation does not say whether it is of IPv4 or IPv6, while a receiver
//! may take one of them. It then needs the look into the frame, which the repair takes.

use crate::net::vnet_hdr::{
    F_DATA_VALID, F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4,
    HEADER, NUM_BUFFERS, bit, has,
};
use crate::offload::packet::Version;

/// What a receiver takes undone.
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
    /// A USO frame without its UDP length, which nobody takes.
    const NO_LENGTH: Accepts = Accepts(128);

    /// What a guest takes by the features that it acknowledged. None of the others holds without
    /// GUEST_CSUM (virtio 1.2, section 5.1.3.1): a guest that breaks this rule gets finished frames.
    pub fn of_guest(features: u64) -> Accepts {
        if !has(features, bit::GUEST_CSUM) {
            return Accepts::NONE;
        }
        [
            (bit::GUEST_TSO4, Accepts::TSO4),
            (bit::GUEST_TSO6, Accepts::TSO6),
            (bit::GUEST_ECN, Accepts::ECN),
            (bit::GUEST_UFO, Accepts::UFO),
            (bit::GUEST_USO4, Accepts::USO4),
            (bit::GUEST_USO6, Accepts::USO6),
        ]
        .into_iter()
        .filter(|(number, _)| has(features, *number))
        .fold(Accepts::CSUM, |all, (_, one)| all.and(one))
    }

    /// The part of it that makes a difference to a frame with this header: [`repair()`](crate::offload::repair()) makes the same of
    /// it for two receivers that have this in common.
    pub fn distinguished(self, header: &[u8; HEADER]) -> Accepts {
        let csum = Accepts(self.0 & Accepts::CSUM.0);
        match Fields::of(header).wanted(None) {
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

/// The header's fields.
#[derive(Clone, Copy)]
pub(crate) struct Fields {
    pub flags: u8,
    pub gso: u8,
    pub size: u16,
    pub start: u16,
    pub offset: u16,
    /// [`mark_length`] has found the UDP length wrong.
    marked: bool,
}

impl Fields {
    pub fn of(header: &[u8; HEADER]) -> Fields {
        let [flags, gso, _, _, s0, s1, c0, c1, o0, o1, mark, _] = *header;
        Fields {
            flags,
            gso,
            size: u16::from_le_bytes([s0, s1]),
            start: u16::from_le_bytes([c0, c1]),
            offset: u16::from_le_bytes([o0, o1]),
            marked: mark != 0,
        }
    }

    /// A header that asks for a checksum and nothing else.
    pub fn checksum(start: u16, offset: u16) -> [u8; HEADER] {
        let ([a, b], [c, d]) = (start.to_le_bytes(), offset.to_le_bytes());
        [F_NEEDS_CSUM, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
    }

    pub fn partial(&self) -> bool {
        self.flags & F_NEEDS_CSUM != 0
    }

    /// What a receiver must take to get the frame uncut; None when the header makes no sense
    /// (include/linux/virtio_net.h, `__virtio_net_hdr_to_skb`). `version`: unknown on the hot path,
    /// where the header does not tell IPv4 from IPv6 for UDP.
    pub fn wanted(&self, version: Option<Version>) -> Option<Accepts> {
        // 0xffff means something else inside the kernel (GSO_BY_FRAGS), which therefore refuses it.
        if self.size == 0 || self.size == u16::MAX {
            return None;
        }
        let ecn = if self.gso & GSO_ECN != 0 { Accepts::ECN } else { Accepts::NONE };
        let kind = match self.gso & !GSO_ECN {
            GSO_TCPV4 => Accepts::TSO4,
            GSO_TCPV6 => Accepts::TSO6,
            GSO_UDP if ecn == Accepts::NONE => Accepts::UFO,
            GSO_UDP_L4 if ecn == Accepts::NONE && self.partial() => {
                let length = if self.marked { Accepts::NO_LENGTH } else { Accepts::NONE };
                length.and(match version {
                    None => Accepts::USO4.and(Accepts::USO6),
                    Some(Version::V4) => Accepts::USO4,
                    Some(Version::V6) => Accepts::USO6,
                })
            }
            _ => return None,
        };
        Some(Accepts::CSUM.and(kind).and(ecn))
    }
}

/// Notes in a header that the frame's UDP length is not that of its datagram, if it is to be cut by USO: the kernel
/// always cuts those before a guest gets them, and a guest would drop the whole. `length` is what stands in the frame,
/// `frame` bytes long, where the header says that UDP is. The note stands where `num_buffers` will, and never
/// leaves ([`pass`]).
#[inline]
pub fn mark_length(header: &mut [u8; HEADER], frame: usize, length: impl FnOnce(usize) -> [u8; 2]) {
    if header[1] == GSO_UDP_L4 {
        let start = usize::from(Fields::of(header).start);
        let true_length = frame.saturating_sub(start);
        let told = usize::from(u16::from_be_bytes(length(start.saturating_add(4))));
        header[NUM_BUFFERS] = u8::from(told != true_length);
    }
}

/// What must be done to a frame with this header for a receiver that takes `accepts`. Looks at the
/// header only: `Segments` may still turn out to be a single frame, or none.
#[inline]
pub fn need(header: &[u8; HEADER], accepts: Accepts) -> Need {
    let fields = Fields::of(header);
    if fields.gso == GSO_NONE {
        return if fields.partial() && !accepts.all_of(Accepts::CSUM) {
            Need::Checksum
        } else {
            Need::Nothing
        };
    }
    match fields.wanted(None) {
        Some(wanted) if fields.partial() && accepts.all_of(wanted) => Need::Nothing,
        _ => Need::Segments,
    }
}

/// The header as the receiver may see it when [`need()`] says `Nothing`. A checksum to complete and a
/// segmentation stay as they are, "data valid" goes to those who know checksums and have none to
/// complete; everything else becomes 0, also `num_buffers`, which whoever fills the buffers sets.
#[inline]
pub fn pass(header: &[u8; HEADER], accepts: Accepts) -> [u8; HEADER] {
    let (first, second) = pass_words(header, accepts);
    let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (first.to_le_bytes(), second.to_le_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// [`pass`] as two little-endian numbers, the first 8 bytes and the last 4: so that a header that goes into
/// a buffer at once never stands in memory on its way.
#[inline]
pub fn pass_words(header: &[u8; HEADER], accepts: Accepts) -> (u64, u32) {
    const FLAGS: u64 = 0xff;
    const GSO: u64 = 0xff00;
    const LENGTHS: u64 = 0xffff_ffff << 16;
    const START: u64 = 0xffff << 48;
    const OFFSET: u32 = 0xffff;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    let mut first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut second = u32::from_le_bytes([i, j, k, l]);
    if first & (FLAGS | GSO) == 0 || !accepts.all_of(Accepts::CSUM) {
        return (0, 0);
    }
    if first & u64::from(F_NEEDS_CSUM) != 0 {
        first = first & !FLAGS | u64::from(F_NEEDS_CSUM);
        second &= OFFSET;
    } else {
        first &= !FLAGS & !START | u64::from(F_DATA_VALID);
        second = 0;
    }
    if first & GSO == u64::from(GSO_NONE) << 8 {
        first &= !LENGTHS;
    }
    (first, second)
}
