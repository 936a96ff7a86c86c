//! Back-ends that are started for a sample and ended after it: this program and its peers.
//!
//! | file | contender |
//! | --- | --- |
//! | `process` | how a program is started on its processor, and ended |
//! | `ours` | this program |
//! | `dpdk` | DPDK's testpmd as a back-end (net_vhost) |
//! | `dpdk_uplink` | the same between a guest and the parent: net_af_packet, net_tap, net_af_xdp |
//! | `testpmd` | DPDK's testpmd as another guest (virtio-user) |
//! | `kernel` | the kernel alone: macvtap and tap devices with a loop of system calls |
//! | `command` | any other, as the user names it in `PEER` |
//!
//! Each sample has a fresh process in the same place, so no contender gains by a longer run.

pub mod command;
pub mod dpdk;
pub mod dpdk_uplink;
pub mod kernel;
pub mod ours;
pub mod process;
pub mod testpmd;

use std::path::{Path, PathBuf};

use crate::Result;

/// A running back-end with a socket for each guest.
pub trait Backend {
    /// Where the guests connect.
    fn sockets(&self) -> &[PathBuf];
    /// The process whose processor time counts.
    fn pid(&self) -> u32;
}

/// Waits until all these paths are sockets; the error names one that is not.
///
/// # Errors
/// One was not there in time.
pub fn await_sockets(sockets: &[PathBuf], process: &mut process::Process) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket =
        |path: &Path| path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    for socket in sockets {
        process.wait_until(|| is_socket(socket), &format!("no socket {}", socket.display()))?;
    }
    Ok(())
}
