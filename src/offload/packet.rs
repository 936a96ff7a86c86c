//! Where things stand in a frame that is to be cut: Ethernet, VLAN tags, IPv4 or IPv6, TCP or UDP.
//!
//! The header in front of the frame says what the sender believes; here the frame itself is read. The headers
//! must be inside the frame; what is accepted can be cut without another look.
//!
//! The lengths of the whole that stand in the frame are not believed, as the kernel does not: each piece gets
//! its own. Senders leave them out (Windows writes no UDP length), write a piece's, or have no room for the
//! true one. A frame that is to be cut ends where it ends: Ethernet pads to 60 bytes, and such a frame has more.
//! For the same reason a fragment is cut like any other packet.
//!
//! IPv6 extension headers are walked as the kernel does before it segments (net/ipv6/ip6_offload.c,
//! `ipv6_gso_pull_exthdrs`): hop-by-hop, routing and destination options, in any order. A fragment,
//! a jumbogram or anything that is neither TCP nor UDP cannot be repaired. For UFO the place of the
//! fragment header is noted as `ip6_find_1stfragopt` finds it (net/ipv6/output_core.c): in front of
//! destination options that follow a routing header, else in front of UDP (RFC 8200, section 4.5).
//!
//! What can go wrong: a chain of many tiny extension headers makes the walk long. It ends with the
//! room for headers, [`crate::offload::HEAD`].

use crate::net::vnet_hdr::ETHERNET;
use crate::net::{checksum, vlan};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// Next header: fragment (RFC 8200, section 4.5).
pub(crate) const FRAGMENT: u8 = 44;
/// Length of an IPv6 header, in bytes.
pub(crate) const IPV6: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

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
    /// Where what TCP or UDP carries begins.
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
        let (ip, ethertype) = ethertype(frame)?;
        let mut packet = match ethertype {
            0x0800 => ipv4(frame, ip)?,
            0x86dd => ipv6(frame, ip)?,
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
        let (from, length) = match self.version {
            Version::V4 => (12, 8),
            Version::V6 => (8, 32),
        };
        let addresses = frame.get(self.ip..).and_then(|ip| ip.get(from..)?.get(..length));
        let rest = checksum::add(u16::from(self.protocol), self.length());
        checksum::add(checksum::sum(addresses.unwrap_or_default()), rest)
    }
}

/// The big-endian word at `at`.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

/// Where the network header begins, and its kind. The kernel cuts behind two kinds of tags and seven of them;
/// what it refuses beyond does no harm.
fn ethertype(frame: &[u8]) -> Option<(usize, u16)> {
    let (inner, rest) = vlan::inner(be16(frame, ETHERNET - 2)?, frame.get(ETHERNET..)?);
    Some((frame.len() - rest.len(), inner))
}

fn ipv4(frame: &[u8], ip: usize) -> Option<Packet> {
    let packet = frame.get(ip..)?;
    let header = usize::from(*packet.first()? & 15) * 4;
    if header < 20 || header > packet.len() {
        return None;
    }
    let l4 = ip + header;
    Some(Packet {
        version: Version::V4,
        ip,
        protocol: *packet.get(9)?,
        l4,
        data: l4,
        end: frame.len(),
        fragment: l4,
        next: ip,
    })
}

fn ipv6(frame: &[u8], ip: usize) -> Option<Packet> {
    let packet = frame.get(ip..)?;
    let end = frame.len();
    if packet.len() < IPV6 {
        return None;
    }
    let (mut at, mut next, mut protocol) = (ip + IPV6, ip + 6, *packet.get(6)?);
    let (mut routed, mut fragment) = (false, None);
    while matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
        if protocol == DESTINATION && routed {
            fragment = fragment.or(Some((at, next)));
        }
        routed |= protocol == ROUTING;
        let header = frame.get(at..end)?;
        let length = (usize::from(*header.get(1)?) + 1) * 8;
        (protocol, next) = (*header.first()?, at);
        at += length;
        if at > end || at > crate::offload::HEAD {
            return None;
        }
    }
    let (fragment, next) = fragment.unwrap_or((at, next));
    Some(Packet { version: Version::V6, ip, protocol, l4: at, data: at, end, fragment, next })
}
