//! Closing many queues at once.
//!
//! The kernel waits for an RCU grace period at every close of a tap (tap_put_queue), some 17 ms,
//! whether the device still exists or not: 32 queues one after the other take more than half a
//! second, which is all that a process has to leave in. Waiting in parallel they share one period. So
//! devices go first, one after the other (the kernel does no two at a time anyway), then all queues
//! together.

use std::sync::Arc;
use std::thread;

use super::{Macvtap, Netlink, TapQueue};
use crate::error::Error;

/// More threads than this gain nothing: the grace period is shared already.
const THREADS: usize = 64;

/// Ends the use of many ports as [`Macvtap::close`] does for one, in the time of a few. Goes on after
/// a failure; returns all of them.
pub fn close_all(ports: impl IntoIterator<Item = Macvtap>, netlink: &mut Netlink) -> Vec<Error> {
    let mut queues = Vec::new();
    let mut errors = Vec::new();
    for mut port in ports {
        errors.extend(port.give_back(netlink).err());
        queues.append(&mut port.take_queues());
    }
    close_together(queues);
    errors
}

/// Drops all queues in parallel. One that somebody else still holds is closed by whoever is last.
pub(super) fn close_together(mut queues: Vec<Arc<TapQueue>>) {
    let share = queues.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        while queues.len() > share {
            let mine = queues.split_off(queues.len() - share);
            // Without a thread for it, the share is dropped here: slower, but closed.
            let closer = thread::Builder::new().name("closer".into());
            if let Err(error) = closer.spawn_scoped(scope, move || drop(mine)) {
                log::debug!("closing queues one by one: {error}");
            }
        }
        drop(queues);
    });
}
