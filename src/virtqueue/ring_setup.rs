//! Where a ring is and how it is to be read, as the front-end has negotiated it.

use std::sync::Arc;

use crate::virtqueue::guest_map::GuestMap;

/// Largest ring size we accept: QEMU's and cloud-hypervisor's largest.
pub const MAX_RING_SIZE: u16 = 1024;

/// Where a ring is and how it is to be read, as negotiated.
#[derive(Clone, Debug)]
pub struct RingSetup {
    /// Number of descriptors, a power of two up to [`MAX_RING_SIZE`].
    pub size: u16,
    /// Guest-physical address of the descriptor table.
    pub desc: u64,
    /// Guest-physical address of the available ring.
    pub avail: u64,
    /// Guest-physical address of the used ring.
    pub used: u64,
    /// The negotiated virtio features.
    pub features: u64,
    /// The memory that the addresses refer to.
    pub map: Arc<GuestMap>,
}

impl PartialEq for RingSetup {
    fn eq(&self, other: &RingSetup) -> bool {
        let key = |s: &RingSetup| (s.size, s.desc, s.avail, s.used, s.features);
        key(self) == key(other) && Arc::ptr_eq(&self.map, &other.map)
    }
}
