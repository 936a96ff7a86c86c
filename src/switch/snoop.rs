//! The multicast groups that a guest joins and leaves, read from the reports that it sends.
//!
//! A kernel macvlan knows the groups of its own stack; a back-end sees frames only, and QEMU does
//! not pass on the filter that a driver sets. But a guest that joins a group reports it on the
//! network: by IGMP (RFC 1112 appendix I, RFC 2236, RFC 3376) for IPv4 and by MLD (RFC 2710, RFC
//! 3810) for IPv6. This is the parser of those reports, without state: bytes in, memberships out.
//!
//! A guest reports only its own groups. A false report gives it more or less multicast and harms no
//! other guest, so checksums, hop limits and router alerts are not checked. But no byte may make
//! the parser read outside the frame, loop, or take long: every record is cut off the front of the
//! rest, and at most [`RECORDS`] of them are read. A frame cut short (the caller may pass its first
//! piece only) yields the records that are there.
//!
//! Groups are reported with the VLAN of the report (`groups.rs`). Sources are beyond a MAC filter:
//! a group with any wanted source is joined.

use crate::net::bytes::be16;
use crate::net::ethernet::{ETHERNET, EthernetHeader};
use crate::net::group::Group;
use crate::net::ip::{IPV4_HEADER, IPV6_HEADER, Ipv4Header, Ipv6Header, extension, protocol};
use crate::net::{ethertype, vlan};

/// Most records read of one report. A report of 1500 bytes has room for 183.
const RECORDS: usize = 256;
/// Most IPv6 extension headers before MLD; there is one, hop-by-hop with the router alert.
const EXTENSIONS: usize = 4;
/// Stands before the VLAN if the tag is a service provider's: another network of the same number.
const SERVICE: u16 = 0x1000;

/// A guest's report about one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It wants this group.
    Join(Group),
    /// It does not want it any more.
    Leave(Group),
}

/// Whether a frame may be a report at all: cheap, and false for nearly every frame. Reports go to
/// the group itself or to a well-known one, always by multicast.
#[inline]
pub fn worth_a_look(head: &EthernetHeader) -> bool {
    let [a, b, c, ..] = head.dst.0;
    let multicast = (a, b) == (0x33, 0x33) || (a, b, c) == (0x01, 0x00, 0x5e);
    multicast && (matches!(head.ethertype, ethertype::IPV4 | ethertype::IPV6) || head.is_tagged())
}

/// Calls `each` with every membership that a frame reports, in order; never for any other frame.
///
/// `frame` begins with the Ethernet header, and may be cut off behind.
pub fn memberships(frame: &[u8], mut each: impl FnMut(Membership)) {
    let _ = ethernet(frame, &mut each);
}

/// `None` means only that the bytes ended or were no report; memberships found before stand.
fn ethernet(frame: &[u8], each: &mut dyn FnMut(Membership)) -> Option<()> {
    let outermost = be16(frame, ETHERNET - 2)?;
    let rest = frame.get(ETHERNET..)?;
    let (inner, packet) = vlan::inner(outermost, rest);
    // A tag without a VLAN (0) has only a priority. Behind two tags there are more networks than
    // are told apart here.
    let vlan = match (outermost, vlan::depth(outermost, rest), vlan::vid(rest)) {
        (_, 0, _) | (_, 1, Some(0)) => Some(0),
        (ethertype::C_TAG, 1, vid) => vid,
        (ethertype::S_TAG, 1, Some(vid)) => Some(SERVICE | vid),
        _ => None,
    };
    match inner {
        ethertype::IPV4 => ipv4(packet, vlan, each),
        ethertype::IPV6 => ipv6(packet, vlan, each),
        _ => None,
    }
}

fn ipv4(packet: &[u8], vlan: Option<u16>, each: &mut dyn FnMut(Membership)) -> Option<()> {
    let header = Ipv4Header::of(packet)?;
    if header.version() != 4 || header.protocol() != protocol::IGMP || header.is_fragment() {
        return None;
    }
    let packet = packet.get(..header.total_len()).unwrap_or(packet);
    let igmp = packet.get(header.header_len().max(IPV4_HEADER)..)?;
    let &[kind, _, _, _, a, b, c, d] = igmp.first_chunk::<8>()?;
    let group = [a, b, c, d];
    match kind {
        0x12 | 0x16 => each(Membership::Join(ipv4_group(vlan, group)?)),
        0x17 => leave(vlan, ipv4_group(vlan, group)?, each),
        0x22 => {
            let count = usize::from(u16::from_be_bytes([c, d]));
            records::<4>(igmp.get(8..)?, count, vlan, |group| ipv4_group(vlan, *group), each)?;
        }
        _ => {}
    }
    Some(())
}

fn ipv6(packet: &[u8], vlan: Option<u16>, each: &mut dyn FnMut(Membership)) -> Option<()> {
    let header = Ipv6Header::of(packet)?;
    if header.version() != 6 {
        return None;
    }
    let rest = packet.get(IPV6_HEADER..)?;
    let mut rest = rest.get(..header.payload_len()).unwrap_or(rest);
    let mut next = header.next_header();
    for _ in 0..EXTENSIONS {
        if matches!(next, protocol::HOP_BY_HOP | protocol::DESTINATION) {
            let (then, length) = extension(rest)?;
            (next, rest) = (then, rest.get(length..)?);
        }
    }
    if next != protocol::ICMPV6 {
        return None;
    }
    let (icmp, body) = rest.split_first_chunk::<8>()?;
    let &[kind, .., count_high, count_low] = icmp;
    match kind {
        131 => each(Membership::Join(ipv6_group(vlan, body.first_chunk()?)?)),
        132 => leave(vlan, ipv6_group(vlan, body.first_chunk()?)?, each),
        143 => {
            let count = usize::from(u16::from_be_bytes([count_high, count_low]));
            records::<16>(body, count, vlan, |group| ipv6_group(vlan, group), each)?;
        }
        _ => {}
    }
    Some(())
}

/// The records of an IGMPv3 or MLDv2 report, which differ in the length `N` of an address only:
/// type, length of auxiliary data in fours, number of sources, group, sources, auxiliary data.
fn records<const N: usize>(
    mut rest: &[u8],
    count: usize,
    vlan: Option<u16>,
    group_of: impl Fn(&[u8; N]) -> Option<Group>,
    each: &mut dyn FnMut(Membership),
) -> Option<()> {
    for _ in 0..count.min(RECORDS) {
        let (&[kind, fours], behind) = rest.split_first_chunk::<2>()?;
        rest = behind;
        let sources = usize::from(number(&mut rest)?);
        let (group, behind) = rest.split_first_chunk::<N>()?;
        if let Some(group) = group_of(group) {
            match (kind, sources) {
                // IS_EX and TO_EX want all but the sources named, IS_IN, TO_IN and ALLOW want
                // those.
                (2 | 4, _) | (1 | 3 | 5, 1..) => each(Membership::Join(group)),
                // TO_IN without sources: that is "leave" in these versions.
                (3, 0) => leave(vlan, group, each),
                // BLOCK takes some sources away; the group remains.
                _ => {}
            }
        }
        rest = behind.get(sources * N + usize::from(fours) * 4..)?;
    }
    Some(())
}

/// Cuts a 16-bit number off the front.
fn number(rest: &mut &[u8]) -> Option<u16> {
    let (&bytes, behind) = rest.split_first_chunk::<2>()?;
    *rest = behind;
    Some(u16::from_be_bytes(bytes))
}

/// A group that is left on a VLAN that is not known for sure may still be wanted on another.
fn leave(vlan: Option<u16>, group: Group, each: &mut dyn FnMut(Membership)) {
    if vlan.is_some() {
        each(Membership::Leave(group));
    }
}

fn ipv4_group(vlan: Option<u16>, group: [u8; 4]) -> Option<Group> {
    (group[0] >> 4 == 0xe).then(|| Group::v4(vlan, group))
}

fn ipv6_group(vlan: Option<u16>, group: &[u8; 16]) -> Option<Group> {
    (group[0] == 0xff).then(|| Group::v6(vlan, group))
}

#[cfg(test)]
mod tests;
