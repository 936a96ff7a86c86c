//! An IP address that the host has on one of its devices.

use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

/// The address, and the device that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The device's interface index.
    pub index: u32,
    /// The host's own address; not its peer's.
    pub ip: IpAddr,
    /// Bits of the address that name the network.
    pub prefix: u8,
}

impl HostAddress {
    /// The address that a netlink message is about.
    pub(crate) fn parse(message: &AddressMessage) -> Option<HostAddress> {
        let attributes = message.attributes.iter();
        // Both attributes are there if the two ends of a link have different addresses; IPv6 has
        // the second alone.
        let local = attributes.clone().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let any = attributes.clone().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        let (index, prefix) = (message.header.index, message.header.prefix_len);
        Some(HostAddress { index, ip: local.or(any)?, prefix })
    }
}
