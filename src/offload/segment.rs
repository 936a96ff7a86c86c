//! A TCP stream or a run of UDP datagrams cut to the size that the sender named: TSO and USO.
//!
//! Each piece gets a copy of all headers. TCP (net/ipv4/tcp_offload.c, `tcp_gso_segment`): the sequence
//! number moves on, CWR stays with the first segment (it answers one congestion mark, RFC 3168, section
//! 6.1.2), FIN and PSH with the last. UDP (net/ipv4/udp_offload.c, `__udp_gso_segment`): each piece is a
//! datagram with a length of its own. IPv4's identification counts up, with DF too, as the kernel does.
//!
//! The checksum starts from the pseudo-header's sum that the sender left in the field, with the length
//! exchanged: the sender alone knows the last address of a routing header. For TCP the sum holds the
//! true length; for UDP it holds the one in the UDP header, which may be 0 or a piece's. For a TCP
//! sender that left no sum it is made of the addresses in the IP header. A receiver that completes
//! checksums itself gets the new sum in the same way; for others the piece is summed up here.
//!
//! What can go wrong: a TCP sum of 0 stays 0, as in the kernel's segments (both zeros are right), while
//! UDP's must become 0xffff: 0 would mean "none" (RFC 768).

use crate::net::checksum;
use crate::net::ip::Version;
use crate::net::ip::protocol::TCP;
use crate::net::vnet_hdr::{HEADER, VnetHeader};
use crate::offload::cut::{Cut, Emit};
use crate::offload::header_buf::HeaderBuf;
use crate::offload::packet::Packet;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Hands over the pieces; their number, or None (before the first of them) when the headers are too
/// long.
pub(crate) fn cut(cut: &Cut<'_>, emit: &mut Emit<'_>) -> Option<usize> {
    let Packet { protocol, l4, data, end, .. } = cut.packet;
    let mut head = HeaderBuf::copy(cut.frame.get(..data)?)?;
    let payload = cut.frame.get(data..end)?;
    let field = l4 + cut.packet.checksum();
    let header = if cut.partial {
        let (start, offset) = (u16::try_from(l4).ok()?, u16::try_from(cut.packet.checksum()).ok()?);
        VnetHeader::checksum(start, offset).to_le()
    } else {
        [0; HEADER]
    };
    let mut sequence = head.sequence(&cut.packet)?;
    let mut id = head.id(&cut.packet);
    let last_flags = *head.from(l4 + 13).first().unwrap_or(&0) & (FIN | PSH);
    let count = payload.len().div_ceil(cut.size);
    for (number, piece) in payload.chunks(cut.size).enumerate() {
        // As the kernel's, which has no room for more either.
        let length = (data - l4 + piece.len()) as u16;
        if protocol == TCP {
            let (first, last) = (number == 0, number + 1 == count);
            head.byte(l4 + 13, |flags| {
                let flags = flags & !(FIN | PSH) & if first { 0xff } else { !CWR };
                flags | if last { last_flags } else { 0 }
            });
            head.put(l4 + 4, &sequence.to_be_bytes());
        } else {
            head.put16(l4 + 4, length);
        }
        if cut.packet.version == Version::V4 {
            head.put16(cut.packet.ip + 4, id);
        }
        head.fit(&cut.packet, piece.len());
        let start = checksum::replaced(cut.pseudo, cut.length, length);
        head.put16(field, start);
        if !cut.partial {
            let checksum = !checksum::add(checksum::sum(head.from(l4)), checksum::sum(piece));
            let none = protocol != TCP && checksum == 0;
            head.put16(field, if none { 0xffff } else { checksum });
        }
        emit(&header, head.bytes(), piece);
        sequence = sequence.wrapping_add(u32::try_from(piece.len()).unwrap_or(0));
        id = id.wrapping_add(1);
    }
    Some(count)
}
