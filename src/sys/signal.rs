//! What the process does with a signal, where no code of consequence runs for it.
//!
//! To install a handler is unsafe in general, because it interrupts any code. These two are
//! harmless: one signal is ignored, the other does nothing but interrupt a wait.

use libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Ignores the signal with this number, which may be a real-time one. Nothing happens for one that
/// cannot be ignored.
pub(crate) fn ignore(number: c_int) {
    // SAFETY: to ignore a signal installs no code of ours.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Lets the signal interrupt waits, without any other effect: an ignored signal interrupts nothing.
/// Calls that can be started again are started again.
///
/// # Errors
/// EINVAL for a signal that cannot be caught.
pub(crate) fn interrupt_only(signal: Signal) -> nix::Result<()> {
    extern "C" fn nothing(_: c_int) {}
    let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::Handler(nothing), flags, SigSet::empty());
    // SAFETY: the handler does nothing, so it may interrupt anything.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}
