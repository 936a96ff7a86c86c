//! What the data path knows of its port.
//!
//! The control side owns a port's device, socket and front-end (`control/port.rs`); the workers need a few
//! facts of it, which live here in atomics: its name, its MAC address, how long a frame may be, and which of its
//! queue pairs can receive. What happens to a frame with another source address is in `datapath/port/source_mac.rs`.

pub mod mac_policy;
pub(crate) mod source_mac;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::eventfd::EventFd;

use crate::datapath::port::mac_policy::MacPolicy;
use crate::net::ethernet::OVERHEAD;
use crate::net::mac::Mac;
use crate::process::port_log::PortLog;
use crate::switch::Stations;

/// The facts that the workers need of a port.
#[derive(Debug)]
pub struct PortData {
    /// The port's name, for the log.
    pub name: String,
    /// Where lines go that the guest, its front-end or the LAN can cause.
    pub log: PortLog,
    mac: AtomicU64,
    longest: AtomicU32,
    policy: MacPolicy,
    guarded: bool,
    /// No frame with the port's own address has come from the present guest yet, or since
    /// [`PortData::watch_own`].
    unknown: AtomicBool,
    /// Bit n: queue pair n has a receive ring that runs.
    receiving: AtomicU32,
    /// The address last seen from the guest that is not the port's; 0 when there is none to act on.
    wanted: AtomicU64,
    /// An address that the port could not take, because it is another's; 0 when there is none.
    denied: AtomicU64,
    /// The first address of the present guest whose frames were dropped; 0 when there is none, with
    /// the mark `REPORTED` once the control side has taken it.
    foreign: AtomicU64,
    /// The machines of the LAN, once the port is on one of our switches.
    stations: OnceLock<Arc<Stations>>,
    /// The new address that was found not to be heard on the wire. From the guest's first frame on, a switch
    /// may reflect what it sends.
    vetted: AtomicU64,
    /// An address that the guest has used and that was heard on the wire, to be told; 0 when there is none.
    heard: AtomicU64,
    /// Addresses that the port has had for its guests: such a guest may move away, be heard, and come back.
    had: [AtomicU64; 8],
    /// Addresses that the present guest uses beside the port's own, in passthru mode.
    beside: [AtomicU64; 4],
    notifier: Arc<EventFd>,
}

impl PortData {
    /// A port that has no device yet. `notifier` is rung when [`PortData::take_wanted`] has something new.
    pub fn new(name: &str, policy: MacPolicy, notifier: Arc<EventFd>) -> PortData {
        PortData {
            name: name.to_owned(),
            log: PortLog::new(name),
            mac: AtomicU64::new(0),
            longest: AtomicU32::new(0),
            policy,
            guarded: false,
            unknown: AtomicBool::new(true),
            receiving: AtomicU32::new(0),
            wanted: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            stations: OnceLock::new(),
            vetted: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            had: Default::default(),
            beside: Default::default(),
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
        self.mac.store(mac.to_u64(), Ordering::Relaxed);
        self.longest.store(mtu.saturating_add(OVERHEAD), Ordering::Relaxed);
    }

    /// The port's address.
    pub fn mac(&self) -> Mac {
        Mac::from_u64(self.mac.load(Ordering::Relaxed))
    }

    /// The device's MTU, in bytes.
    pub fn mtu(&self) -> u32 {
        self.longest.load(Ordering::Relaxed).saturating_sub(OVERHEAD)
    }

    /// Length of the longest frame with one VLAN tag or none, and without segmentation offload, in bytes.
    #[inline]
    pub fn longest_frame(&self) -> usize {
        self.longest.load(Ordering::Relaxed) as usize
    }

    /// Notes whether queue pair `index` can receive. The notifier tells when the first begins or the last
    /// ends: then the port comes up or goes down.
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
