//! The guardian: the process that puts a parent's MAC address back after its owner has ended.
//!
//! `mac_guard.rs` gives the reason for it, starts it, and writes to it. This file is its other end,
//! the hidden subcommand `guard-mac`: it detaches, reads until the pipe ends, compares the address,
//! and puts it back.
//!
//! It ignores the signals that end the program, ask it for counters or mean nothing to it: a shell
//! or a service manager sends these to all of its processes at once (`systemctl kill -s USR1`). It
//! has a process group of its own, so the terminal's signals do not reach it. It keeps only the
//! standard descriptors: a socket or a tap in its hands would outlive us. It holds a lock for its
//! life, so that a successor can wait for it.
//!
//! What can go wrong: an index may belong to another device by the time (the first was deleted).
//! That one has none of the addresses that were announced, and is left alone.

use std::io::{self, Read, Write};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::host::device_lock::{DeviceLock, LockName};
use crate::host::mac_guard::{CHANGE, LEAVE, READY};
use crate::host::netlink::Netlink;
use crate::net::mac::Mac;
use crate::sys::signal;

/// How often it tries to put the address back, 100 ms apart.
const ATTEMPTS: u32 = 5;

/// The guardian itself: the subcommand `guard-mac`. Returns when it has nothing more to do.
///
/// Errors: `mac` is none, there is no netlink, or the kernel refuses the address.
pub fn guard_mac(ifindex: u32, mac: &str) -> Result<()> {
    let usage = |reason| Error::invalid_value(format!("guard-mac --mac {mac}"), reason, "");
    let original: Mac = mac.parse().map_err(usage)?;
    withdraw();
    let _lock = DeviceLock::take(&LockName::guardian(ifindex))?;
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
                return Err(Error::system(
                    format!("network device {ifindex}"),
                    format!("its MAC address {original} cannot be restored: {error}"),
                    format!("ip link set DEVICE address {original}"),
                ));
            }
            Err(_) => sleep(Duration::from_millis(100)),
        }
        attempts += 1;
    }
}

/// Out of reach of signals that are meant for the process that started us, with none of its
/// descriptors.
fn withdraw() {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGPWR, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGPWR] {
        signal::ignore(number as libc::c_int);
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
    /// The watched process has ended without a release.
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

    /// Whether our process gave a device this address, as far as is known. True for every address
    /// if none was announced.
    fn made(&self, mac: Mac) -> bool {
        self.0 == [None, None] || self.0.contains(&Some(mac))
    }
}

/// Reads until it is released or alone. A read error, or bytes that are no message, count as the
/// end.
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
            log::warn!("parent {}: its MAC address {original} is restored", link.name);
            Ok(())
        }
        // Deleted, moved away, in order already, or changed by another program.
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
