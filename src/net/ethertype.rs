//! What an Ethernet frame carries, as its type field names it.
//!
//! The numbers are IEEE's register of EtherTypes, as far as this program asks for one. They are in host
//! order; the wire has them in big-endian order. A type field below [`FIRST`] is no type but a length,
//! and an LLC header follows (IEEE 802.3-2022, section 3.2.6).

/// The least number that is a type.
pub const FIRST: u16 = 0x0600;
/// IPv4.
pub const IPV4: u16 = 0x0800;
/// RARP: what a guest's new host sends so that switches learn the guest's address.
pub const RARP: u16 = 0x8035;
/// A customer's VLAN tag (IEEE 802.1Q).
pub const C_TAG: u16 = 0x8100;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// MAC control, of which PAUSE is the one kind in use (IEEE 802.3, annex 31B; `ETH_P_PAUSE`).
pub const MAC_CONTROL: u16 = 0x8808;
/// A service provider's VLAN tag (IEEE 802.1ad).
pub const S_TAG: u16 = 0x88a8;
/// LLDP.
pub const LLDP: u16 = 0x88cc;
/// Outer VLAN tags from before IEEE 802.1ad (`ETH_P_QINQ1`).
pub const QINQ1: u16 = 0x9100;
/// The same (`ETH_P_QINQ2`).
pub const QINQ2: u16 = 0x9200;
/// The same (`ETH_P_QINQ3`).
pub const QINQ3: u16 = 0x9300;
