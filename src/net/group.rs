//! A multicast group as a guest joins it: an IP address on a VLAN, and the MAC address of its frames.
//!
//! It is a number, so that it fits an atomic cell:
//!
//! ```text
//!   63 there is one   62 61 kind   60..48 VLAN   47..0  IPv4: the group's 28 bits
//!                                                       IPv6: its low 32 bits, then 16 of a hash of the others
//!                                                       else: the MAC address
//! ```
//!
//! The bits that the MAC address has (RFC 1112, section 6.4; RFC 2464, section 7) stand in one piece, so
//! that one comparison tells whether a frame is for the group.
//!
//! What can go wrong: two IPv6 groups that agree in their low 32 bits may have one hash. Leaving one is
//! then leaving both. A guest that searches for such groups finds them, and no longer receives them.

use crate::net::mac::Mac;

const THERE: u64 = 1 << 63;
const V4: u64 = 0;
const V6: u64 = 1 << 61;
const OTHER: u64 = 2 << 61;
const KIND: u64 = 3 << 61;
/// The bits of an IPv4 group that its MAC address has.
const V4_MAC: u64 = 0x7f_ffff;
/// The same of an IPv6 group.
const V6_MAC: u64 = 0xffff_ffff << 16;
/// The place of a VLAN that no report names for sure: 4095 is no VLAN.
const NO_VLAN: u16 = 0x1fff;

/// A group on a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The address of its frames.
    pub mac: Mac,
    pub(crate) key: u64,
}

impl Group {
    /// An IPv4 group. `vlan`: 0 without a tag; None where it is not known for sure.
    pub(crate) fn v4(vlan: Option<u16>, [a, b, c, d]: [u8; 4]) -> Group {
        let bits = u64::from(u32::from_be_bytes([a & 0xf, b, c, d]));
        let mac = Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d]);
        Group { mac, key: V4 | bits | place(vlan) }
    }

    /// An IPv6 group.
    pub(crate) fn v6(vlan: Option<u16>, group: &[u8; 16]) -> Group {
        let [rest @ .., a, b, c, d] = group;
        let low = u64::from(u32::from_be_bytes([*a, *b, *c, *d])) << 16;
        // FNV-1a: any function will do.
        let hash = rest
            .iter()
            .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let high = u64::from((hash >> 16) as u16 ^ hash as u16);
        Group { mac: Mac([0x33, 0x33, *a, *b, *c, *d]), key: V6 | low | high | place(vlan) }
    }

    /// What a joined group's number must have, under a mask, for a frame to this address to be for it.
    pub(crate) fn pattern(mac: Mac) -> (u64, u64) {
        let number = mac.to_u64();
        match mac.0 {
            [0x01, 0x00, 0x5e, 0..=0x7f, ..] => {
                (THERE | V4 | number & V4_MAC, THERE | KIND | V4_MAC)
            }
            [0x33, 0x33, ..] => (THERE | V6 | (number << 16) & V6_MAC, THERE | KIND | V6_MAC),
            _ => (THERE | OTHER | number, THERE | KIND | 0xffff_ffff_ffff),
        }
    }
}

fn place(vlan: Option<u16>) -> u64 {
    THERE | u64::from(vlan.unwrap_or(NO_VLAN) & NO_VLAN) << 48
}

impl From<Mac> for Group {
    /// Of no IP address and no VLAN in particular.
    fn from(mac: Mac) -> Group {
        Group { mac, key: Group::pattern(mac).0 }
    }
}
