//! What the data path knows of its port.
//!
//! The control side owns a port's device, socket and front-end (`control/port.rs`); the workers
//! need a few facts of it, which live here in atomics: its name, its MAC address, how long a frame
//! may be, and which of its queue pairs can receive. What happens to a frame with another source
//! address is in `datapath/port/source_macs.rs`.

pub mod mac_policy;
pub(crate) mod source_macs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::eventfd::EventFd;

use crate::datapath::port::mac_policy::MacPolicy;
use crate::datapath::port::source_macs::SourceMacs;
use crate::net::ethernet::OVERHEAD;
use crate::net::mac::Mac;
use crate::process::port_log::PortLog;

/// The facts that the workers need of a port.
#[derive(Debug)]
pub struct PortData {
    /// The port's name, for the log.
    pub name: String,
    /// Where lines go that the guest, its front-end or the LAN can cause.
    pub log: PortLog,
    longest: AtomicU32,
    guarded: bool,
    /// Bit n: queue pair n has a receive ring that runs.
    receiving: AtomicU32,
    /// The addresses that the port and its guest use.
    pub(crate) macs: SourceMacs,
    notifier: Arc<EventFd>,
}

impl PortData {
    /// A port that has no device yet. `notifier` is written to when `macs.take_wanted` has
    /// something new.
    pub fn new(name: &str, policy: MacPolicy, notifier: Arc<EventFd>) -> PortData {
        PortData {
            name: name.to_owned(),
            log: PortLog::new(name),
            longest: AtomicU32::new(0),
            guarded: false,
            receiving: AtomicU32::new(0),
            macs: SourceMacs::new(policy, Arc::clone(&notifier)),
            notifier,
        }
    }

    /// The port with a guard or without one: whether frames that concern the cable leave its guest.
    pub fn guarded(self, guarded: bool) -> PortData {
        PortData { guarded, ..self }
    }

    /// Whether frames that concern the cable do not leave the guest.
    #[inline]
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The device behind the port has this address and this MTU (bytes).
    pub fn set_device(&self, mac: Mac, mtu: u32) {
        self.macs.set_own(mac);
        self.longest.store(mtu.saturating_add(OVERHEAD), Ordering::Relaxed);
    }

    /// The port's address.
    pub fn mac(&self) -> Mac {
        self.macs.own()
    }

    /// The device's MTU, in bytes.
    pub fn mtu(&self) -> u32 {
        self.longest.load(Ordering::Relaxed).saturating_sub(OVERHEAD)
    }

    /// Length of the longest frame with one VLAN tag or none, and without segmentation offload, in
    /// bytes.
    #[inline]
    pub fn longest_frame(&self) -> usize {
        self.longest.load(Ordering::Relaxed) as usize
    }

    /// Notes whether queue pair `index` can receive. The notifier is written to when the first one
    /// can, or none any more: then the port comes up or goes down.
    pub fn set_receiving(&self, index: u16, receives: bool) {
        let bit = 1u32.checked_shl(u32::from(index)).unwrap_or(0);
        let before = match receives {
            true => self.receiving.fetch_or(bit, Ordering::Relaxed),
            false => self.receiving.fetch_and(!bit, Ordering::Relaxed),
        };
        let after = if receives { before | bit } else { before & !bit };
        if (before == 0) != (after == 0) {
            let _ = self.notifier.write(1);
        }
    }

    /// The queue pairs that can receive, as a bit mask.
    pub fn receiving(&self) -> u32 {
        self.receiving.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
