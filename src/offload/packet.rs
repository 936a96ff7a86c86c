//! Where things stand in a frame that is to be cut: Ethernet, VLAN tags, IPv4 or IPv6, TCP or UDP.
//!
//! The virtio-net header says what the sender believes; this file reads the frame itself. The headers
//! must be inside the frame. A frame that is accepted can be cut without another look.
//!
//! The lengths of the whole that stand in the frame are not believed, as in the kernel: each piece gets
//! its own. Senders leave them out (Windows writes no UDP length), write a piece's, or have no room for
//! the true one. A frame that is to be cut has no padding either: Ethernet pads to 60 bytes, and such a
//! frame has more. So the frame ends with its last byte. For the same reason a fragment is cut like any
//! other packet.
//!
//! IPv6 extension headers are walked as the kernel does before it segments (net/ipv6/ip6_offload.c,
//! `ipv6_gso_pull_exthdrs`): hop-by-hop, routing and destination options, in any order. A fragment,
//! a jumbogram or anything that is neither TCP nor UDP cannot be repaired. For UFO the place of the
//! fragment header is noted as `ip6_find_1stfragopt` finds it (net/ipv6/output_core.c): in front of
//! destination options that follow a routing header, else in front of UDP (RFC 8200, section 4.5).
//!
//! What can go wrong: a chain of many tiny extension headers makes the walk long. It ends with the
//! room for headers, [`HEAD`].

use crate::net::bytes::be16;
use crate::net::ethernet::ETHERNET;
use crate::net::ip::protocol::{DESTINATION, HOP_BY_HOP, ROUTING, TCP, UDP};
use crate::net::ip::{IPV4_HEADER, IPV6_HEADER, Ipv4Header, Ipv6Header, Version, extension};
use crate::net::{checksum, ethertype, vlan};

/// Most bytes of headers in a frame that is repaired (`header_buf.rs` has room for as many).
pub const HEAD: usize = 512;

/// Offsets into a frame, in bytes; each is at most the frame's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub version: Version,
    /// Where the IP header begins.
    pub ip: usize,
    /// TCP or UDP.
    pub protocol: u8,
    /// Where the TCP or UDP header begins.
    pub l4: usize,
    /// Where the payload of TCP or UDP begins.
    pub data: usize,
    /// Where the frame ends.
    pub end: usize,
    /// IPv6: where a fragment header belongs, and the next-header byte that would announce it.
    pub fragment: usize,
    pub next: usize,
}

impl Packet {
    /// Reads the headers of `frame`; None when a length does not fit or the packet is of another kind.
    pub fn parse(frame: &[u8]) -> Option<Packet> {
        let (ip, kind) = network(frame)?;
        let mut packet = match kind {
            ethertype::IPV4 => ipv4(frame, ip)?,
            ethertype::IPV6 => ipv6(frame, ip)?,
            _ => return None,
        };
        let l4 = frame.get(packet.l4..packet.end)?;
        let header = match packet.protocol {
            TCP => usize::from(*l4.get(12)? >> 4).checked_mul(4).filter(|length| *length >= 20)?,
            UDP => 8,
            _ => return None,
        };
        packet.data = packet.l4.checked_add(header).filter(|data| *data <= packet.end)?;
        Some(packet)
    }

    /// Where the checksum stands in the TCP or UDP header.
    pub fn checksum(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// The length of TCP or UDP with what it carries, as a part of a sum: it may have 17 bits.
    pub fn length(&self) -> u16 {
        let length = self.end.saturating_sub(self.l4);
        checksum::add((length >> 16) as u16, length as u16)
    }

    /// The sum of the pseudo-header from the addresses in the IP header (RFC 9293, section 3.1; RFC
    /// 8200, section 8.1). With a routing header under way the true one has the last hop's address.
    pub fn pseudo(&self, frame: &[u8]) -> u16 {
        let packet = frame.get(self.ip..).unwrap_or_default();
        let addresses = match self.version {
            Version::V4 => Ipv4Header::of(packet).map(Ipv4Header::addresses),
            Version::V6 => Ipv6Header::of(packet).map(Ipv6Header::addresses),
        };
        let rest = checksum::add(u16::from(self.protocol), self.length());
        checksum::add(checksum::sum(addresses.unwrap_or_default()), rest)
    }
}

/// Where the network header begins, and its kind. The kernel cuts behind two kinds of tags and seven of
/// them; a frame that is accepted here and refused by the kernel does no harm.
fn network(frame: &[u8]) -> Option<(usize, u16)> {
    let (inner, rest) = vlan::inner(be16(frame, ETHERNET - 2)?, frame.get(ETHERNET..)?);
    Some((frame.len() - rest.len(), inner))
}

fn ipv4(frame: &[u8], ip: usize) -> Option<Packet> {
    let packet = frame.get(ip..)?;
    let header = Ipv4Header::of(packet)?;
    let length = header.header_len();
    if length < IPV4_HEADER || length > packet.len() {
        return None;
    }
    let l4 = ip + length;
    Some(Packet {
        version: Version::V4,
        ip,
        protocol: header.protocol(),
        l4,
        data: l4,
        end: frame.len(),
        fragment: l4,
        next: ip,
    })
}

fn ipv6(frame: &[u8], ip: usize) -> Option<Packet> {
    let end = frame.len();
    let mut protocol = Ipv6Header::of(frame.get(ip..)?)?.next_header();
    let (mut at, mut next) = (ip + IPV6_HEADER, ip + 6);
    let (mut routed, mut fragment) = (false, None);
    while matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
        if protocol == DESTINATION && routed {
            fragment = fragment.or(Some((at, next)));
        }
        routed |= protocol == ROUTING;
        let (then, length) = extension(frame.get(at..end)?)?;
        (protocol, next) = (then, at);
        at += length;
        if at > end || at > HEAD {
            return None;
        }
    }
    let (fragment, next) = fragment.unwrap_or((at, next));
    Some(Packet { version: Version::V6, ip, protocol, l4: at, data: at, end, fragment, next })
}
