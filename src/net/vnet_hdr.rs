//! The header in front of every frame: `virtio_net_hdr`, virtio 1.2, section 5.1.6.
//!
//! All that is known of the header's layout stands here. [`VnetHeader`] has its fields as numbers;
//! [`check`] judges a header that a guest has sent; [`visible`] clears what its receiver has no use for.
//!
//! A header from a guest is an offer to the kernel: "complete this checksum", "segment this". The
//! kernel checks it once more when the frame is written to the tap, but what it accepts may still
//! break a neighbour (DPDK's CVE-2022-2132 and CVE-2024-11614 are of this kind). So a header is first
//! compared with the frame's length and with the negotiated features. The decision is pure: the caller
//! copies the header out of guest memory once and hands the checked copy to the kernel.

use virtio_bindings::virtio_net as bindings;

use crate::net::ethernet::ETHERNET;
use crate::net::feature;
use crate::net::feature::has;
use crate::net::ip::IPV6_HEADER;
use crate::net::vlan::{MAX_TAGS, TAG};

/// Length of the header with VERSION_1 or MRG_RXBUF, in bytes.
pub const HEADER: usize = 12;
/// Length of the header of a legacy driver without mergeable buffers, in bytes; also of the one that a
/// packet socket or a tap puts in front.
pub const LEGACY_HEADER: usize = 10;
/// The largest frame with its header: 64 KiB behind an IPv6 header, Ethernet and VLAN tags around it.
pub const MAX_FRAME: usize = HEADER + ETHERNET + TAG * MAX_TAGS + IPV6_HEADER + 65535;

/// Most segments that one frame may be cut into: 64 KiB in pieces of 32 bytes, below any sender's least
/// segment (Linux: 48 bytes, `net.ipv4.tcp_min_snd_mss`). The kernel's own bound for USO is 128.
pub const MAX_SEGMENTS: usize = 2048;

/// Where `num_buffers` stands in the header.
pub const NUM_BUFFERS: usize = 10;

// The specification's names, in the width that the header has for them.
/// Flag: the checksum is to be completed.
pub const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = bindings::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
/// Flag: the checksum was verified.
pub const VIRTIO_NET_HDR_F_DATA_VALID: u8 = bindings::VIRTIO_NET_HDR_F_DATA_VALID as u8;
/// No segmentation.
pub const VIRTIO_NET_HDR_GSO_NONE: u8 = bindings::VIRTIO_NET_HDR_GSO_NONE as u8;
/// TCP over IPv4 (TSO).
pub const VIRTIO_NET_HDR_GSO_TCPV4: u8 = bindings::VIRTIO_NET_HDR_GSO_TCPV4 as u8;
/// One UDP datagram in IP fragments (UFO).
pub const VIRTIO_NET_HDR_GSO_UDP: u8 = bindings::VIRTIO_NET_HDR_GSO_UDP as u8;
/// TCP over IPv6 (TSO).
pub const VIRTIO_NET_HDR_GSO_TCPV6: u8 = bindings::VIRTIO_NET_HDR_GSO_TCPV6 as u8;
/// A run of UDP datagrams (USO).
pub const VIRTIO_NET_HDR_GSO_UDP_L4: u8 = bindings::VIRTIO_NET_HDR_GSO_UDP_L4 as u8;
/// Beside the kind: TCP has congestion marks (ECN).
pub const VIRTIO_NET_HDR_GSO_ECN: u8 = bindings::VIRTIO_NET_HDR_GSO_ECN as u8;

/// The fields of a header, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VIRTIO_NET_HDR_F_NEEDS_CSUM`] and others.
    pub flags: u8,
    /// [`VIRTIO_NET_HDR_GSO_NONE`] or another kind, perhaps with [`VIRTIO_NET_HDR_GSO_ECN`].
    pub gso_type: u8,
    /// How many bytes of the frame are headers: a hint.
    pub hdr_len: u16,
    /// Bytes of payload in a segment.
    pub gso_size: u16,
    /// Where in the frame the checksum begins.
    pub csum_start: u16,
    /// Where the checksum is stored, counted from `csum_start`.
    pub csum_offset: u16,
    /// How many receive buffers the frame fills.
    pub num_buffers: u16,
}

impl VnetHeader {
    /// Reads a header in little-endian order, as virtio 1 has it.
    #[inline]
    pub fn from_le(bytes: &[u8; HEADER]) -> VnetHeader {
        let [flags, gso_type, l0, l1, s0, s1, c0, c1, o0, o1, n0, n1] = *bytes;
        VnetHeader {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([l0, l1]),
            gso_size: u16::from_le_bytes([s0, s1]),
            csum_start: u16::from_le_bytes([c0, c1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
            num_buffers: u16::from_le_bytes([n0, n1]),
        }
    }

    /// Reads a legacy header in the host's byte order, as a packet socket puts it in front of a frame.
    #[inline]
    pub fn from_ne(bytes: &[u8; LEGACY_HEADER]) -> VnetHeader {
        let [flags, gso_type, l0, l1, s0, s1, c0, c1, o0, o1] = *bytes;
        VnetHeader {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([l0, l1]),
            gso_size: u16::from_ne_bytes([s0, s1]),
            csum_start: u16::from_ne_bytes([c0, c1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
            num_buffers: 0,
        }
    }

    /// The header in little-endian order.
    #[inline]
    pub fn to_le(self) -> [u8; HEADER] {
        let [l0, l1] = self.hdr_len.to_le_bytes();
        let [s0, s1] = self.gso_size.to_le_bytes();
        let [c0, c1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        let [n0, n1] = self.num_buffers.to_le_bytes();
        [self.flags, self.gso_type, l0, l1, s0, s1, c0, c1, o0, o1, n0, n1]
    }

    /// A header that asks for a checksum and nothing else.
    #[inline]
    pub fn checksum(csum_start: u16, csum_offset: u16) -> VnetHeader {
        let flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        VnetHeader { flags, csum_start, csum_offset, ..VnetHeader::default() }
    }

    /// Whether the checksum is to be completed.
    #[inline]
    pub fn needs_csum(&self) -> bool {
        self.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
    }

    /// Whether the frame is to be segmented.
    #[inline]
    pub fn is_gso(&self) -> bool {
        self.gso_type != VIRTIO_NET_HDR_GSO_NONE
    }

    /// Where the two bytes of the checksum end in the frame.
    #[inline]
    pub fn csum_end(&self) -> usize {
        // In usize, so that two u16 cannot wrap.
        usize::from(self.csum_start) + usize::from(self.csum_offset) + 2
    }
}

/// Length of the header under the negotiated features, in bytes.
#[inline]
pub fn header_len(features: u64) -> usize {
    if has(features, feature::VIRTIO_F_VERSION_1) || has(features, feature::VIRTIO_NET_F_MRG_RXBUF)
    {
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
    let header = VnetHeader::from_le(header);
    !header.needs_csum() && !header.is_gso()
}

/// Holds a guest's header against a frame of `frame` bytes (without the header) and against the
/// negotiated features. What has no meaning in this direction is cleared in place.
#[inline]
pub fn check(header: &mut [u8; HEADER], frame: usize, features: u64) -> HeaderVerdict {
    if asks_for_nothing(header) {
        *header = [0; HEADER];
        return HeaderVerdict::Plain;
    }
    let mut fields = VnetHeader::from_le(header);
    if fields.gso_type == VIRTIO_NET_HDR_GSO_UDP | VIRTIO_NET_HDR_GSO_ECN {
        // With ECN it makes no sense, but the kernel takes it.
        fields.gso_type = VIRTIO_NET_HDR_GSO_UDP;
    }
    if fields.needs_csum() {
        let inside = fields.csum_end() <= frame && usize::from(fields.csum_start) >= ETHERNET;
        if !inside || !has(features, feature::VIRTIO_NET_F_CSUM) {
            return HeaderVerdict::Bad;
        }
    }
    let ecn = fields.gso_type & VIRTIO_NET_HDR_GSO_ECN != 0;
    let accepted = match fields.gso_type & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_NONE if !ecn => None,
        VIRTIO_NET_HDR_GSO_TCPV4 => Some(feature::VIRTIO_NET_F_HOST_TSO4),
        VIRTIO_NET_HDR_GSO_TCPV6 => Some(feature::VIRTIO_NET_F_HOST_TSO6),
        VIRTIO_NET_HDR_GSO_UDP => Some(feature::VIRTIO_NET_F_HOST_UFO),
        VIRTIO_NET_HDR_GSO_UDP_L4 if !ecn => Some(feature::VIRTIO_NET_F_HOST_USO),
        _ => return HeaderVerdict::Bad,
    };
    fields.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    fields.num_buffers = 0;
    if !fields.needs_csum() {
        (fields.csum_start, fields.csum_offset) = (0, 0);
    }
    let verdict = match accepted {
        None => {
            (fields.hdr_len, fields.gso_size) = (0, 0);
            HeaderVerdict::Plain
        }
        Some(number) => {
            let ecn = !ecn || has(features, feature::VIRTIO_NET_F_HOST_ECN);
            let many = frame > usize::from(fields.gso_size) * MAX_SEGMENTS;
            if !has(features, number) || !ecn || many || usize::from(fields.hdr_len) > frame {
                return HeaderVerdict::Bad;
            }
            HeaderVerdict::Segmented
        }
    };
    *header = fields.to_le();
    verdict
}

/// The header as a receiver may see it that takes the frame as it is, in two little-endian numbers: the
/// first 8 bytes and the last 4. A header that is stored at once then never stands in memory on its way.
///
/// `csum`: the receiver knows checksums. A checksum to complete and a segmentation stay as they are;
/// "data valid" stays where there is no checksum to complete. The rest becomes 0, also `num_buffers`,
/// which is set when the receiver's buffers are filled.
#[inline]
pub fn visible(header: &[u8; HEADER], csum: bool) -> (u64, u32) {
    const FLAGS: u64 = 0xff;
    const GSO_TYPE: u64 = 0xff00;
    const HDR_LEN_AND_GSO_SIZE: u64 = 0xffff_ffff << 16;
    const CSUM_START: u64 = 0xffff << 48;
    const CSUM_OFFSET: u32 = 0xffff;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    let mut first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut second = u32::from_le_bytes([i, j, k, l]);
    if first & (FLAGS | GSO_TYPE) == 0 || !csum {
        return (0, 0);
    }
    if first & u64::from(VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 {
        first = first & !FLAGS | u64::from(VIRTIO_NET_HDR_F_NEEDS_CSUM);
        second &= CSUM_OFFSET;
    } else {
        first &= !FLAGS & !CSUM_START | u64::from(VIRTIO_NET_HDR_F_DATA_VALID);
        second = 0;
    }
    if first & GSO_TYPE == u64::from(VIRTIO_NET_HDR_GSO_NONE) << 8 {
        first &= !HDR_LEN_AND_GSO_SIZE;
    }
    (first, second)
}

#[cfg(test)]
mod tests;
