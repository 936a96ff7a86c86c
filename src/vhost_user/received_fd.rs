//! A descriptor that came from a front-end, and the way to close it.
//!
//! Closing is the dangerous part. `close` of a TCP socket with SO_LINGER and unsent data waits for
//! as long as the front-end likes; so does closing a Unix socket in whose queue such a socket
//! travels. `close` of a file on FUSE waits for its server, uninterruptibly. Therefore
//! [`ReceivedFd`] closes by itself when it is dropped, in one of two ways:
//!
//! * What is [foreign](FdKind::is_foreign) is not closed but *kept*, until the process ends, and
//!   then left to another one (`last_holder.rs`). [`kept`] counts them for the calling thread; a
//!   port that has too many is condemned (`frontend.rs`).
//! * Everything else is closed under [`interrupted`]: a timer sends this thread a signal each
//!   millisecond, so that a wait for a lingering socket ends at once. The socket's data is then
//!   sent in the background, as with a plain close. To set SO_LINGER to 0 instead would need the
//!   socket's lock, which a front-end can hold indefinitely: `sendmsg` keeps it while it reads from
//!   memory that is a FUSE file's.
//!
//! Only a port's own front-end thread drops descriptors. The control thread closes front-ends'
//! sockets, in whose queues descriptors may be: also under [`interrupted`].
//!
//! What can go wrong: a killed process does not end before the server of a kept file answers or
//! ends.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::signal::{SigEvent, SigSet, SigevNotify, Signal};
use nix::unistd::gettid;

use crate::sys::signal::interrupt_only;
use crate::vhost_user::fd_kind::FdKind;

/// The signal that interrupts a wait. Ignored by default, used by no part of this program.
const SIGNAL: Signal = Signal::SIGURG;
/// How long a close may wait, in nanoseconds.
const PATIENCE: libc::c_long = 1_000_000;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { count: 0, last: String::new() }) };
    static TIMER: OnceCell<Option<Timer>> = const { OnceCell::new() };
}

/// A descriptor of a front-end's.
#[derive(Debug)]
pub struct ReceivedFd {
    fd: ManuallyDrop<OwnedFd>,
    kind: FdKind,
}

impl ReceivedFd {
    /// The kind of the descriptor.
    pub fn kind(&self) -> &FdKind {
        &self.kind
    }
}

impl From<OwnedFd> for ReceivedFd {
    fn from(fd: OwnedFd) -> ReceivedFd {
        let kind = FdKind::of(fd.as_fd());
        ReceivedFd { fd: ManuallyDrop::new(fd), kind }
    }
}

impl Deref for ReceivedFd {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsFd for ReceivedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ReceivedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for ReceivedFd {
    fn drop(&mut self) {
        if self.kind.is_foreign() {
            everything().push(self.fd.as_raw_fd());
            KEPT.with_borrow_mut(|kept| {
                kept.count += 1;
                kept.last = self.kind.to_string();
            });
            return;
        }
        // SAFETY: taken once, in `drop`; no code uses the field afterwards.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        match self.kind {
            // The usual ones, whose closing never waits: no timer for them.
            FdKind::EventFd | FdKind::SharedMemory | FdKind::RegularFile { .. } => drop(fd),
            _ => interrupted(|| drop(fd)),
        }
    }
}

/// The descriptors that a thread has kept because it could not close them.
#[derive(Clone, Debug)]
pub struct Kept {
    /// How many.
    pub count: usize,
    /// The kind of the last one.
    pub last: String,
}

/// The kept descriptors of all threads.
static ALL_KEPT: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

fn everything() -> MutexGuard<'static, Vec<RawFd>> {
    ALL_KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The descriptors that the process has kept.
pub fn all_kept() -> Vec<RawFd> {
    everything().clone()
}

/// The kept descriptors of the calling thread.
pub fn kept() -> Kept {
    KEPT.with_borrow(Kept::clone)
}

/// Does `act` with its waits cut short: after a millisecond each interruptible wait in the kernel
/// ends. For closing descriptors whose wait another party decides.
pub fn interrupted<T>(act: impl FnOnce() -> T) -> T {
    TIMER.with(|timer| {
        let timer = timer.get_or_init(|| Timer::new().ok());
        if let Some(timer) = timer {
            timer.set(PATIENCE);
        }
        let outcome = act();
        if let Some(timer) = timer {
            timer.set(0);
        }
        outcome
    })
}

/// A timer that signals the thread that made it.
struct Timer(libc::timer_t);

impl Timer {
    fn new() -> io::Result<Timer> {
        catch_signal()?;
        // nix has this kind of event with some C libraries only.
        let mut event = SigEvent::new(SigevNotify::SigevNone).sigevent();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL as libc::c_int;
        event.sigev_notify_thread_id = gettid().as_raw();
        let mut id: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are valid for the call.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Timer(id))
    }

    /// Lets it fire each `period` nanoseconds; 0 stops it.
    fn set(&self, period: libc::c_long) {
        let time = libc::timespec { tv_sec: 0, tv_nsec: period };
        let value = libc::itimerspec { it_interval: time, it_value: time };
        // SAFETY: the timer is this thread's own and lives; the value is valid for the call.
        unsafe { libc::timer_settime(self.0, 0, &raw const value, ptr::null_mut()) };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Gives the signal a handler that does nothing (an ignored signal interrupts no wait), and lets it
/// through to this thread.
fn catch_signal() -> io::Result<()> {
    static CAUGHT: OnceLock<bool> = OnceLock::new();
    if !CAUGHT.get_or_init(|| interrupt_only(SIGNAL).is_ok()) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut set = SigSet::empty();
    set.add(SIGNAL);
    Ok(set.thread_unblock()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    /// A TCP socket whose closing waits for a minute: data is on its way that is never read.
    fn lingering(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 65536]).is_ok() {}
        let linger = libc::linger { l_onoff: 1, l_linger: 60 };
        nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::Linger, &linger).unwrap();
        ours.set_nonblocking(false).unwrap();
        (ours, theirs)
    }

    #[test]
    fn bug_f9_a_lingering_socket_is_closed_without_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        for _ in 0..10 {
            let (ours, _theirs) = lingering(&listener);
            drop(ReceivedFd::from(OwnedFd::from(ours)));
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(kept().count, 0);
    }

    #[test]
    fn what_may_wait_for_another_party_is_kept_open() {
        let Ok(terminal) = std::fs::File::open("/dev/ptmx") else { return };
        let again = terminal.try_clone().unwrap();
        let number = terminal.as_raw_fd();
        drop(ReceivedFd::from(OwnedFd::from(terminal)));
        assert_eq!(kept().count, 1);
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert!(link.to_string_lossy().contains("ptmx"), "{link:?}");
        assert!(FdKind::of(again.as_fd()).is_foreign());
    }
}
