//! The offloads that the reader of a tap accepts.

use std::ops::BitOr;

use crate::net::feature;
use crate::net::feature::has;

/// The offloads that the reader of a tap (the guest) accepts: the bits of TUNSETOFFLOAD.
///
/// A bit that is off makes the kernel do the work (checksum, segmentation) before a frame reaches
/// the tap. The segmentation bits count only together with [`TapOffload::CSUM`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapOffload(u32);

impl TapOffload {
    /// None: every frame arrives complete and at most one MTU long.
    pub const NONE: TapOffload = TapOffload(0);
    /// Frames whose checksum is still to be filled in.
    pub const CSUM: TapOffload = TapOffload(1);
    /// TCP over IPv4 larger than the MTU.
    pub const TSO4: TapOffload = TapOffload(2);
    /// TCP over IPv6 larger than the MTU.
    pub const TSO6: TapOffload = TapOffload(4);
    /// Large TCP frames with the ECN CWR flag.
    pub const ECN: TapOffload = TapOffload(8);
    /// UDP to be IP-fragmented. Accepted by the kernel and without effect since Linux 4.14.
    pub const UFO: TapOffload = TapOffload(0x10);
    /// UDP segmentation over IPv4 (Linux 6.2).
    pub const USO4: TapOffload = TapOffload(0x20);
    /// UDP segmentation over IPv6 (Linux 6.2).
    pub const USO6: TapOffload = TapOffload(0x40);

    /// The kernel's bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// True when every bit of `other` is set.
    pub fn contains(self, other: TapOffload) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits without those of `other`.
    pub fn without(self, other: TapOffload) -> TapOffload {
        TapOffload(self.0 & !other.0)
    }
}

impl BitOr for TapOffload {
    type Output = TapOffload;

    fn bitor(self, other: TapOffload) -> TapOffload {
        TapOffload(self.0 | other.0)
    }
}

/// The frames that the tap may give to the guest, under the features it took.
pub fn tap_offload(acked: u64) -> TapOffload {
    let table = [
        (feature::VIRTIO_NET_F_GUEST_CSUM, TapOffload::CSUM),
        (feature::VIRTIO_NET_F_GUEST_TSO4, TapOffload::TSO4),
        (feature::VIRTIO_NET_F_GUEST_TSO6, TapOffload::TSO6),
        (feature::VIRTIO_NET_F_GUEST_ECN, TapOffload::ECN),
        (feature::VIRTIO_NET_F_GUEST_USO4, TapOffload::USO4),
        (feature::VIRTIO_NET_F_GUEST_USO6, TapOffload::USO6),
    ];
    if !has(acked, feature::VIRTIO_NET_F_GUEST_CSUM) {
        return TapOffload::NONE;
    }
    table
        .into_iter()
        .filter(|&(number, _)| has(acked, number))
        .fold(TapOffload::NONE, |all, (_, offload)| all | offload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_segments_what_the_guest_did_not_take() {
        assert_eq!(tap_offload(0), TapOffload::NONE);
        let tso = 1 << feature::VIRTIO_NET_F_GUEST_TSO4 | 1 << feature::VIRTIO_NET_F_GUEST_TSO6;
        assert_eq!(tap_offload(tso), TapOffload::NONE, "needs the checksum feature");
        let all = tap_offload(tso | 1 << feature::VIRTIO_NET_F_GUEST_CSUM);
        assert_eq!(all, TapOffload::CSUM | TapOffload::TSO4 | TapOffload::TSO6);
    }
}
