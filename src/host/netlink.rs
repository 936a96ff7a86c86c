//! The blocking face of rtnetlink.
//!
//! rtnetlink is asynchronous; we are not. A current-thread runtime lives inside [`Netlink`] and
//! turns only while a call waits: no thread is started and nothing happens between calls. Each call
//! is one question and its answer, a few tens of microseconds. It has a time limit, because the
//! answer never comes if the packet crate cannot decode it.
//!
//! The socket belongs to the network namespace of the thread that calls [`Netlink::open`],
//! whichever thread uses it later.
//!
//! Errors are `io::Error`s that keep the kernel's errno: what EBUSY or EINVAL means depends on what
//! was attempted, so the callers (`parent.rs`, `macvtap.rs`) put it into words.
//!
//! | file | idea |
//! | --- | --- |
//! | [`questions`] | Questions, and dumps of a table |
//! | [`changes`] | Devices and addresses created, changed and deleted |

pub(crate) mod changes;
pub(crate) mod questions;

use std::future::Future;
use std::io;
use std::time::Duration;

use rtnetlink::Handle;
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};

/// How long an answer may take. Creating a device waits for RCU grace periods and for all
/// other holders of the kernel's RTNL lock: seconds are possible on a busy host.
const PATIENCE: Duration = Duration::from_secs(20);

/// A netlink connection to one network namespace.
#[derive(Debug)]
pub struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

impl Netlink {
    /// Opens a connection to the calling thread's network namespace.
    pub fn open() -> Result<Netlink> {
        let failed = |error: io::Error| {
            Error::system(
                "netlink socket",
                format!("cannot be opened: {error}"),
                "allow AF_NETLINK sockets (RestrictAddressFamilies= of systemd, seccomp filters)",
            )
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (connection, handle, _news) = {
            let _inside = runtime.enter();
            rtnetlink::new_connection().map_err(failed)?
        };
        drop(runtime.spawn(connection));
        Ok(Netlink { runtime, handle })
    }

    /// Turns the runtime until the answer is there.
    fn wait<T>(
        &self,
        answer: impl Future<Output = std::result::Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        self.runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(message.to_io()),
                Ok(Err(other)) => Err(io::Error::other(other)),
                Err(_) => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            }
        })
    }
}
