//! The control side's parts that all ports of the process share.

use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use crate::control::parents::Parents;
use crate::datapath::scratch::Scratch;
use crate::host::verbs::Host;
use crate::worker::pool::Pool;

/// The control side's parts that all ports of the process share.
pub struct ControlContext {
    /// All calls that need a privilege.
    pub host: Box<dyn Host>,
    /// The workers.
    pub pool: Pool<Scratch>,
    /// Written by workers and front-end threads when a port has something for the control thread.
    pub notifier: Arc<EventFd>,
    /// The parents with ports in userspace.
    pub parents: Parents,
}
