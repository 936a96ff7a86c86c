//! A thread of the program that stands still, as if it hung in the kernel.
//!
//! When the program is found to hang in a system call, that is repaired, so the tests cannot rely
//! on such a call. A debugger stops a single thread just as well: [`Frozen`] attaches to a thread
//! of a given name and leaves it stopped wherever it is. SIGKILL still ends it, and so does the end
//! of the process; but then the debugger must take note of it ([`Frozen::ends`]), or the process
//! would not count as ended.
//!
//! What can go wrong: only the attaching thread may use a [`Frozen`]; a test must not hand it on.

use std::fs;
use std::process::ExitStatus;
use std::ptr;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::netns::wait_until;

pub struct Frozen(libc::pid_t);

impl Frozen {
    /// Stops the thread of this name.
    pub fn thread(backend: &Backend, name: &str) -> Frozen {
        let tasks = format!("/proc/{}/task", backend.pid());
        let find = || {
            fs::read_dir(&tasks).unwrap().flatten().find(|task| {
                fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
            })
        };
        assert!(wait_until(Duration::from_secs(5), || find().is_some()), "no thread {name}");
        let thread: libc::pid_t = find().unwrap().file_name().to_str().unwrap().parse().unwrap();
        Frozen::task(thread)
    }

    /// Stops the control thread.
    pub fn control(backend: &Backend) -> Frozen {
        Frozen::task(backend.pid().try_into().unwrap())
    }

    fn task(thread: libc::pid_t) -> Frozen {
        let request = |request, what: &str| {
            // SAFETY: neither request takes an address of ours.
            let done = unsafe { libc::ptrace(request, thread, ptr::null_mut::<u8>(), 0) };
            assert_eq!(done, 0, "{what}: {}", std::io::Error::last_os_error());
        };
        request(libc::PTRACE_SEIZE, "attach");
        request(libc::PTRACE_INTERRUPT, "stop");
        let frozen = Frozen(thread);
        assert!(frozen.news(0), "the thread stops");
        frozen
    }

    /// Takes note of what has happened to the thread.
    fn news(&self, flags: libc::c_int) -> bool {
        let mut status = 0;
        // SAFETY: the status is ours to be written to.
        unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL | flags) == self.0 }
    }

    /// Waits for the end of the process, which must come within `timeout`.
    pub fn ends(&self, backend: &mut Backend, timeout: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            self.news(libc::WNOHANG);
            if let Some(status) = backend.try_wait_exit(Duration::ZERO) {
                return status;
            }
            assert!(start.elapsed() < timeout, "the process still runs after {timeout:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: as above.
        let done = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, ptr::null_mut::<u8>(), 0) };
        if done != 0 {
            // It is about to end, or has ended.
            self.news(0);
        }
    }
}
