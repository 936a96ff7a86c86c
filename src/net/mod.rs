//! The ground: what the specifications say about frames and addresses.
//!
//! Everything here is pure: no I/O, no state of the process. It imports no other room.
//!
//! | file | idea |
//! | --- | --- |
//! | [`checksum`] | The Internet checksum |
//! | [`counters`] | What was moved and what was dropped, and why |
//! | [`ethernet`] | The fourteen bytes of a frame by which it is forwarded |
//! | [`group`] | A multicast group as a guest joins it |
//! | [`mac`] | An Ethernet hardware address |
//! | [`mode`] | The five ways in which a port shares its parent with its siblings |
//! | [`vlan`] | VLAN tags in front of a frame's type, of every kind and any number |
//! | [`vnet_hdr`] | The header in front of every frame |

pub mod checksum;
pub mod counters;
pub mod ethernet;
pub mod group;
pub mod mac;
pub mod mode;
pub mod vlan;
pub mod vnet_hdr;
