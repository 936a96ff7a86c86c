//! Starting a thread while tenants are served.
//!
//! A thread that cannot be started must cost one front-end or some time, never the process. The standard library
//! reports most reasons (no memory for the stack, RLIMIT_NPROC, the control group's limit of tasks) as an
//! error. One it does not: the new thread maps its signal stack by itself, and panics when it cannot,
//! which ends the process. That happens where the C library has a used stack at hand, so that nothing was
//! mapped before. [`room`] therefore maps and unmaps as much beforehand, in as many pieces.
//!
//! What can go wrong: another thread may use up the address space between the two. Guests cannot: what they
//! may map together is bounded, and leaves a quarter (`virtqueue/address_space.rs`).

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crate::sys::mapped::Mapped;

/// More than a signal stack, its guard page and what the C library maps for a new thread's heap header.
const ROOM: usize = 512 << 10;
/// Most threads that close descriptors: more gain nothing, since they wait for the same grace period.
const CLOSERS: usize = 64;
/// An ordinary page, in bytes.
const PAGE: usize = 4096;

/// Starts a thread with a stack of `stack` bytes.
///
/// # Errors
/// There is no room for it, or the system refuses; `act` is dropped.
pub fn start<T: Send + 'static>(
    name: String,
    stack: usize,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    room()?;
    Builder::new().name(name).stack_size(stack).spawn(act)
}

/// Starts a thread that ends within `scope`.
///
/// # Errors
/// As [`start`].
pub fn start_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    act: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    room()?;
    Builder::new().name(name.to_owned()).spawn_scoped(scope, act)
}

/// The name of a thread that works for `port`: the kernel shows 15 bytes.
pub fn name(kind: &str, port: &str) -> String {
    format!("{kind}-{port}").chars().take(15).collect()
}

/// Drops all of them in parallel: where closing a descriptor waits for the kernel's RCU, they share that time.
pub fn drop_together<T: Send>(mut items: Vec<T>) {
    let share = items.len().div_ceil(CLOSERS).max(1);
    std::thread::scope(|scope| {
        while items.len() > share {
            let mine = items.split_off(items.len() - share);
            // Without a thread for it, the share is dropped here: slower, but closed.
            if let Err(error) = start_scoped(scope, "closer", move || drop(mine)) {
                log::debug!("closing one by one: {error}");
            }
        }
        drop(items);
    });
}

/// Whether a new thread finds room for its signal stack.
///
/// # Errors
/// The address space, its limit or the number of mappings is used up.
pub fn room() -> io::Result<()> {
    // Access in the middle makes three mappings of one.
    Mapped::inaccessible(ROOM)?.allow_access(ROOM / 2, PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_and_it_is_given_back() {
        let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let before = mappings();
        for _ in 0..1000 {
            room().unwrap();
        }
        assert!(mappings() < before + 500, "{} mappings were left", mappings() - before);
        let thread = start("test".into(), 64 << 10, || 7).unwrap();
        assert_eq!(thread.join().unwrap(), 7);
    }
}
