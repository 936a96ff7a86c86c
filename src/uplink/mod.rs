//! A port's device side: everything between its configuration and the queues that carry its frames.
//!
//! A port of type macvtap is a kernel network device on top of a parent, plus one character device
//! file descriptor per queue pair. This folder creates the device or adopts one, keeps the host's
//! network stack off it, opens the queues and gives everything back at the end. All of it is control
//! plane: it may wait, allocate and fail with an [`Error`](crate::error::Error). The exceptions are
//! the queues, [`TapQueue`] and [`PacketQueue`], whose calls are what the data path uses.
//!
//! A port in userspace has no device of its own. Its switch shares one [`PacketQueue`] on the parent,
//! and what the kernel's macvlan would do to the parent and the host is done by [`HostFilter`] and
//! [`MacGuard`]: both end well however the process ends.
//!
//! The way through the folder, in the order in which a port comes to life:
//!
//! | file         | what it holds |
//! |--------------|---------------|
//! | `netlink.rs` | [`Netlink`]: the blocking face of rtnetlink: look up, create, change, delete |
//! | `link.rs`    | [`LinkInfo`]: one device, as the kernel describes it |
//! | `owner.rs`   | [`Owner`]: the lock that keeps two processes off one device, or one parent |
//! | `parent.rs`  | [`Parent`]: may this port live on this parent beside its siblings? |
//! | `macvtap.rs` | [`Macvtap`]: the port itself, from `open` on |
//! | `create.rs`  | [`MacvtapSpec`]: what a device shall be, and making a new one |
//! | `foresee.rs` | [`Foresight`]: which ports can be had, before any of them is made |
//! | `adopt.rs`   | what an existing device must be, and how it is put back |
//! | `silence.rs` | no ARP, no IPv6, all multicast: the host side stays mute, the guest hears |
//! | `node.rs`    | which character device is ours, and opening none but that |
//! | `sysfs.rs`   | the view of /sys that belongs to our network namespace |
//! | `tap.rs`     | [`TapQueue`]: one queue's descriptor, its ioctls, reads and writes |
//! | `closing.rs` | its end; [`close_all`]: many ports in the time of a few |
//! | `refusal.rs` | the kernel's refusals, put into words |
//! | `watch.rs`   | [`LinkWatch`]: the kernel's news about devices |
//! | `packet/`    | [`PacketQueue`]: an AF_PACKET socket on the parent, its ring, its memberships |
//! | `tcx.rs`     | [`HostFilter`]: the host's stack does not hear what is the guest's alone |
//! | `bpf.rs`     | the few BPF instructions and calls that it takes |
//! | `guard.rs`   | [`MacGuard`]: the parent has its address back, even after `kill -9` |
//! | `guardian.rs` | the process that sees to it |
//!
//! Two rules hold everywhere. A network namespace belongs to a *thread*: sockets, /proc/sys/net and
//! the owner's lock are those of the thread that calls. And nothing is derived from an interface
//! index alone: indices repeat between namespaces, and /dev does not know namespaces.

mod adopt;
mod bpf;
mod closing;
mod create;
mod foresee;
mod guard;
mod guardian;
mod link;
mod macvtap;
mod neighbours;
mod netlink;
mod node;
mod owner;
pub mod packet;
mod parent;
mod refusal;
mod rootless;
mod silence;
mod sysfs;
mod tap;
mod tcx;
mod upkeep;
mod watch;

use std::ops::BitOr;

pub use adopt::is_leftover;
pub use closing::close_all;
pub use create::{MacvtapSpec, NewMacvtap};
pub use foresee::{Foresight, try_host_filter, try_packet_socket};
pub use guard::MacGuard;
pub use guardian::guard_mac;
pub use link::LinkInfo;
pub use macvtap::Macvtap;
pub use neighbours::Neighbours;
pub use netlink::Netlink;
pub use owner::{Claim, Owner};
pub use packet::PacketQueue;
pub use parent::{Parent, Wanted, taker};
pub use rootless::is_rootless;
pub use tap::TapQueue;
pub use tcx::{HostFilter, MAX_SOURCES, Starve};
pub use upkeep::{Difference, differences};
pub use watch::{LinkEvent, LinkWatch};

/// What the reader of a tap (the guest) can take: the bits of TUNSETOFFLOAD.
///
/// A bit that is off makes the kernel do the work (checksum, segmentation) before a frame reaches
/// the tap. The segmentation bits count only together with [`TapOffload::CSUM`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapOffload(u32);

impl TapOffload {
    /// Nothing: every frame arrives complete and at most one MTU long.
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
