//! The ground: what the specifications say about frames and addresses.
//!
//! Everything here is pure: no I/O, no state of the process. It imports no other room.
//!
//! | file | idea |
//! | --- | --- |
//! | [`bytes`] | Numbers read from bytes that may end too early |
//! | [`checksum`] | The Internet checksum |
//! | [`counters`] | What was moved and what was dropped, and why |
//! | [`ethernet`] | The fourteen bytes of a frame by which it is forwarded |
//! | [`ethertype`] | What an Ethernet frame carries, as its type field names it |
//! | [`feature`] | The feature bits that a virtio-net device and its driver negotiate |
//! | [`group`] | A multicast group as a guest joins it |
//! | [`ip`] | The headers of IPv4 and IPv6 |
//! | [`mac`] | An Ethernet hardware address |
//! | [`mode`] | The five ways in which a port shares its parent with its siblings |
//! | [`vlan`] | VLAN tags in front of a frame's type, of every kind and any number |
//! | [`vnet_hdr`] | The header in front of every frame: `virtio_net_hdr` |

pub(crate) mod bytes;
pub(crate) mod checksum;
pub mod counters;
pub mod ethernet;
pub(crate) mod ethertype;
pub mod feature;
pub(crate) mod group;
pub(crate) mod ip;
pub mod mac;
pub mod mode;
pub mod vlan;
pub mod vnet_hdr;
