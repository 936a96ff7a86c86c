//! Adding 1 to an eventfd that another party owns, without ever waiting.
//!
//! Call and error eventfds belong to the front-end. A `write` to an eventfd blocks while its
//! counter is full, and O_NONBLOCK is no protection: that flag belongs to the open file, which the
//! front-end has too, and it can take the flag away again. A worker that stood in such a `write`
//! would stand there indefinitely, with a ring's lock, and all its ports with it.
//!
//! Inside the kernel a counter is raised without waiting (`eventfd_signal`, fs/eventfd.c): a full
//! one stays full. User space reaches that function by asynchronous I/O. A request with
//! `IOCB_FLAG_RESFD` (io_submit(2)) names an eventfd to raise when it completes. The request here
//! reads one byte of /dev/zero, so it completes before io_submit returns. A descriptor that is not
//! an eventfd is refused with EINVAL and is never written to. That costs some 350 ns more than a
//! `write`, once for each batch of frames that the driver wants to know of.
//!
//! Each worker has a [`Signaller`] of its own. The threads of the control side share one: they
//! signal only at changes, and a context for each of a thousand connections would exceed
//! `fs.aio-max-nr`.
//!
//! What can go wrong: asynchronous I/O may be missing (a seccomp filter, `fs.aio-max-nr` used up).
//! The program says so at its start and falls back to poll and `write`. A front-end then has the
//! moment between these two in which it can fill the counter, and so can stop a worker for as long
//! as it likes. Every completion leaves an event in a queue of bounded length, which is emptied in
//! time.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

/// Requests that may wait to be reaped.
const EVENTS: usize = 128;
/// After so many requests their events are reaped. Less than [`EVENTS`]: the queue is never full.
const REAP: usize = 64;

/// linux/aio_abi.h.
const IOCB_CMD_PREAD: u16 = 0;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct io_event` (linux/aio_abi.h), whose fields are not used.
type CompletionEvent = [u64; 4];

/// The asynchronous way.
#[derive(Debug)]
struct Requests {
    /// The kernel's `aio_context_t`.
    context: libc::c_ulong,
    zero: File,
    /// Completed and not yet reaped.
    completed: usize,
}

impl Requests {
    fn new() -> io::Result<Requests> {
        let zero = File::open("/dev/zero")?;
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one aio_context_t, which is a long, to the variable.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, EVENTS, &raw mut context) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Requests { context, zero, completed: 0 })
    }

    /// Raises the counter. False: the descriptor is no eventfd.
    fn signal(&mut self, eventfd: &File) -> bool {
        if self.completed >= REAP {
            self.reap();
        }
        let mut byte = 0u8;
        // SAFETY: an iocb is plain numbers, of which 0 is a valid value.
        let mut request: libc::iocb = unsafe { std::mem::zeroed() };
        request.aio_lio_opcode = IOCB_CMD_PREAD;
        request.aio_fildes = self.zero.as_raw_fd() as u32;
        request.aio_buf = (&raw mut byte).addr() as u64;
        request.aio_nbytes = 1;
        request.aio_flags = IOCB_FLAG_RESFD;
        request.aio_resfd = eventfd.as_raw_fd() as u32;
        let mut list = [&raw mut request];
        // SAFETY: the list has one request, which the kernel copies. The byte is written before the
        // call returns, because /dev/zero completes at once, so it lives long enough. The context
        // is ours until it is dropped.
        let done =
            unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1usize, list.as_mut_ptr()) };
        let done = done == 1;
        self.completed += usize::from(done);
        done
    }

    /// Takes the events of completed requests out of the kernel's queue.
    fn reap(&mut self) {
        let mut events = [CompletionEvent::default(); EVENTS];
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for the events asked for, and the time outlives the call, which
        // does not wait.
        let reaped = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                0usize,
                EVENTS,
                events.as_mut_ptr(),
                &raw const at_once,
            )
        };
        self.completed = self.completed.saturating_sub(usize::try_from(reaped).unwrap_or(0));
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // SAFETY: the context is ours, no request is under way, and it is not used again.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// Raises eventfds for one thread, or for several one after the other.
#[derive(Debug, Default)]
pub struct Signaller(Option<Requests>);

impl Signaller {
    /// The way that never waits.
    ///
    /// # Errors
    /// This system has no asynchronous I/O for us. `Signaller::default()` then uses poll and
    /// `write`.
    pub fn new() -> io::Result<Signaller> {
        Requests::new().map(|requests| Signaller(Some(requests)))
    }

    /// Adds 1 to an eventfd. A full counter stays full: its reader has been woken. False: the
    /// counter is unchanged.
    pub fn signal(&mut self, eventfd: &File) -> bool {
        match &mut self.0 {
            Some(requests) => requests.signal(eventfd),
            None => write_if_room(eventfd),
        }
    }

    /// Makes this the calling thread's own.
    pub fn install(self) {
        OWN.set(Some(self));
    }
}

thread_local! {
    static OWN: RefCell<Option<Signaller>> = const { RefCell::new(None) };
}

/// Of the threads that have none of their own.
static SHARED: Mutex<Option<Signaller>> = Mutex::new(None);

/// Makes the shared [`Signaller`], while the process has no guest yet.
pub fn prepare_shared() {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.get_or_insert_with(|| Signaller::new().unwrap_or_default());
}

/// Adds 1 to an eventfd by the calling thread's [`Signaller`], or by the shared one. False: the
/// counter is unchanged.
pub fn signal(eventfd: &File) -> bool {
    let own = OWN.try_with(|own| match own.try_borrow_mut().as_deref_mut() {
        Ok(Some(own)) => Some(own.signal(eventfd)),
        _ => None,
    });
    own.ok().flatten().unwrap_or_else(|| {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.get_or_insert_with(|| Signaller::new().unwrap_or_default()).signal(eventfd)
    })
}

/// As safe as it can be without asynchronous I/O: see the essay.
fn write_if_room(eventfd: &File) -> bool {
    let mut poll = libc::pollfd { fd: eventfd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    let one = 1u64.to_ne_bytes();
    // SAFETY: one pollfd that outlives the call, and 8 bytes that are read; the descriptor is open.
    unsafe {
        libc::poll(&raw mut poll, 1, 0) == 1
            && poll.revents & libc::POLLOUT != 0
            && libc::write(poll.fd, one.as_ptr().cast(), one.len()) == 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::{EfdFlags, EventFd};

    /// A counter that has room for `room` more, and blocks.
    fn eventfd(room: u64) -> (EventFd, File) {
        let eventfd = EventFd::from_flags(EfdFlags::empty()).unwrap();
        eventfd.write(u64::MAX - 1 - room).unwrap();
        let file = File::from(std::os::fd::AsFd::as_fd(&eventfd).try_clone_to_owned().unwrap());
        (eventfd, file)
    }

    #[test]
    fn raises_a_counter_as_often_as_it_is_asked() {
        let (eventfd, file) = eventfd(5000);
        let mut signaller = Signaller::new().unwrap();
        for _ in 0..1000 {
            assert!(signaller.signal(&file), "more requests than the kernel's queue holds");
        }
        assert_eq!(eventfd.read().unwrap(), u64::MAX - 1 - 5000 + 1000);
    }

    /// A blocking eventfd with a full counter held the worker indefinitely.
    #[test]
    fn a_full_counter_that_blocks_is_not_waited_for() {
        for mut signaller in [Signaller::new().unwrap(), Signaller::default()] {
            let (_eventfd, file) = eventfd(0);
            signaller.signal(&file);
            signaller.signal(&file);
        }
    }

    #[test]
    fn what_is_no_eventfd_is_not_written_to() {
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(!Signaller::new().unwrap().signal(&writer));
        drop(writer);
        assert_eq!(io::Read::read(&mut reader, &mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn without_asynchronous_io_a_counter_is_raised_too() {
        let (eventfd, file) = eventfd(5);
        assert!(Signaller::default().signal(&file));
        assert_eq!(eventfd.read().unwrap(), u64::MAX - 5);
    }

    #[test]
    fn a_thread_uses_its_own_or_the_shared_one() {
        let (eventfd, file) = eventfd(5);
        assert!(signal(&file));
        Signaller::new().unwrap().install();
        assert!(signal(&file));
        assert_eq!(eventfd.read().unwrap(), u64::MAX - 4);
    }
}
