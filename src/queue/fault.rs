//! When guest memory goes away under our hands.
//!
//! Guest memory is a file of the front-end's. A front-end that shrinks it after we mapped it makes our
//! next touch of a page beyond its end a SIGBUS, and that would end the process and every neighbour's
//! port with it. (System calls that touch such a page merely fail with EFAULT; it is the ring and the
//! copies that matter.) No check in advance can prevent this, so the signal is caught: when the address
//! lies in a registered guest region, the whole region is covered with fresh zero pages, the region is
//! marked as lost, and the interrupted access goes on and reads zeros. The ring's worker sees the mark at
//! the end of its turn and stops the ring. Any other SIGBUS is as fatal as it was.
//!
//! A signal handler may interrupt anything, so it takes no lock and allocates nothing: the regions are
//! in a table of atomics, written by the control side before anything can touch them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use log::error;

/// Most regions watched at one time in the process. Beyond that, memory is used unwatched.
const SLOTS: usize = 4096;

struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; SLOTS];

/// A watched region; dropping it ends the watch.
#[derive(Debug)]
pub struct Watched(Option<usize>);

impl Watched {
    /// Watches `len` bytes of guest memory mapped at `host`.
    pub fn new(host: *const u8, len: usize) -> Watched {
        let free = TABLE.iter().position(|slot| {
            slot.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        match free {
            Some(index) => {
                let slot = &TABLE[index];
                slot.lost.store(false, Ordering::Relaxed);
                slot.start.store(host as usize, Ordering::Relaxed);
                // Last, because a region without an end holds no address.
                slot.end.store(host as usize + len, Ordering::Release);
            }
            None => {
                error!("more than {SLOTS} guest memory regions: one is not watched for truncation")
            }
        }
        Watched(free)
    }

    /// True when the region was truncated and has been replaced by zeros.
    pub fn lost(&self) -> bool {
        self.0.is_some_and(|index| TABLE[index].lost.load(Ordering::Relaxed))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(slot) = self.0.and_then(|index| TABLE.get(index)) {
            slot.end.store(0, Ordering::Release);
            slot.start.store(0, Ordering::Relaxed);
            slot.taken.store(false, Ordering::Release);
        }
    }
}

/// Catches SIGBUS for the whole process from now on.
pub fn install() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one; it is filled in below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and is async-signal-safe.
    if unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; SIGBUS carries an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let mut covered = false;
    // While the memory table changes, the same region is in two maps: both have lost it.
    for slot in &TABLE {
        let end = slot.end.load(Ordering::Acquire);
        let start = slot.start.load(Ordering::Relaxed);
        if start <= address && address < end {
            slot.lost.store(true, Ordering::Relaxed);
            covered = covered || cover(start, end);
        }
    }
    if covered {
        return;
    }
    // Not ours: the default action, at once, when the access is repeated.
    // SAFETY: resetting a disposition is async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Puts zero pages in the place of a region. `mmap` is a plain system call: safe in a handler.
fn cover(start: usize, end: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    // SAFETY: exactly the pages of a guest region, which only volatile and atomic accesses and copies
    // into and out of guest memory refer to; they may find anything there at any time.
    let address =
        unsafe { libc::mmap(start as *mut libc::c_void, end - start, protection, flags, -1, 0) };
    address != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn truncated_memory_reads_as_zeros_and_is_marked() {
        install().unwrap();
        let len = 4 * 4096;
        let file = tempfile::tempfile().unwrap();
        file.set_len(len as u64).unwrap();
        // SAFETY: a fresh mapping of our own file.
        let host = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        }
        .cast::<u8>();
        let watched = Watched::new(host, len);
        let again = Watched::new(host, len);
        // SAFETY: inside the mapping.
        unsafe { host.add(5000).write_volatile(7) };
        file.set_len(0).unwrap();
        assert!(!watched.lost());
        // SAFETY: inside the mapping, whose file is gone: the handler makes this 0.
        assert_eq!(unsafe { host.add(5000).read_volatile() }, 0);
        assert!(watched.lost() && again.lost());
        drop(again);
        drop(watched);
        // SAFETY: our mapping, by now anonymous.
        unsafe { libc::munmap(host.cast(), len) };
    }
}
