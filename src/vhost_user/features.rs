//! The features that the device offers, in one table, and the consequences of those that the guest
//! took.
//!
//! The table depends only on the port's configuration: QEMU refuses a back-end that after a restart
//! offers less than the guest already has, and so does the destination of a migration.
//!
//! Offered because macvtap and our own switch carry it: checksums and segmentation both ways. UFO
//! to the guest is offered by the switch only (the kernel fragments such frames before they reach a
//! tap); from the guest it is taken everywhere, and fragmented for a receiver that does not take
//! it. USO to the guest is offered although Linux 6.18 still segments before the tap: it is
//! accepted, harmless, and gains when the kernel does. CTRL_VQ and GUEST_ANNOUNCE are never served
//! here, QEMU and cloud-hypervisor do that themselves; cloud-hypervisor gives its guest a control
//! queue (and so multi-queue) only if the back-end offers it. See virtio 1.2, section 5.1.3.

use vhost::vhost_user::message::VhostUserProtocolFeatures;

use crate::config::{Kind, MacChoice, PortConfig};
use crate::net::feature;

/// Always offered.
const BASE: u64 = 1 << feature::VIRTIO_F_VERSION_1
    | 1 << feature::VIRTIO_NET_F_MRG_RXBUF
    | 1 << feature::VIRTIO_RING_F_INDIRECT_DESC
    | 1 << feature::VIRTIO_RING_F_EVENT_IDX
    | 1 << feature::VIRTIO_F_IN_ORDER
    | 1 << feature::VHOST_USER_F_PROTOCOL_FEATURES
    | 1 << feature::VIRTIO_NET_F_CSUM
    | 1 << feature::VIRTIO_NET_F_HOST_TSO4
    | 1 << feature::VIRTIO_NET_F_HOST_TSO6
    | 1 << feature::VIRTIO_NET_F_HOST_ECN
    | 1 << feature::VIRTIO_NET_F_HOST_UFO
    | 1 << feature::VIRTIO_NET_F_HOST_USO
    | 1 << feature::VIRTIO_NET_F_GUEST_CSUM
    | 1 << feature::VIRTIO_NET_F_GUEST_TSO4
    | 1 << feature::VIRTIO_NET_F_GUEST_TSO6
    | 1 << feature::VIRTIO_NET_F_GUEST_ECN
    | 1 << feature::VIRTIO_NET_F_GUEST_USO4
    | 1 << feature::VIRTIO_NET_F_GUEST_USO6
    | 1 << feature::VIRTIO_NET_F_GUEST_ANNOUNCE
    | 1 << feature::VIRTIO_NET_F_CTRL_VQ;

/// The virtio features offered for a port.
pub fn offered(config: &PortConfig) -> u64 {
    let mut features = BASE;
    if config.queue_pairs > 1 {
        features |= 1 << feature::VIRTIO_NET_F_MQ;
    }
    if given_mac(config) {
        features |= 1 << feature::VIRTIO_NET_F_MAC;
    }
    if config.mtu.is_some() {
        features |= 1 << feature::VIRTIO_NET_F_MTU;
    }
    if config.kind == Kind::Macvlan {
        features |= 1 << feature::VIRTIO_NET_F_GUEST_UFO;
    }
    features
}

/// The protocol features that the crate serves for a port. The request filter adds its own
/// (`vhost_user/request_filter.rs`). CONFIG is offered only when the configuration space has a
/// value to read: QEMU does not use it for network devices and prints that on its standard error at
/// every start.
pub fn protocol(config: &PortConfig) -> VhostUserProtocolFeatures {
    let mut features = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    if given_mac(config) || config.mtu.is_some() {
        features |= VhostUserProtocolFeatures::CONFIG;
    }
    features
}

fn given_mac(config: &PortConfig) -> bool {
    matches!(config.mac, MacChoice::Given(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mac::Mac;

    /// QEMU compares this set with what the guest has at every reconnect: a change here is a change
    /// for every running guest, so it takes an edit of this test, and a line in the changelog.
    #[test]
    fn the_offered_set_is_fixed() {
        assert_eq!(offered(&PortConfig::sample()), 0x01c0_0009_7022_fb83);
        let mut full = PortConfig::sample();
        full.queue_pairs = 4;
        full.mtu = Some(9000);
        full.mac = MacChoice::Given(Mac([2, 0, 0, 0, 0, 1]));
        let more = 1 << feature::VIRTIO_NET_F_MQ
            | 1 << feature::VIRTIO_NET_F_MTU
            | 1 << feature::VIRTIO_NET_F_MAC;
        assert_eq!(offered(&full), 0x01c0_0009_7022_fb83 | more);
        let switched = PortConfig { kind: Kind::Macvlan, ..PortConfig::sample() };
        assert_eq!(
            offered(&switched),
            0x01c0_0009_7022_fb83 | 1 << feature::VIRTIO_NET_F_GUEST_UFO
        );
        assert_eq!(protocol(&PortConfig::sample()).bits(), 1 | 1 << 3 | 1 << 15);
        assert_eq!(protocol(&full).bits(), 1 | 1 << 3 | 1 << 9 | 1 << 15);
    }
}
