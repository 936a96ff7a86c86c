//! The source addresses that a port's guest may use.
//!
//! A front-end does not report a guest's change of its MAC address (QEMU does not pass it on), so
//! the only sign is a frame with a new source. If the port may adopt it, the worker leaves the
//! address here and writes to the control side's notifier; the control thread changes the device,
//! in its own time (`control/follow.rs`). An address that was seen on the wire before the guest
//! used it is another machine's, and is never adopted.
//!
//! What can go wrong: a worker asks for every frame, so the port's own address is settled by two
//! comparisons, and all else is out of line. Every cell is one atomic, and each list of addresses
//! has a fixed length: a guest that uses a new address for every frame only overwrites them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nix::sys::eventfd::EventFd;

use crate::datapath::port::mac_policy::{MacJudgement, MacPolicy};
use crate::net::mac::Mac;
use crate::switch::Stations;

/// Puts a number into the first of these cells, and moves the others on.
fn push(cells: &[AtomicU64], number: u64) {
    let mut next = number;
    for cell in cells {
        next = cell.swap(next, Ordering::Relaxed);
        if next == number {
            return;
        }
    }
}

fn contains(cells: &[AtomicU64], number: u64) -> bool {
    cells.iter().any(|cell| cell.load(Ordering::Relaxed) == number)
}

/// Beside a foreign address: the log has it.
const REPORTED: u64 = 1 << 63;

/// The addresses that a port and its guest use.
#[derive(Debug)]
pub struct SourceMacs {
    mac: AtomicU64,
    policy: MacPolicy,
    /// No frame with the port's own address has come from the present guest yet, or since
    /// [`SourceMacs::watch_own`].
    unknown: AtomicBool,
    /// The address last seen from the guest that is not the port's; 0 when there is none to act on.
    wanted: AtomicU64,
    /// An address that the port could not take, because it is another's; 0 when there is none.
    denied: AtomicU64,
    /// The first address of the present guest whose frames were dropped; 0 when there is none, with
    /// the mark `REPORTED` once the control thread has taken it.
    foreign: AtomicU64,
    /// The machines of the LAN, once the port is on one of our switches.
    stations: OnceLock<Arc<Stations>>,
    /// The new address that was not seen on the wire. From the guest's first frame on, a switch may
    /// reflect its frames.
    vetted: AtomicU64,
    /// An address that the guest has used and that was seen on the wire, to be reported; 0 when
    /// there is none.
    heard: AtomicU64,
    /// Addresses that the port has had for its guests: such a guest may move away, appear on the
    /// wire, and come back.
    had: [AtomicU64; 8],
    /// Addresses that the present guest uses beside the port's own, in passthru mode.
    beside: [AtomicU64; 4],
    notifier: Arc<EventFd>,
}

impl SourceMacs {
    /// A port without an address. The notifier is written to when the control thread has something
    /// to take.
    pub(super) fn new(policy: MacPolicy, notifier: Arc<EventFd>) -> SourceMacs {
        SourceMacs {
            mac: AtomicU64::new(0),
            policy,
            unknown: AtomicBool::new(true),
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

    /// The port has this address.
    pub(super) fn set_own(&self, mac: Mac) {
        self.mac.store(mac.to_u64(), Ordering::Relaxed);
    }

    /// The port's address.
    pub(super) fn own(&self) -> Mac {
        Mac::from_u64(self.mac.load(Ordering::Relaxed))
    }

    /// Whether this is the port's own address and nothing new is learnt from it: as nearly always.
    #[inline]
    pub fn is_settled(&self, source: Mac) -> bool {
        source.to_u64() == self.mac.load(Ordering::Relaxed) && !self.unknown.load(Ordering::Relaxed)
    }

    /// Judges a frame's source address.
    #[inline]
    pub fn judge_source(&self, source: Mac) -> MacJudgement {
        if self.is_settled(source) { MacJudgement::Ours } else { self.judge_unsettled(source) }
    }

    /// The same for an address that is not the port's own, or that is looked for.
    #[cold]
    #[inline(never)]
    fn judge_unsettled(&self, source: Mac) -> MacJudgement {
        let number = source.to_u64();
        let unknown = self.unknown.load(Ordering::Relaxed);
        if number == self.mac.load(Ordering::Relaxed) {
            if unknown {
                self.unknown.store(false, Ordering::Relaxed);
            }
            return MacJudgement::Ours;
        }
        let follows = match self.policy {
            MacPolicy::Ignore => return MacJudgement::Ours,
            MacPolicy::Allow => true,
            MacPolicy::Exclusive if contains(&self.beside, number) => return MacJudgement::Ours,
            MacPolicy::Exclusive => true,
            // The first one only: while that is looked into, there is no other.
            MacPolicy::Learn => {
                unknown && matches!(self.wanted.load(Ordering::Relaxed), n if n == 0 || n == number)
            }
            MacPolicy::Deny => false,
        };
        let denied = self.denied.load(Ordering::Relaxed) == number;
        if !follows || denied || !source.is_station() {
            self.note_foreign(source);
            return MacJudgement::Foreign;
        }
        if self.is_heard(source) {
            return MacJudgement::Foreign;
        }
        // Once until the control thread looks, not per frame: a guest may use many addresses.
        if self.wanted.swap(number, Ordering::Relaxed) == 0 {
            // A full counter means that the control side is awake anyway.
            let _ = self.notifier.write(1);
        }
        MacJudgement::Ours
    }

    /// Leaves the first foreign address of a guest to the control side, which warns once.
    fn note_foreign(&self, source: Mac) {
        if self.foreign.load(Ordering::Relaxed) != 0 || !source.is_station() {
            return;
        }
        let (none, number) = (0, source.to_u64());
        let order = Ordering::Relaxed;
        if self.foreign.compare_exchange(none, number, order, order).is_ok() {
            let _ = self.notifier.write(1);
        }
    }

    /// Takes the first address of the present guest that is not the port's, once.
    pub fn take_foreign(&self) -> Option<Mac> {
        let number = self.foreign.load(Ordering::Relaxed);
        if number == 0 || number & REPORTED != 0 {
            return None;
        }
        self.foreign.fetch_or(REPORTED, Ordering::Relaxed);
        Some(Mac::from_u64(number))
    }

    /// Whether the address was seen on the wire before this port's guest has used it.
    fn is_heard(&self, source: Mac) -> bool {
        let number = source.to_u64();
        let Some(stations) = self.stations.get() else { return false };
        if self.policy == MacPolicy::Exclusive
            || self.vetted.load(Ordering::Relaxed) == number
            || contains(&self.had, number)
        {
            return false;
        }
        if !stations.has_heard(source, Instant::now()) {
            self.vetted.store(number, Ordering::Relaxed);
            return false;
        }
        if self.heard.swap(number, Ordering::Relaxed) == 0 {
            let _ = self.notifier.write(1);
        }
        true
    }

    /// Control: the port is on a switch on whose wire these machines were seen.
    pub fn set_stations(&self, stations: &Arc<Stations>) {
        let _ = self.stations.set(Arc::clone(stations));
    }

    /// Control: whether [`SourceMacs::take_heard`] has an address to report.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed) != 0
    }

    /// Control: an address that the guest has used in vain, since it was seen on the wire.
    pub fn take_heard(&self) -> Option<Mac> {
        let number = self.heard.swap(0, Ordering::Relaxed);
        (number != 0).then(|| Mac::from_u64(number))
    }

    /// Whether the port has its parent for itself, and receives every address.
    pub fn is_exclusive(&self) -> bool {
        self.policy == MacPolicy::Exclusive
    }

    /// Whether the guest has used the port's own address, since [`SourceMacs::watch_own`] or at
    /// all.
    pub fn own_used(&self) -> bool {
        !self.unknown.load(Ordering::Relaxed)
    }

    /// Control: resets the note of the last use of the port's own address, so that
    /// [`SourceMacs::own_used`] shows whether it is still used.
    pub fn watch_own(&self) {
        self.unknown.store(true, Ordering::Relaxed);
    }

    /// Control: the guest uses this address beside the port's own.
    pub fn add_beside(&self, mac: Mac) {
        push(&self.beside, mac.to_u64());
        self.wanted.store(0, Ordering::Relaxed);
    }

    /// Control: whether the port has had this address for a guest before.
    pub fn had(&self, mac: Mac) -> bool {
        contains(&self.had, mac.to_u64())
    }

    /// The address that the guest uses and the device has not followed yet.
    pub fn wanted(&self) -> Option<Mac> {
        let number = self.wanted.load(Ordering::Relaxed);
        (number != 0).then(|| Mac::from_u64(number))
    }

    /// Whether the guest uses an address that the device has not followed yet.
    pub fn has_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0
    }

    /// Takes the new address that the guest uses.
    pub fn take_wanted(&self) -> Option<Mac> {
        let number = self.wanted.swap(0, Ordering::Relaxed);
        (number != 0 && number != self.mac.load(Ordering::Relaxed)).then(|| Mac::from_u64(number))
    }

    /// Control: the port has taken the address that its guest uses. A port that learns wants no
    /// other until [`SourceMacs::forget_guest`].
    pub fn followed(&self, mac: Mac) {
        self.deny(None);
        push(&self.had, mac.to_u64());
        if self.policy == MacPolicy::Learn {
            self.unknown.store(false, Ordering::Relaxed);
            self.wanted.store(0, Ordering::Relaxed);
        }
    }

    /// Whether an address that is not the port's own needs more than [`SourceMacs::judge_source`]:
    /// it passes at once, before the control side has looked whether it is another machine's.
    pub fn is_unsettled(&self, source: Mac) -> bool {
        self.policy != MacPolicy::Ignore && source != self.own()
    }

    /// The guest is disconnected: forgets the addresses that it had, wanted or was denied.
    pub fn forget_guest(&self) {
        self.unknown.store(true, Ordering::Relaxed);
        self.wanted.store(0, Ordering::Relaxed);
        self.denied.store(0, Ordering::Relaxed);
        self.foreign.store(0, Ordering::Relaxed);
        self.vetted.store(0, Ordering::Relaxed);
        self.heard.store(0, Ordering::Relaxed);
        self.beside.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
    }

    /// The port cannot take this address: frames that carry it are foreign. `None` forgets the
    /// last.
    pub fn deny(&self, mac: Option<Mac>) {
        self.denied.store(mac.map_or(0, Mac::to_u64), Ordering::Relaxed);
    }
}
