//! The end of the process, in time for every deed of a tenant.
//!
//! A service manager gives the process a moment and then kills it; a macvtap device would be left
//! behind. So each wait has a limit ([`PATIENCE`]), and all waits run at the same time:
//!
//! 1. The sockets vanish, and every front-end thread and worker is asked to end.
//! 2. Those that end within the time have released all that they held. Usually that takes a
//!    millisecond.
//! 3. Ports, parents and devices are taken back. This waits for the kernel only.
//!
//! A thread that does not end hangs in the kernel (on a disk behind the guest's memory, say) and
//! may have any lock of the data plane. Then no such lock is taken: devices are deleted by netlink,
//! which needs none, and the kernel cleans up the rest at exit. The guardian restores a parent's
//! address (`host/mac_guard.rs`).

use std::mem;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::warn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::control::context::ControlContext;
use crate::control::kernel_port::give_back;
use crate::control::port::Port;
use crate::control::port_table::PortTable;
use crate::vhost_user::last_holder;

/// How long the process waits for its threads.
const PATIENCE: Duration = Duration::from_millis(300);

/// Takes everything back: sessions, sockets, devices. Failures are reported, not returned: the rest
/// is still to be done. Afterwards a hanging thread cannot delay any drop.
pub(crate) fn close(mut ports: PortTable<Port>, mut context: ControlContext) {
    let until = Instant::now() + PATIENCE;
    ports.iter_mut().for_each(Port::stop);
    context.pool.stop();
    let ended = front_ends_ended(&ports, &context, until);
    let ended = ended && context.pool.join(until);
    let mut devices = Vec::new();
    while let Some(port) = ports.pop_first() {
        devices.extend(if ended { port.close(&mut context) } else { port.abandon() });
    }
    if ended {
        context.parents.close(context.host.as_mut());
    } else {
        warn!("a thread hangs in the kernel; the process ends without it");
    }
    for error in give_back(devices, context.host.as_mut()) {
        warn!("{error}");
    }
    if ended {
        drop(context);
    } else {
        // Dropping would wait for the locks and the threads.
        mem::forget(context);
    }
    last_holder::announce();
}

/// Waits until every front-end's connection has ended. False when one has not in time.
fn front_ends_ended(ports: &PortTable<Port>, context: &ControlContext, until: Instant) -> bool {
    loop {
        if !ports.iter().any(Port::is_connected) {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        let Some(left) = u16::try_from(left.as_millis()).ok().filter(|&left| left > 0) else {
            return false;
        };
        let mut fds = [PollFd::new(context.notifier.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(left));
        let _ = context.notifier.read();
    }
}
