//! What all ports of the process share on the control side.

use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use crate::control::parents::Parents;
use crate::datapath::scratch::Scratch;
use crate::host::neighbours::Neighbours;
use crate::host::netlink::Netlink;
use crate::worker::pool::Pool;

/// What all ports of the process share on the control side.
pub struct ControlContext {
    /// Changes and questions to the kernel about network devices.
    pub netlink: Netlink,
    /// The workers.
    pub pool: Pool<Scratch>,
    /// Written by workers and front-end threads when a port has something for the control thread.
    pub notifier: Arc<EventFd>,
    /// The parents with ports in userspace.
    pub parents: Parents,
    /// What the host knows of the LAN's machines.
    pub neighbours: Neighbours,
}
