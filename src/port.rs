//! What the data path knows of its port.
//!
//! The control side owns a port's device, socket and front-end (`server/port.rs`); the workers need four
//! facts of it, which live here in atomics: its name, its MAC address, how long a frame may be, and
//! what to do with a frame that has another source address.
//!
//! A front-end never tells the back-end that its guest has changed its MAC address (QEMU keeps that to
//! itself), so the only sign is a frame with a new source. Where the port may follow, the worker leaves
//! the address here and rings the control side's bell; the device is changed there, in its own time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::eventfd::EventFd;

use crate::config::MacChanges;
use crate::mac::Mac;

/// Ethernet header and one VLAN tag: what the kernel allows on top of an MTU (`is_skb_forwardable`).
const FRAME_OVERHEAD: u32 = 14 + 4;

/// Whether a frame may leave with its source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacJudgement {
    /// It is the port's own, or the port follows.
    Ours,
    /// It is not, and the port keeps to its own.
    Foreign,
}

/// The facts that the workers need of a port.
#[derive(Debug)]
pub struct PortData {
    /// The port's name, for the log.
    pub name: String,
    mac: AtomicU64,
    longest: AtomicU32,
    changes: MacChanges,
    /// The address last seen from the guest that is not the port's; 0 when there is none to act on.
    wanted: AtomicU64,
    bell: Arc<EventFd>,
}

impl PortData {
    /// A port that has no device yet. `bell` is rung when [`PortData::take_wanted`] has something.
    pub fn new(name: &str, changes: MacChanges, bell: Arc<EventFd>) -> PortData {
        PortData {
            name: name.to_owned(),
            mac: AtomicU64::new(0),
            longest: AtomicU32::new(0),
            changes,
            wanted: AtomicU64::new(0),
            bell,
        }
    }

    /// The device behind the port has this address and this MTU (bytes).
    pub fn set_device(&self, mac: Mac, mtu: u32) {
        self.mac.store(mac.to_u64(), Ordering::Relaxed);
        self.longest.store(mtu.saturating_add(FRAME_OVERHEAD), Ordering::Relaxed);
    }

    /// The port's address.
    pub fn mac(&self) -> Mac {
        Mac::from_u64(self.mac.load(Ordering::Relaxed))
    }

    /// Length of the longest frame without segmentation offload, in bytes.
    pub fn longest_frame(&self) -> usize {
        self.longest.load(Ordering::Relaxed) as usize
    }

    /// Judges a frame's source address.
    pub fn judge_source(&self, source: Mac) -> MacJudgement {
        let number = source.to_u64();
        if number == self.mac.load(Ordering::Relaxed) {
            return MacJudgement::Ours;
        }
        if self.changes == MacChanges::Deny || !source.is_station() {
            return MacJudgement::Foreign;
        }
        if self.wanted.swap(number, Ordering::Relaxed) != number {
            // A full counter means that the control side is awake anyway.
            let _ = self.bell.write(1);
        }
        MacJudgement::Ours
    }

    /// The new address that the guest uses, if the device has not followed yet.
    pub fn wanted(&self) -> Option<Mac> {
        let number = self.wanted.load(Ordering::Relaxed);
        (number != 0 && number != self.mac.load(Ordering::Relaxed)).then(|| Mac::from_u64(number))
    }

    /// Whatever address a guest wanted, it has gone.
    pub fn forget_wanted(&self) {
        self.wanted.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EfdFlags;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NEW: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn port(changes: MacChanges) -> PortData {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let port = PortData::new("p", changes, Arc::new(bell));
        port.set_device(OWN, 1500);
        port
    }

    #[test]
    fn deny_keeps_to_its_own() {
        let port = port(MacChanges::Deny);
        assert_eq!(port.judge_source(OWN), MacJudgement::Ours);
        assert_eq!(port.judge_source(NEW), MacJudgement::Foreign);
        assert_eq!(port.wanted(), None);
    }

    #[test]
    fn allow_rings_once_per_new_address() {
        let port = port(MacChanges::Allow);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert_eq!(port.bell.read().unwrap(), 1, "rung once, not per frame");
        assert_eq!(port.wanted(), Some(NEW));
        port.set_device(NEW, 1500);
        assert_eq!(port.wanted(), None);
    }

    /// The device used to get the address of the guest before right after it had its own back, and a
    /// next guest that changed to the same one was not noticed.
    #[test]
    fn the_address_that_a_gone_guest_wanted_is_forgotten() {
        let port = port(MacChanges::Allow);
        port.judge_source(NEW);
        port.set_device(NEW, 1500);
        port.set_device(OWN, 1500);
        port.forget_wanted();
        assert_eq!(port.wanted(), None);
        port.bell.read().unwrap();
        port.judge_source(NEW);
        assert_eq!(port.bell.read().unwrap(), 1, "the next guest is noticed");
    }

    #[test]
    fn a_group_or_zero_source_is_never_followed() {
        let port = port(MacChanges::Allow);
        for source in [Mac::BROADCAST, Mac::default(), Mac([1, 0, 0x5e, 0, 0, 1])] {
            assert_eq!(port.judge_source(source), MacJudgement::Foreign);
        }
        assert_eq!(port.wanted(), None);
    }
}
