//! The feature bits that a virtio-net device and its driver negotiate.
//!
//! The names and numbers are the specification's (virtio 1.2, sections 5.1.3 and 6), as the kernel's
//! headers have them. A set of features is a `u64`; a feature is the number of its bit.

pub use virtio_bindings::virtio_config::VIRTIO_F_IN_ORDER;
pub use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_CSUM;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_CTRL_VQ;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_ANNOUNCE;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_CSUM;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_ECN;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_TSO4;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_TSO6;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_UFO;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_USO4;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_USO6;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_HOST_ECN;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_HOST_TSO4;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_HOST_TSO6;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_HOST_UFO;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_HOST_USO;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_MAC;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_MQ;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
pub use virtio_bindings::virtio_net::VIRTIO_NET_F_MTU;
pub use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
pub use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;

/// Says that the vhost-user protocol has features of its own: a bit between front-end and back-end, which
/// no guest sees (vhost-user specification, "Protocol features").
pub const VHOST_USER_F_PROTOCOL_FEATURES: u32 = 30;

/// Whether feature `number` is in `features`.
#[inline]
pub fn has(features: u64, number: u32) -> bool {
    features & (1 << number) != 0
}
