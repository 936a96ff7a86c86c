//! The headers of IPv4 (RFC 791, section 3.1) and IPv6 (RFC 8200, sections 3 and 4).
//!
//! A view of a header's fixed part, field by field, and one step along IPv6's extension headers. The
//! views believe nothing: a length or a version is what the bytes say, and the caller judges it. The
//! offload trusts no length of the whole, the snooping none that exceeds the frame, and the flow hash
//! asks for neither.

/// Protocol numbers: IANA's register of the same name, as far as this program asks for one.
pub mod protocol {
    /// IPv6: hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// IGMP: membership of IPv4's multicast groups.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6: a routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6: a fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6. MLD, membership of multicast groups, is a part of it.
    pub const ICMPV6: u8 = 58;
    /// IPv6: destination options.
    pub const DESTINATION: u8 = 60;
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Length of an IPv4 header without options, in bytes.
pub const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header, in bytes.
pub const IPV6_HEADER: usize = 40;

/// An IPv4 header, its options left out.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Header<'a>(&'a [u8; IPV4_HEADER]);

impl<'a> Ipv4Header<'a> {
    /// The header at the beginning of `packet`; `None` when the packet is shorter.
    #[inline]
    pub fn of(packet: &'a [u8]) -> Option<Ipv4Header<'a>> {
        packet.first_chunk().map(Ipv4Header)
    }

    /// The version that the header names: 4, if the sender is right.
    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Length of the header with its options, in bytes: from 0 to 60, where 20 is the least right one.
    #[inline]
    pub fn header_len(self) -> usize {
        usize::from(self.0[0] & 15) * 4
    }

    /// Length of the packet, in bytes.
    #[inline]
    pub fn total_len(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    /// True for every fragment of a packet, the first one included.
    #[inline]
    pub fn is_fragment(self) -> bool {
        self.0[6] & 0x3f != 0 || self.0[7] != 0
    }

    /// What the packet carries, see [`protocol`].
    #[inline]
    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Source and destination address.
    #[inline]
    pub fn addresses(self) -> &'a [u8] {
        &self.0[12..20]
    }
}

/// An IPv6 header, without extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Header<'a>(&'a [u8; IPV6_HEADER]);

impl<'a> Ipv6Header<'a> {
    /// The header at the beginning of `packet`; `None` when the packet is shorter.
    #[inline]
    pub fn of(packet: &'a [u8]) -> Option<Ipv6Header<'a>> {
        packet.first_chunk().map(Ipv6Header)
    }

    /// The version that the header names: 6, if the sender is right.
    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Length of what follows this header, in bytes.
    #[inline]
    pub fn payload_len(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }

    /// What follows this header, see [`protocol`].
    #[inline]
    pub fn next_header(self) -> u8 {
        self.0[6]
    }

    /// Source and destination address.
    #[inline]
    pub fn addresses(self) -> &'a [u8] {
        &self.0[8..40]
    }
}

/// The extension header at the beginning of `bytes`: what follows it, and its own length in bytes, which
/// may exceed `bytes`. For hop-by-hop options, a routing header and destination options, which all
/// begin in the same way (RFC 8200, section 4).
#[inline]
pub fn extension(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[next, eights] = bytes.first_chunk()?;
    Some((next, (usize::from(eights) + 1) * 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_ipv4_header_is_found() {
        let mut packet = [0; 24];
        packet[..10].copy_from_slice(&[0x46, 0, 1, 2, 0, 0, 0x40, 0, 64, protocol::UDP]);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let header = Ipv4Header::of(&packet).unwrap();
        assert_eq!((header.version(), header.header_len(), header.total_len()), (4, 24, 0x102));
        assert_eq!((header.protocol(), header.is_fragment()), (protocol::UDP, false));
        assert_eq!(header.addresses(), [10, 0, 0, 1, 10, 0, 0, 2]);
        for (at, value) in [(6, 0x20), (6, 0x01), (7, 1)] {
            let mut fragment = packet;
            fragment[at] = value;
            assert!(Ipv4Header::of(&fragment).unwrap().is_fragment(), "{at}: {value}");
        }
        assert!(Ipv4Header::of(&packet[..19]).is_none());
    }

    #[test]
    fn every_field_of_an_ipv6_header_is_found() {
        let mut packet = [7; 50];
        packet[..7].copy_from_slice(&[0x60, 0, 0, 0, 3, 4, protocol::DESTINATION]);
        let header = Ipv6Header::of(&packet).unwrap();
        assert_eq!((header.version(), header.payload_len()), (6, 0x304));
        assert_eq!(header.next_header(), protocol::DESTINATION);
        assert_eq!(header.addresses(), [7; 32]);
        assert!(Ipv6Header::of(&packet[..39]).is_none());
    }

    #[test]
    fn an_extension_header_has_a_length_in_eights() {
        assert_eq!(extension(&[protocol::TCP, 0]), Some((protocol::TCP, 8)));
        assert_eq!(extension(&[0, 255, 9]), Some((0, 2048)));
        assert_eq!(extension(&[0]), None);
    }
}
