//! The parent has its own MAC address back when we are gone, even by `kill -9`.
//!
//! In passthru mode a guest's change of address is followed by the parent, as with a kernel macvlan.
//! But there the kernel puts the parent's address back when the port goes; an address set by netlink
//! stays. A host that has lost its address has lost its DHCP lease and its neighbours' caches, and
//! perhaps the way in for whoever should repair it. So before the first such change a guardian is
//! started: this very program once more, with the hidden subcommand `guard-mac`. It reads a pipe whose
//! other end only we hold. When we end, however that is, the kernel closes our end; the guardian reads
//! the end of the file, puts the address back, and is done.
//!
//! What goes through the pipe: `m` and six bytes before each change, so that the guardian knows
//! which addresses are our doing, and leaves alone one that somebody else has set since; `q` when all
//! is well and it shall just leave.
//!
//! The guardian has a process group of its own and ignores SIGINT, SIGTERM and SIGHUP, for a shell or
//! a service manager sends these to all of us at once. It keeps no descriptor but the standard ones: a
//! socket or a tap in its hands would outlive us. It says `r` when it has done all that, and
//! [`MacGuard::start`] waits for this.
//!
//! What can go wrong: whoever kills the guardian too (`systemctl kill -s KILL`, the OOM killer on the
//! whole control group) leaves the parent with the guest's address. And a program that is started again
//! in the very milliseconds in which the guardian works may take the guest's address for the parent's
//! own. The program is run from /proc/self/exe, which works after its file was replaced, but not
//! where /proc is not mounted.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::Netlink;
use crate::error::{Error, Result};
use crate::mac::Mac;

const READY: u8 = b'r';
const CHANGE: u8 = b'm';
const LEAVE: u8 = b'q';

/// How long the guardian may take to start, in milliseconds. It takes two; a host that swaps, more.
const START: u16 = 5000;

/// How long it may take to leave. After that it is killed, which then does no harm.
const LEAVING: Duration = Duration::from_secs(2);

/// How often it tries to put the address back, 100 ms apart.
const ATTEMPTS: u32 = 5;

/// The guardian of one parent's address, seen from the process that it watches. Dropping it is
/// [`MacGuard::release`].
#[derive(Debug)]
pub struct MacGuard {
    child: Child,
    pipe: ChildStdin,
}

impl MacGuard {
    /// Starts a guardian for the device with that index, in the calling thread's network namespace.
    /// `original` is the address that it shall have again.
    ///
    /// Errors: no process can be started, or it did not get ready within five seconds.
    pub fn start(ifindex: u32, original: Mac) -> Result<MacGuard> {
        MacGuard::start_as(Path::new("/proc/self/exe"), ifindex, original)
    }

    /// As [`MacGuard::start`], for a process that is another program than vhost-user-macvtap (a test),
    /// which says where that is.
    pub fn start_as(program: &Path, ifindex: u32, original: Mac) -> Result<MacGuard> {
        MacGuard::spawn(program, ifindex, original).map_err(|error| {
            Error::failed(
                "guardian of the parent's MAC address",
                format!("cannot be started: {error}"),
                "allow it to run its own program again, or deny MAC changes: --mac-changes deny",
            )
        })
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
        let guard = MacGuard { child, pipe };
        let mut fds = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(START))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut ready = [0];
        answer.read_exact(&mut ready)?;
        Ok(guard)
    }

    /// Tells the guardian that the device is about to be given this address. To be called before
    /// each change; without, it puts back whatever it finds.
    ///
    /// Errors: EPIPE, the guardian is dead. The address should not be changed then.
    pub fn announce(&mut self, mac: Mac) -> io::Result<()> {
        let [a, b, c, d, e, f] = mac.0;
        self.pipe.write_all(&[CHANGE, a, b, c, d, e, f])
    }

    /// Sends the guardian away, and reaps it. Whoever calls this has put the address back already.
    pub fn release(self) {}
}

impl Drop for MacGuard {
    fn drop(&mut self) {
        // A guardian that is dead already needs no telling.
        let _ = self.pipe.write_all(&[LEAVE]);
        let end = Instant::now() + LEAVING;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > end {
                log::warn!("guardian of a MAC address (pid {}): does not leave", self.child.id());
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }
}

/// The guardian itself: the subcommand `guard-mac`. Returns when it has nothing more to do.
///
/// Errors: `mac` is none, there is no netlink, or the kernel refuses the address.
pub fn guard_mac(ifindex: u32, mac: &str) -> Result<()> {
    let usage = |fault| Error::Usage(vec![format!("guard-mac --mac {mac}: {fault}")]);
    let original: Mac = mac.parse().map_err(usage)?;
    withdraw();
    // Opened before it is needed: later, memory or descriptors may be short.
    let mut netlink = Netlink::open()?;
    let mut stdout = io::stdout();
    let _ = stdout.write_all(&[READY]).and_then(|()| stdout.flush());
    let mut ours = Changes::default();
    if watch(io::stdin().lock(), &mut ours) == End::Released {
        return Ok(());
    }
    let mut attempts = 1;
    loop {
        match restore(&mut netlink, ifindex, original, &ours) {
            Ok(()) => return Ok(()),
            Err(error) if attempts == ATTEMPTS => {
                return Err(Error::failed(
                    format!("network device {ifindex}"),
                    format!("its MAC address {original} cannot be put back: {error}"),
                    format!("ip link set DEVICE address {original}"),
                ));
            }
            Err(_) => sleep(Duration::from_millis(100)),
        }
        attempts += 1;
    }
}

/// Out of reach of signals that are meant for the one who started us, with none of its descriptors.
fn withdraw() {
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: to ignore a signal installs no code of ours.
        let _ = unsafe { signal(number, SigHandler::SigIgn) };
    }
    // SAFETY: nothing in this process has opened a descriptor above 2 yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if closed != 0 {
        // Before Linux 5.9. All that we know of are close-on-exec, so there is nothing to lose.
        log::debug!("close_range: {}", io::Error::last_os_error());
    }
    let _ = nix::sys::prctl::set_name(c"vum-guard-mac");
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All is well.
    Released,
    /// The one whom we watch has ended without a word.
    Alone,
}

/// The last two announced addresses: a change that was announced may not have come about.
#[derive(Debug, Default)]
struct Changes([Option<Mac>; 2]);

impl Changes {
    fn add(&mut self, mac: Mac) {
        let [_, last] = self.0;
        self.0 = [last, Some(mac)];
    }

    /// Whether a device that has this address has it by our doing, as far as is known.
    fn made(&self, mac: Mac) -> bool {
        self.0 == [None, None] || self.0.contains(&Some(mac))
    }
}

/// Reads until we are released or alone. What cannot be read, or is no message, counts as the end.
fn watch(mut pipe: impl Read, ours: &mut Changes) -> End {
    loop {
        let mut kind = [0];
        if pipe.read_exact(&mut kind).is_err() {
            return End::Alone;
        }
        let mut mac = Mac::default();
        match kind {
            [LEAVE] => return End::Released,
            [CHANGE] if pipe.read_exact(&mut mac.0).is_ok() => ours.add(mac),
            _ => return End::Alone,
        }
    }
}

fn restore(netlink: &mut Netlink, ifindex: u32, original: Mac, ours: &Changes) -> io::Result<()> {
    match netlink.link_by_index(ifindex)? {
        Some(link) if link.mac != original && ours.made(link.mac) => {
            netlink.set_mac(ifindex, original)?;
            log::warn!("parent {}: given its MAC address {original} back", link.name);
            Ok(())
        }
        // Deleted, moved away, in order already, or changed by somebody else.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(bytes: &[u8]) -> (End, Changes) {
        let mut ours = Changes::default();
        (watch(bytes, &mut ours), ours)
    }

    #[test]
    fn only_the_word_releases() {
        assert_eq!(end_of(b"q").0, End::Released);
        assert_eq!(end_of(b"m123456q").0, End::Released);
        for bytes in [&b""[..], b"m123456", b"m12345", b"x", b"m123456xq"] {
            assert_eq!(end_of(bytes).0, End::Alone, "{bytes:?}");
        }
    }

    #[test]
    fn addresses_of_others_are_left_alone() {
        let made = |bytes: &[u8], mac: &[u8; 6]| end_of(bytes).1.made(Mac(*mac));
        assert!(made(b"", b"anyone"));
        assert!(made(b"m111111m222222", b"111111") && made(b"m111111m222222", b"222222"));
        assert!(!made(b"m111111m222222m333333", b"111111"));
        assert!(!made(b"m111111", b"222222"));
    }
}
