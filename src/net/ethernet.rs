//! The fourteen bytes of a frame by which it is forwarded.
//!
//! They are destination, source and type, as the wire has them. The type is the *outermost* one: it is
//! 0x8100 for a tagged frame, and nothing here looks behind a tag. macvlan forwards without regard to
//! VLANs, and so does this program. The bytes come from a guest or from the LAN and may say anything;
//! every value of every field is legal here.

use crate::net::mac::Mac;
use crate::net::{ethertype, vlan};

/// Length of an Ethernet header, in bytes: no frame is shorter.
pub const ETHERNET: usize = 14;
/// What a frame may have beyond the MTU, in bytes: Ethernet header and one VLAN tag
/// (`is_skb_forwardable`).
pub const OVERHEAD: u32 = (ETHERNET + vlan::TAG) as u32;

/// A frame's Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EthernetHeader {
    /// The destination.
    pub dst: Mac,
    /// The source, as the sender names it.
    pub src: Mac,
    /// The outermost type, in host order: 0x8100 for a tagged frame, below 0x600 a length.
    pub ethertype: u16,
}

impl EthernetHeader {
    /// The header in a frame's first fourteen bytes.
    #[inline]
    pub fn of(bytes: &[u8; ETHERNET]) -> EthernetHeader {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *bytes;
        EthernetHeader {
            dst: Mac([a, b, c, d, e, f]),
            src: Mac([g, h, i, j, k, l]),
            ethertype: u16::from_be_bytes([m, n]),
        }
    }

    /// True for flow control, which concerns the two ends of one cable only and is never flooded.
    pub fn is_pause(&self) -> bool {
        self.ethertype == ethertype::MAC_CONTROL
    }

    /// True when a VLAN tag of any kind follows.
    #[inline]
    pub fn is_tagged(&self) -> bool {
        vlan::is_tag(self.ethertype)
    }

    /// True for the groups that no bridge forwards, 01:80:c2:00:00:00 to 0f: spanning tree, LACP,
    /// LLDP, PAUSE (IEEE 802.1Q-2022, table 8-1).
    pub fn is_reserved(&self) -> bool {
        matches!(self.dst.0, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_header_apart() {
        let head = EthernetHeader::of(&[1, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x88, 0x08]);
        assert_eq!(head.dst, Mac([1, 0x80, 0xc2, 0, 0, 1]));
        assert_eq!(head.src, Mac([2, 0, 0, 0, 0, 9]));
        assert!(head.is_pause());
        assert!(head.is_reserved());
        let next = EthernetHeader { dst: Mac([1, 0x80, 0xc2, 0, 0, 0x10]), ..head };
        assert!(!next.is_reserved(), "0x10 is the first one after the block");
    }
}
