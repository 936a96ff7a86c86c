//! What the data path knows of its port.
//!
//! The control side owns a port's device, socket and front-end (`server/port.rs`); the workers need five
//! facts of it, which live here in atomics: its name, its MAC address, how long a frame may be, what to
//! do with a frame that has another source address, and which of its queue pairs can receive.
//!
//! A front-end never tells the back-end that its guest has changed its MAC address (QEMU keeps that to
//! itself), so the only sign is a frame with a new source. Where the port may follow, the worker leaves
//! the address here and rings the control side's bell; the device is changed there, in its own time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nix::sys::eventfd::EventFd;

use crate::config::{Guard, Kind, MacChanges, MacChoice, PortConfig};
use crate::mac::Mac;
use crate::mode::Mode;
use crate::port_log::PortLog;
use crate::switch::Stations;

/// Ethernet header and one VLAN tag: what the kernel allows on top of an MTU (`is_skb_forwardable`). Each further tag
/// adds its own length.
const FRAME_OVERHEAD: u32 = 14 + 4;

/// What a port does with a source address that is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacPolicy {
    /// The frame is dropped.
    Deny,
    /// The port takes the address.
    Allow,
    /// The same in passthru mode, where the port receives every address: the guest may use several.
    Exclusive,
    /// The port takes the first address that its guest uses, and denies every other one.
    Learn,
    /// Nothing: any address may leave, and the port keeps its own. As the kernel does.
    Ignore,
}

impl MacPolicy {
    /// The policy that a configuration asks for.
    pub fn of(config: &PortConfig) -> MacPolicy {
        match config.mac_changes {
            _ if config.compat => MacPolicy::Ignore,
            MacChanges::Allow if config.mode == Mode::Passthru => MacPolicy::Exclusive,
            MacChanges::Allow => MacPolicy::Allow,
            // Nobody has said which address the guest has: a front-end keeps that to itself.
            MacChanges::Deny
                if config.kind == Kind::Macvlan
                    && config.mac == MacChoice::Auto
                    && config.mode != Mode::Passthru =>
            {
                MacPolicy::Learn
            }
            MacChanges::Deny => MacPolicy::Deny,
        }
    }
}

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
    /// Where lines go that the guest, its front-end or the LAN can cause.
    pub log: PortLog,
    mac: AtomicU64,
    longest: AtomicU32,
    policy: MacPolicy,
    guard: Guard,
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
    /// [`REPORTED`] once the control side has taken it.
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
    bell: Arc<EventFd>,
}

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

impl PortData {
    /// A port that has no device yet. `bell` is rung when [`PortData::take_wanted`] has something new.
    pub fn new(name: &str, policy: MacPolicy, bell: Arc<EventFd>) -> PortData {
        PortData {
            name: name.to_owned(),
            log: PortLog::new(name),
            mac: AtomicU64::new(0),
            longest: AtomicU32::new(0),
            policy,
            guard: Guard::Off,
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
            bell,
        }
    }

    /// The port with a guard: what its guest may not send.
    pub fn guarded(self, guard: Guard) -> PortData {
        PortData { guard, ..self }
    }

    /// Whether frames that concern the cable do not leave the guest.
    #[inline]
    pub fn is_guarded(&self) -> bool {
        self.guard == Guard::Stp
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

    /// The device's MTU, in bytes.
    pub fn mtu(&self) -> u32 {
        self.longest.load(Ordering::Relaxed).saturating_sub(FRAME_OVERHEAD)
    }

    /// Length of the longest frame with one VLAN tag or none, and without segmentation offload, in bytes.
    #[inline]
    pub fn longest_frame(&self) -> usize {
        self.longest.load(Ordering::Relaxed) as usize
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
        // Rung once until somebody looks, not per frame: a guest may use many addresses.
        if self.wanted.swap(number, Ordering::Relaxed) == 0 {
            // A full counter means that the control side is awake anyway.
            let _ = self.bell.write(1);
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
            let _ = self.bell.write(1);
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

    /// Whether the address was heard on the wire before this port's guest has used it.
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
            let _ = self.bell.write(1);
        }
        true
    }

    /// Control: the port is on a switch whose wire these machines were heard on.
    pub fn set_stations(&self, stations: &Arc<Stations>) {
        let _ = self.stations.set(Arc::clone(stations));
    }

    /// Control: whether there is an address to be told of by [`PortData::take_heard`].
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed) != 0
    }

    /// Control: an address that the guest has used in vain, since it was heard on the wire.
    pub fn take_heard(&self) -> Option<Mac> {
        let number = self.heard.swap(0, Ordering::Relaxed);
        (number != 0).then(|| Mac::from_u64(number))
    }

    /// Whether the port has its parent for itself, and receives every address.
    pub fn is_exclusive(&self) -> bool {
        self.policy == MacPolicy::Exclusive
    }

    /// Whether the guest has used the port's own address, since [`PortData::watch_own`] or at all.
    pub fn own_used(&self) -> bool {
        !self.unknown.load(Ordering::Relaxed)
    }

    /// Control: what was heard of the port's own address is forgotten, so that [`PortData::own_used`] tells
    /// whether it is still used.
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

    /// Control: the port has taken the address that its guest uses. A port that learns wants no other
    /// until [`PortData::forget_guest`].
    pub fn followed(&self, mac: Mac) {
        self.deny(None);
        push(&self.had, mac.to_u64());
        if self.policy == MacPolicy::Learn {
            self.unknown.store(false, Ordering::Relaxed);
            self.wanted.store(0, Ordering::Relaxed);
        }
    }

    /// Whether an address that is not the port's own needs more than [`PortData::judge_source`]: it passes
    /// at once, before the control side has looked whether it is somebody else's.
    pub fn is_unsettled(&self, source: Mac) -> bool {
        self.policy != MacPolicy::Ignore && source != self.mac()
    }

    /// Notes whether queue pair `index` can receive. The bell tells when the first begins or the last
    /// ends: then the port comes up or goes down.
    pub fn set_receiving(&self, index: u16, receives: bool) {
        let bit = 1u32.checked_shl(u32::from(index)).unwrap_or(0);
        let before = match receives {
            true => self.receiving.fetch_or(bit, Ordering::Relaxed),
            false => self.receiving.fetch_and(!bit, Ordering::Relaxed),
        };
        let after = if receives { before | bit } else { before & !bit };
        if (before == 0) != (after == 0) {
            let _ = self.bell.write(1);
        }
    }

    /// The queue pairs that can receive, as a bit mask.
    pub fn receiving(&self) -> u32 {
        self.receiving.load(Ordering::Relaxed)
    }

    /// Whatever addresses a guest had, wanted or was denied, it has gone.
    pub fn forget_guest(&self) {
        self.unknown.store(true, Ordering::Relaxed);
        self.wanted.store(0, Ordering::Relaxed);
        self.denied.store(0, Ordering::Relaxed);
        self.foreign.store(0, Ordering::Relaxed);
        self.vetted.store(0, Ordering::Relaxed);
        self.heard.store(0, Ordering::Relaxed);
        self.beside.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
    }

    /// The port cannot take this address: frames that carry it are foreign. `None` forgets the last.
    pub fn deny(&self, mac: Option<Mac>) {
        self.denied.store(mac.map_or(0, Mac::to_u64), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EfdFlags;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NEW: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn port(policy: MacPolicy) -> PortData {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let port = PortData::new("p", policy, Arc::new(bell));
        port.set_device(OWN, 1500);
        port
    }

    #[test]
    fn deny_keeps_to_its_own() {
        let port = port(MacPolicy::Deny);
        assert_eq!(port.judge_source(OWN), MacJudgement::Ours);
        assert_eq!(port.judge_source(NEW), MacJudgement::Foreign);
        assert!(!port.has_wanted());
    }

    #[test]
    fn bug_u4_a_foreign_address_was_only_counted() {
        let port = port(MacPolicy::Deny);
        let other = Mac([2, 0, 0, 0, 0, 3]);
        assert_eq!(port.judge_source(OWN), MacJudgement::Ours);
        assert_eq!(port.take_foreign(), None);
        for source in [Mac::BROADCAST, NEW, other, NEW] {
            assert_eq!(port.judge_source(source), MacJudgement::Foreign);
        }
        assert_eq!(port.bell.read().unwrap(), 1, "rung once");
        assert_eq!(port.take_foreign(), Some(NEW));
        port.judge_source(other);
        assert_eq!(port.take_foreign(), None, "once per guest");
        port.forget_guest();
        port.judge_source(other);
        assert_eq!(port.take_foreign(), Some(other), "the next guest's");
    }

    #[test]
    fn allow_rings_once_per_new_address() {
        let port = port(MacPolicy::Allow);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert_eq!(port.bell.read().unwrap(), 1, "rung once, not per frame");
        assert_eq!(port.take_wanted(), Some(NEW));
        assert_eq!(port.take_wanted(), None);
        port.set_device(NEW, 1500);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert!(!port.has_wanted());
    }

    /// The device used to get the address of the guest before right after it had its own back, and a
    /// next guest that changed to the same one was not noticed.
    #[test]
    fn the_address_that_a_gone_guest_wanted_is_forgotten() {
        let port = port(MacPolicy::Allow);
        port.judge_source(NEW);
        port.forget_guest();
        assert_eq!(port.take_wanted(), None);
        port.bell.read().unwrap();
        port.judge_source(NEW);
        assert_eq!(port.bell.read().unwrap(), 1, "the next guest is noticed");
    }

    #[test]
    fn an_address_that_is_anothers_is_foreign_even_so() {
        let port = port(MacPolicy::Allow);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        port.deny(port.take_wanted());
        assert_eq!(port.judge_source(NEW), MacJudgement::Foreign);
        assert!(!port.has_wanted());
        port.deny(None);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
    }

    #[test]
    fn a_group_or_zero_source_is_never_followed() {
        let port = port(MacPolicy::Allow);
        for source in [Mac::BROADCAST, Mac::default(), Mac([1, 0, 0x5e, 0, 0, 1])] {
            assert_eq!(port.judge_source(source), MacJudgement::Foreign);
        }
        assert!(!port.has_wanted());
    }

    #[test]
    fn learns_the_first_address_of_each_guest_and_no_other() {
        let port = port(MacPolicy::Learn);
        let other = Mac([2, 0, 0, 0, 0, 3]);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert_eq!(port.judge_source(other), MacJudgement::Foreign, "before the first is learnt");
        assert_eq!(port.take_wanted(), Some(NEW));
        port.set_device(NEW, 1500);
        port.followed(NEW);
        // Whether or not the guest has used the first one again.
        assert_eq!(port.judge_source(OWN), MacJudgement::Foreign, "one address per guest");
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert!(!port.has_wanted());
        port.set_device(OWN, 1500);
        port.forget_guest();
        assert_eq!(port.judge_source(OWN), MacJudgement::Ours, "the printed address");
        assert_eq!(port.judge_source(NEW), MacJudgement::Foreign);
    }

    /// A machine's address is refused from the guest's first frame on; the guest's own is not, though a switch
    /// reflects it, and it may come back after it was heard elsewhere.
    #[test]
    fn what_was_heard_on_the_wire_before_is_foreign() {
        let stations = Arc::new(Stations::default());
        for policy in [MacPolicy::Learn, MacPolicy::Allow] {
            let port = port(policy);
            port.set_stations(&stations);
            let (gateway, guest) = (Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 2, policy as u8]));
            stations.note(gateway, Instant::now());
            assert_eq!(port.judge_source(gateway), MacJudgement::Foreign);
            assert_eq!(port.judge_source(gateway), MacJudgement::Foreign);
            assert_eq!(port.bell.read().unwrap(), 1, "told once");
            assert_eq!((port.take_heard(), port.take_heard()), (Some(gateway), None));
            assert!(!port.has_wanted());

            assert_eq!(port.judge_source(guest), MacJudgement::Ours);
            stations.note(guest, Instant::now());
            assert_eq!(port.judge_source(guest), MacJudgement::Ours, "reflected");
            assert_eq!(port.take_wanted(), Some(guest));
            port.set_device(guest, 1500);
            port.followed(guest);
            port.set_device(OWN, 1500);
            port.forget_guest();
            assert_eq!(port.judge_source(guest), MacJudgement::Ours, "back again");
        }
    }

    #[test]
    fn addresses_beside_the_ports_own_pass_and_are_not_told_again() {
        let port = port(MacPolicy::Exclusive);
        assert_eq!(port.judge_source(OWN), MacJudgement::Ours);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        port.bell.read().unwrap();
        port.watch_own();
        assert!(!port.own_used());
        assert_eq!(port.judge_source(OWN), MacJudgement::Ours);
        assert!(port.own_used());
        port.add_beside(NEW);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert!(!port.has_wanted() && port.bell.read().is_err());
    }

    #[test]
    fn ignores_addresses_as_the_kernel_does() {
        let port = port(MacPolicy::Ignore);
        assert_eq!(port.judge_source(NEW), MacJudgement::Ours);
        assert!(!port.has_wanted());
    }

    #[test]
    fn tells_when_the_first_ring_receives_and_when_the_last_stops() {
        let port = port(MacPolicy::Deny);
        port.set_receiving(3, true);
        port.set_receiving(0, true);
        port.set_receiving(3, false);
        assert_eq!(port.bell.read().unwrap(), 1);
        assert_eq!(port.receiving(), 1);
        port.set_receiving(0, false);
        assert_eq!(port.bell.read().unwrap(), 1);
    }
}
