//! What a port is to be, resolved: the types that the rest of the program works with.
//!
//! Every default is filled in here, so no reader has to know one. The types hold what the user asked
//! for; what the host makes of it (the derived address, the parent's MTU) is found when the port is
//! opened.

use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::config::access::SocketAccess;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// Largest number of queue pairs of a port: the crate's kick masks and QEMU's own limits allow 64 rings.
pub const MAX_QUEUE_PAIRS: u16 = 32;

/// How the port and its front-end connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontendSocket {
    /// We listen at this path.
    Listen(PathBuf),
    /// We connect to this path, and retry indefinitely.
    Connect(PathBuf),
    /// An already connected socket, inherited.
    Fd(RawFd),
}

/// What carries a port's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A kernel macvtap device.
    #[default]
    Macvtap,
    /// A userspace port over AF_PACKET.
    Macvlan,
}

/// Where a port's MAC address comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacChoice {
    /// Stable, derived from the machine id and the port's name; in passthru mode the parent's.
    #[default]
    Auto,
    /// Given by the user.
    Given(Mac),
}

/// What happens to a frame from the guest with another source address than the port's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacChanges {
    /// The port takes the new address.
    Allow,
    /// The frame is dropped and counted.
    Deny,
}

/// What happens to a frame from the wire to a group that no bridge forwards (01:80:c2:00:00:00 to 0f).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReservedGroups {
    /// The guest receives it, as with a kernel device.
    #[default]
    Deliver,
    /// The guest does not receive it.
    Drop,
}

/// Which frames a guest may not send, because they concern the cable and not the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It may send any.
    Off,
    /// Neither spanning tree nor PAUSE (`switch::is_link_control`).
    Stp,
}

/// One port, resolved: no default is left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// The port's name, which is the macvtap device's too: at most 15 bytes.
    pub name: String,
    /// How the port and its front-end connect.
    pub socket: FrontendSocket,
    /// Who may connect to the socket, where we listen.
    pub access: SocketAccess,
    /// The parent network device's name.
    pub parent: String,
    /// What carries the frames.
    pub kind: Kind,
    /// How the parent is shared.
    pub mode: Mode,
    /// Where the MAC address comes from.
    pub mac: MacChoice,
    /// MTU in bytes (68 to 65535), the parent's when absent.
    pub mtu: Option<u32>,
    /// Queue pairs, 1 to [`MAX_QUEUE_PAIRS`].
    pub queue_pairs: u16,
    /// Most guest memory in bytes; twice the host's memory, and at least 16 GiB, when absent.
    pub memory_limit: Option<u64>,
    /// Source addresses accepted in source mode; empty in every other mode.
    pub sources: Vec<Mac>,
    /// The host and the siblings do not receive the frames of those sources (source mode, userspace ports).
    pub nodst: bool,
    /// What happens to frames from the wire to reserved groups (userspace ports).
    pub reserved_groups: ReservedGroups,
    /// Which frames do not leave the guest.
    pub guard: Guard,
    /// What happens to foreign source addresses.
    pub mac_changes: MacChanges,
    /// The kernel's behaviour to the letter (userspace ports only).
    pub compat: bool,
}

#[cfg(test)]
impl PortConfig {
    /// A plain port, for tests of what depends on a configuration.
    pub(crate) fn sample() -> PortConfig {
        PortConfig {
            name: "vm1".into(),
            socket: FrontendSocket::Listen("/run/vm1.sock".into()),
            access: SocketAccess::default(),
            parent: "eth0".into(),
            kind: Kind::Macvtap,
            mode: Mode::Bridge,
            mac: MacChoice::Auto,
            mtu: None,
            queue_pairs: 1,
            memory_limit: None,
            sources: Vec::new(),
            nodst: false,
            reserved_groups: ReservedGroups::Deliver,
            guard: Guard::Stp,
            mac_changes: MacChanges::Deny,
            compat: false,
        }
    }
}
