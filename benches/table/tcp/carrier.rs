//! The carrier: one thread that moves frames between taps and back-ends, and sleeps when there are
//! none.
//!
//! Each guest has its turn: frames of its tap go out, frames of the back-end go in, at most a batch
//! each. If no guest had work, the carrier asks all far sides to wake it, looks at them once more,
//! and waits in `poll`.
//!
//! What can go wrong: if a far side has no room, the carrier does not poll its tap, because it
//! would spin. It waits for the far side's call instead.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

/// Most frames of a guest's turn in one direction.
pub const BATCH: usize = 64;
/// The longest sleep in milliseconds, so the thread notices its end.
const NAP: libc::c_int = 50;

/// What a guest's tap is connected to.
pub trait FarSide {
    /// Moves frames from the tap to the back-end, and returns how many.
    fn out(&mut self, tap: &File) -> usize;
    /// Moves frames from the back-end to the tap, and returns how many.
    fn inward(&mut self, tap: &File) -> usize;
    /// Whether a frame from the tap would find room.
    fn has_room(&self) -> bool;
    /// Asks to be woken; false if there is work already.
    fn rest(&mut self) -> bool;
    /// No longer asks to be woken.
    fn rise(&mut self);
    /// The descriptor that becomes readable when there is work.
    fn alarms(&self) -> Vec<RawFd>;
}

/// A guest: its tap and what that is connected to.
pub struct Guest {
    /// The tap of its namespace.
    pub tap: File,
    /// The back-end.
    pub far: Box<dyn FarSide>,
}

/// The step of the carrier's thread: a turn of each guest, or a sleep; returns the number of moved
/// frames.
pub fn carry(mut guests: Vec<Guest>) -> impl FnMut() -> usize {
    let mut sources: Vec<libc::pollfd> = Vec::new();
    for guest in &guests {
        let fds = std::iter::once(guest.tap.as_raw_fd()).chain(guest.far.alarms());
        sources.extend(fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }));
    }
    move || {
        let mut moved = 0;
        for Guest { tap, far } in &mut guests {
            moved += far.out(tap) + far.inward(tap);
        }
        if moved == 0 {
            let mut quiet = true;
            for guest in &mut guests {
                quiet &= guest.far.rest();
            }
            if quiet {
                let mut at = 0;
                for Guest { tap, far } in &guests {
                    // A negative descriptor is passed over.
                    sources[at].fd = if far.has_room() { tap.as_raw_fd() } else { -1 };
                    at += 1 + far.alarms().len();
                }
                // SAFETY: so many live pollfds.
                unsafe { libc::poll(sources.as_mut_ptr(), sources.len() as libc::nfds_t, NAP) };
            }
            for guest in &mut guests {
                guest.far.rise();
            }
        }
        moved
    }
}
