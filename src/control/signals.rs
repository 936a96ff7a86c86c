//! The meaning of each signal for the process.
//!
//! All of a host's guests may hang on one process, so no signal may end it by the kernel's default:
//! a `kill -HUP` by habit, a log rotation's script, a timer's leftover. Every signal belongs to one
//! of four kinds. *End* (SIGTERM, SIGINT, SIGQUIT, SIGXCPU) takes everything back and exits with 0.
//! SIGUSR1 logs the counters. *Ignored* ones write a line, because the sender expected an effect:
//! SIGHUP will reload the configuration one day, SIGUSR2 will hand over. The rest either cannot be
//! caught or is left to the kernel on purpose: SIGTSTP and its kin stop and continue a foreground
//! process (`Ctrl-Z`, `fg`), SIGPIPE is off for every Rust program, and SIGSEGV and SIGBUS belong
//! to `virtqueue::fault`.
//!
//! Signals come through a descriptor: they are blocked in all threads, and no code of ours ever
//! runs in a handler (but `virtqueue::fault`). What can go wrong: a script that sends SIGHUP in a
//! loop; at most ten lines a minute are written, and then the number of those held back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use log::{info, warn};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::process::port_log::LogLimit;
use crate::sys::signal;

/// The orderly end.
const END: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGXCPU];

/// Ignored with a line.
const IGNORED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
];

/// The signal's order to the control loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Take everything back and end.
    End,
    /// Log the counters.
    Counters,
    /// No order.
    Nothing,
}

/// The signals of the process, as a descriptor.
pub(crate) struct Signals {
    fd: SignalFd,
    limit: LogLimit,
}

impl Signals {
    /// Blocks the signals and makes them readable. Call before any other thread exists.
    pub(crate) fn catch() -> io::Result<Signals> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGUSR1);
        END.into_iter().chain(IGNORED).for_each(|signal| set.add(signal));
        set.thread_block()?;
        // SIGXFSZ: a log file at its size limit makes write() fail, which is harmless. Real-time
        // signals have no meaning here.
        let quiet = (libc::SIGRTMIN()..=libc::SIGRTMAX()).chain([libc::SIGXFSZ]);
        quiet.for_each(signal::ignore);
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd, limit: LogLimit::default() })
    }

    /// Takes one signal that has come and returns its meaning.
    pub(crate) fn take(&mut self) -> Order {
        let Ok(Some(signal)) = self.fd.read_signal() else { return Order::Nothing };
        let Some(signal) = i32::try_from(signal.ssi_signo).ok().and_then(|n| n.try_into().ok())
        else {
            return Order::Nothing;
        };
        if END.contains(&signal) {
            info!("ends by signal {signal}");
            return Order::End;
        }
        if signal == Signal::SIGUSR1 {
            return Order::Counters;
        }
        if let Some(held_back) = self.limit.permit(Instant::now()) {
            let more = match held_back {
                0 => String::new(),
                n => format!(" ({n} lines before this were suppressed)"),
            };
            warn!("{}{more}", ignored(signal));
        }
        Order::Nothing
    }

    /// Reports the lines that were held back, once their minute is over. Returns when to ask again.
    pub(crate) fn flush(&mut self, now: Instant) -> Option<Instant> {
        if let Some(n) = self.limit.flush(now) {
            warn!("{n} more lines about signals in the last minute were suppressed");
        }
        self.limit.due()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn ignored(signal: Signal) -> String {
    match signal {
        Signal::SIGHUP => {
            "SIGHUP: ignored, the ports go on; the configuration cannot be reloaded yet, \
                           restart the program to change it"
                .to_owned()
        }
        other => format!("{other}: ignored, it has no meaning here; SIGTERM ends the program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signal_has_two_meanings() {
        assert!(END.iter().all(|signal| !IGNORED.contains(signal)));
        assert!(!END.contains(&Signal::SIGUSR1) && !IGNORED.contains(&Signal::SIGUSR1));
        assert!(ignored(Signal::SIGHUP).contains("the ports go on"));
    }
}
