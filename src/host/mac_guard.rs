//! The parent gets its own MAC address back when our process has ended, even by `kill -9`.
//!
//! In passthru mode the parent adopts a guest's change of address, as with a kernel macvlan. But
//! there the kernel puts the parent's address back when the port is deleted; an address set by
//! netlink stays. A host that has lost its address has lost its DHCP lease and its neighbours'
//! caches, and perhaps the administrator's way in. So before the first such change we start a
//! guardian: this very program once more, with the hidden subcommand `guard-mac`. It reads a pipe
//! whose other end only we hold. When our process ends, in any way, the kernel closes our end; the
//! guardian reads the end of the file, puts the address back, and ends.
//!
//! The messages in the pipe: `m` and six bytes before each change, so that the guardian knows the
//! addresses that we set, and leaves alone one that another program has set since; `q` when all is
//! well and it can just end. It writes `r` when it is ready, and [`MacGuard::start`] waits for
//! that. `guardian.rs` has its end of the pipe.
//!
//! What can go wrong: a kill that hits the guardian too (`systemctl kill -s KILL`, the OOM killer
//! on the whole control group) leaves the parent with the guest's address. A program that is
//! started again in the very milliseconds in which the guardian works must not take the guest's
//! address for the parent's own: the guardian keeps a lock (`device_lock.rs`) for its life, and
//! [`MacGuard::settle`] waits for that. The program is run from /proc/self/exe, which works after
//! its file was replaced, but not where /proc is not mounted.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::host::device_lock::{DeviceLock, LockName};
use crate::net::mac::Mac;

pub(crate) const READY: u8 = b'r';
pub(crate) const CHANGE: u8 = b'm';
pub(crate) const LEAVE: u8 = b'q';

/// How long the guardian may take to start, in milliseconds. It takes two; a host that swaps, more.
const START: u16 = 5000;

/// How long it may take to leave. After that it is killed, which then does no harm.
const LEAVING: Duration = Duration::from_secs(2);

/// How long another process's guardian may take to put an address back and leave.
const SETTLING: Duration = Duration::from_secs(5);

/// The guardian of one parent's address, seen from the process that it watches. Dropping it is
/// [`MacGuard::release`].
#[derive(Debug)]
pub struct MacGuard {
    /// Writes to the guardian; at its end the guardian acts.
    pipe: File,
    /// The guardian, to be reaped.
    child: Option<Child>,
}

impl MacGuard {
    /// Starts a guardian for the device with that index, in the calling thread's network namespace.
    /// `original` is the address that it gets back.
    ///
    /// Errors: no process can be started, or it did not get ready within five seconds, because
    /// there is another guardian for example.
    pub fn start(ifindex: u32, original: Mac) -> Result<MacGuard> {
        MacGuard::start_as(Path::new("/proc/self/exe"), ifindex, original)
    }

    /// Waits until no guardian is at work on the device; from then on the device's address is its
    /// own. Call it with the parent's lock in hand, before that address is read. As a rule there is
    /// no guardian, and this takes microseconds.
    ///
    /// Errors: there still is one after five seconds.
    pub fn settle(ifindex: u32) -> Result<()> {
        let end = Instant::now() + SETTLING;
        loop {
            match DeviceLock::take(&LockName::guardian(ifindex)) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => sleep(Duration::from_millis(5)),
            }
        }
    }

    /// As [`MacGuard::start`], for a process that is another program than vhost-user-macvtap (a
    /// test), which gives the program's path.
    pub fn start_as(program: &Path, ifindex: u32, original: Mac) -> Result<MacGuard> {
        MacGuard::spawn(program, ifindex, original).map_err(|error| {
            Error::system(
                "guardian of the parent's MAC address",
                format!("cannot be started: {error}"),
                "allow it to run its own program again, or deny MAC changes: --mac-changes deny",
            )
        })
    }

    /// A guardian that reads the other end of this file, for tests.
    #[cfg(test)]
    pub(crate) fn over(pipe: File) -> MacGuard {
        MacGuard { pipe, child: None }
    }

    fn spawn(program: &Path, ifindex: u32, original: Mac) -> io::Result<MacGuard> {
        let mut child = Command::new(program)
            .arg0(env!("CARGO_PKG_NAME"))
            .args(["guard-mac", "--ifindex", &ifindex.to_string(), "--mac", &original.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (pipe, answer) = (child.stdin.take(), child.stdout.take());
        let (Some(pipe), Some(mut answer)) = (pipe, answer) else {
            return Err(io::Error::other("no pipe"));
        };
        // From here on a failure drops the guard, which reaps the child.
        let guard = MacGuard { pipe: File::from(OwnedFd::from(pipe)), child: Some(child) };
        let mut fds = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(START))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut ready = [0];
        answer.read_exact(&mut ready)?;
        Ok(guard)
    }

    /// Announces to the guardian that the device is about to be given this address. Call it before
    /// each change. If none was ever announced, the guardian replaces any other address.
    ///
    /// Errors: EPIPE, the guardian is dead. The address should not be changed then.
    pub fn announce(&mut self, mac: Mac) -> io::Result<()> {
        let [a, b, c, d, e, f] = mac.0;
        self.pipe.write_all(&[CHANGE, a, b, c, d, e, f])
    }

    /// Releases the guardian, and reaps it. The caller has put the address back already.
    pub fn release(self) {}
}

impl Drop for MacGuard {
    fn drop(&mut self) {
        // A guardian that is dead already needs no message.
        let _ = self.pipe.write_all(&[LEAVE]);
        let Some(child) = &mut self.child else { return };
        let end = Instant::now() + LEAVING;
        while let Ok(None) = child.try_wait() {
            if Instant::now() > end {
                log::warn!("guardian of a MAC address (pid {}): does not end", child.id());
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }
}
