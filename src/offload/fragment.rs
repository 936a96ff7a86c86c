//! One large UDP datagram cut into IP fragments: UFO.
//!
//! This is not USO, where every piece is a datagram: here the receiver reassembles the pieces and sees
//! one datagram. So the checksum is completed first, over the whole, in place; then IP alone is cut
//! (net/ipv4/udp_offload.c, `udp4_ufo_fragment`; net/ipv6/udp_offload.c,
//! `udp6_ufo_fragment`). Offsets count in eight bytes, so a size is rounded down to that; Linux has
//! never sent another. IPv4 keeps the identification and loses DF, as in `inet_gso_segment`.
//!
//! IPv6 needs an identification that the frame does not have (RFC 8200, section 4.5). No counter is
//! kept: it is made of the datagram's checksum, ports and length. Two datagrams that agree in all of
//! these and are under way at once may be mixed, but only if one loses a fragment.
//!
//! Where the kernel is wrong this file differs: `ipv6_gso_segment` counts extension headers as payload, so
//! every offset is too large by their length for each fragment before it; and destination options
//! behind a routing header are copied into all fragments.

use crate::net::bytes::be16;
use crate::net::checksum;
use crate::net::ip::Version;
use crate::net::ip::protocol::FRAGMENT;
use crate::net::vnet_hdr::HEADER;
use crate::offload::cut::{Cut, Emit};
use crate::offload::header_buf::HeaderBuf;
use crate::offload::packet::Packet;

/// The payload of every fragment but the last, in bytes: the largest multiple of 8 that `size` allows.
pub(crate) fn piece(size: usize) -> usize {
    size & !7
}

/// Completes the checksum of the UDP datagram in `frame` from the pseudo-header's sum.
pub(crate) fn complete(frame: &mut [u8], packet: &Packet, pseudo: u16) -> Option<()> {
    let datagram = frame.get_mut(packet.l4..packet.end)?;
    datagram.get_mut(6..8)?.copy_from_slice(&pseudo.to_be_bytes());
    let checksum = match !checksum::sum(datagram) {
        0 => 0xffff,
        checksum => checksum,
    };
    datagram.get_mut(6..8)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Hands over the fragments; their number, or None (before the first of them) when the headers are
/// too long.
pub(crate) fn cut(cut: &Cut<'_>, emit: &mut Emit<'_>) -> Option<usize> {
    let packet = &cut.packet;
    let payload = cut.frame.get(packet.fragment..packet.end)?;
    let mut head = HeaderBuf::copy(cut.frame.get(..packet.fragment)?)?;
    let place = match packet.version {
        Version::V4 => packet.ip + 6,
        Version::V6 => {
            let next = *cut.frame.get(packet.next)?;
            head.byte(packet.next, |_| FRAGMENT);
            head.push(&[next, 0, 0, 0])?;
            head.push(&identification(cut.frame, packet)?)?;
            packet.fragment + 2
        }
    };
    let count = payload.len().div_ceil(cut.size);
    let mut offset = 0u16;
    for (number, piece) in payload.chunks(cut.size).enumerate() {
        let more = number + 1 < count;
        // In bytes, a multiple of 8: IPv6 keeps it so and has its flag in bit 0.
        head.put16(
            place,
            match packet.version {
                Version::V4 => offset >> 3 | if more { 0x2000 } else { 0 },
                Version::V6 => offset | u16::from(more),
            },
        );
        head.fit(packet, piece.len());
        emit(&[0; HEADER], head.bytes(), piece);
        // The last sum is not used; the others are below the packet's length.
        offset = offset.wrapping_add(u16::try_from(piece.len()).unwrap_or(0));
    }
    Some(count)
}

fn identification(frame: &[u8], packet: &Packet) -> Option<[u8; 4]> {
    let udp = frame.get(packet.l4..)?;
    let (from, to, length) = (be16(udp, 0)?, be16(udp, 2)?, be16(udp, 4)?);
    let [a, b] = be16(udp, 6)?.to_be_bytes();
    let [c, d] = (from.rotate_left(5) ^ to ^ length.rotate_left(11)).to_be_bytes();
    Some([a, b, c, d])
}
