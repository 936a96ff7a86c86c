//! The device configuration space: `virtio_net_config`, virtio 1.2, section 5.1.4.
//!
//! QEMU keeps its own copy for network devices; cloud-hypervisor reads MAC address, number of queue
//! pairs and MTU from here when its own command line leaves them out. A front-end may ask for more
//! bytes than there are fields: the rest is zero, and the answer is always as long as the question,
//! because both sides take a short one for an error.

use crate::config::{MacChoice, PortConfig};
use crate::net::feature;
use crate::net::feature::has;
use crate::net::mac::Mac;
use crate::vhost_user::features;

/// Largest configuration space of the protocol, in bytes.
const SPACE: usize = 256;
const STATUS_LINK_UP: u16 = 1;

/// The configuration space of a port.
#[derive(Clone, Copy, Debug)]
pub struct NetConfig([u8; SPACE]);

impl NetConfig {
    /// Fills in what the port offers.
    pub fn new(config: &PortConfig) -> NetConfig {
        let mut bytes = [0; SPACE];
        let offered = features::offered(config);
        let mac = match config.mac {
            MacChoice::Given(mac) if has(offered, feature::VIRTIO_NET_F_MAC) => mac,
            _ => Mac::default(),
        };
        let mtu = config.mtu.unwrap_or(0).min(u32::from(u16::MAX)) as u16;
        bytes[..6].copy_from_slice(&mac.0);
        bytes[6..8].copy_from_slice(&STATUS_LINK_UP.to_le_bytes());
        bytes[8..10].copy_from_slice(&config.queue_pairs.to_le_bytes());
        bytes[10..12].copy_from_slice(&mtu.to_le_bytes());
        NetConfig(bytes)
    }

    /// `size` bytes from `offset`; what lies beyond the space is zero. A size that no message can
    /// carry gets an empty answer, which the crate turns into an error.
    pub fn read(&self, offset: u32, size: u32) -> Vec<u8> {
        let (offset, size) = (offset as usize, size as usize);
        if size > SPACE {
            return Vec::new();
        }
        (offset..offset + size).map(|at| self.0.get(at).copied().unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_long_as_asked() {
        let config = NetConfig::new(&PortConfig {
            mac: MacChoice::Given(Mac([2, 3, 4, 5, 6, 7])),
            mtu: Some(9000),
            queue_pairs: 4,
            ..PortConfig::sample()
        });
        assert_eq!(config.read(0, 12), [2, 3, 4, 5, 6, 7, 1, 0, 4, 0, 0x28, 0x23]);
        assert_eq!(config.read(10, 4), [0x28, 0x23, 0, 0]);
        assert_eq!(config.read(250, 20), [0; 20]);
        assert_eq!(config.read(u32::MAX, 4), [0; 4]);
        assert!(config.read(0, 257).is_empty());
    }
}
