//! One port as a VMM has to see it.

use std::path::PathBuf;

use crate::config::{FrontendSocket, PortConfig};
use crate::net::mac::Mac;

/// Ring size to ask for: the largest that QEMU takes, and the one that saves most wake-ups.
pub(super) const RING_SIZE: u16 = 1024;

/// One port as the VMM has to see it.
#[derive(Clone, Copy, Debug)]
pub struct ShownPort<'a> {
    /// The port.
    pub port: &'a PortConfig,
    /// The guest's MAC address.
    pub mac: Mac,
}

impl ShownPort<'_> {
    /// The socket's path from the root, because the VMM runs elsewhere, and whether the VMM has to
    /// listen on it.
    pub(super) fn socket(&self) -> (PathBuf, bool) {
        let (path, vmm_listens) = match &self.port.socket {
            FrontendSocket::Listen(path) => (path.clone(), false),
            FrontendSocket::Connect(path) => (path.clone(), true),
            // Refused by `Printer::text`; every VMM refuses an empty path.
            FrontendSocket::Fd(_) => (PathBuf::new(), false),
        };
        (std::path::absolute(&path).unwrap_or(path), vmm_listens)
    }
}
