//! A process that outlives this one, for descriptors that cannot be closed.
//!
//! When a process ends, the kernel closes its descriptors, and waits for the server of a file on
//! FUSE: neither SIGTERM nor SIGKILL ends the process then. If such descriptors were kept
//! (`received_fd.rs`), a child that shares the table of descriptors is started at the end. This
//! process closes all the others and ends; the child is then the last holder of the table, ends
//! too, and does the waiting, if the server is still silent. It holds no other resource: no socket,
//! no device, no lock.
//!
//! What can go wrong: a process that is killed or crashes starts no child; the kernel waits then.

use log::warn;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use nix::unistd::{Pid, getpid, getppid};

use crate::vhost_user::received_fd::all_kept;

/// Logs what [`take_over`] will do.
pub fn announce() {
    match all_kept().len() {
        0 => {}
        n => {
            warn!("{n} descriptors of front-ends cannot be closed: a child process will hold them")
        }
    }
}

/// Leaves the kept descriptors to a process that outlives this one, if there are any. The very last
/// step of the process, after the last line of its log: afterwards it has no other descriptor,
/// standard error included.
pub fn take_over() {
    let mut kept: Vec<u32> = all_kept().into_iter().filter_map(|fd| fd.try_into().ok()).collect();
    if kept.is_empty() {
        return;
    }
    kept.sort_unstable();
    let parent = getpid();
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: as fork(), but with the table of descriptors shared. The child runs on a copy of this
    // stack and calls only functions that are safe in the child of a process with threads.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        0 => hold(parent),
        // The kernel waits then, as after a crash.
        -1 => {}
        _ => {
            let mut first = 0;
            for fd in kept.into_iter().chain([u32::MAX]) {
                if first < fd {
                    // SAFETY: no code of this process uses a descriptor any more.
                    unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
                }
                first = fd.saturating_add(1);
            }
        }
    }
}

/// The child: waits for its parent's end, then ends.
fn hold(parent: Pid) -> ! {
    let pause = TimeSpec::new(0, 1_000_000);
    while getppid() == parent {
        let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &pause);
    }
    // SAFETY: it runs no code of this process any more.
    unsafe { libc::_exit(0) }
}
