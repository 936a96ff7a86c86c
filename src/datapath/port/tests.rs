//! What a port does with its guest's addresses, and when it can receive.

use super::mac_policy::MacJudgement;
use std::time::Instant;

use super::*;
use crate::switch::Stations;
use nix::sys::eventfd::EfdFlags;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEW: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn port(policy: MacPolicy) -> PortData {
    let notifier = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    let port = PortData::new("p", policy, Arc::new(notifier));
    port.set_device(OWN, 1500);
    port
}

#[test]
fn deny_keeps_to_its_own() {
    let port = port(MacPolicy::Deny);
    assert_eq!(port.macs.judge_source(OWN), MacJudgement::Ours);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Foreign);
    assert!(!port.macs.has_wanted());
}

#[test]
fn bug_u4_a_foreign_address_was_only_counted() {
    let port = port(MacPolicy::Deny);
    let other = Mac([2, 0, 0, 0, 0, 3]);
    assert_eq!(port.macs.judge_source(OWN), MacJudgement::Ours);
    assert_eq!(port.macs.take_foreign(), None);
    for source in [Mac::BROADCAST, NEW, other, NEW] {
        assert_eq!(port.macs.judge_source(source), MacJudgement::Foreign);
    }
    assert_eq!(port.notifier.read().unwrap(), 1, "rung once");
    assert_eq!(port.macs.take_foreign(), Some(NEW));
    port.macs.judge_source(other);
    assert_eq!(port.macs.take_foreign(), None, "once per guest");
    port.macs.forget_guest();
    port.macs.judge_source(other);
    assert_eq!(port.macs.take_foreign(), Some(other), "the next guest's");
}

#[test]
fn allow_rings_once_per_new_address() {
    let port = port(MacPolicy::Allow);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert_eq!(port.notifier.read().unwrap(), 1, "rung once, not per frame");
    assert_eq!(port.macs.take_wanted(), Some(NEW));
    assert_eq!(port.macs.take_wanted(), None);
    port.set_device(NEW, 1500);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert!(!port.macs.has_wanted());
}

/// The device used to get the address of the guest before right after it had its own back, and a
/// next guest that changed to the same one was not noticed.
#[test]
fn the_address_that_a_gone_guest_wanted_is_forgotten() {
    let port = port(MacPolicy::Allow);
    port.macs.judge_source(NEW);
    port.macs.forget_guest();
    assert_eq!(port.macs.take_wanted(), None);
    port.notifier.read().unwrap();
    port.macs.judge_source(NEW);
    assert_eq!(port.notifier.read().unwrap(), 1, "the next guest is noticed");
}

#[test]
fn an_address_that_is_anothers_is_foreign_even_so() {
    let port = port(MacPolicy::Allow);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    port.macs.deny(port.macs.take_wanted());
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Foreign);
    assert!(!port.macs.has_wanted());
    port.macs.deny(None);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
}

#[test]
fn a_group_or_zero_source_is_never_followed() {
    let port = port(MacPolicy::Allow);
    for source in [Mac::BROADCAST, Mac::default(), Mac([1, 0, 0x5e, 0, 0, 1])] {
        assert_eq!(port.macs.judge_source(source), MacJudgement::Foreign);
    }
    assert!(!port.macs.has_wanted());
}

#[test]
fn learns_the_first_address_of_each_guest_and_no_other() {
    let port = port(MacPolicy::Learn);
    let other = Mac([2, 0, 0, 0, 0, 3]);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert_eq!(port.macs.judge_source(other), MacJudgement::Foreign, "before the first is learnt");
    assert_eq!(port.macs.take_wanted(), Some(NEW));
    port.set_device(NEW, 1500);
    port.macs.followed(NEW);
    // Whether or not the guest has used the first one again.
    assert_eq!(port.macs.judge_source(OWN), MacJudgement::Foreign, "one address per guest");
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert!(!port.macs.has_wanted());
    port.set_device(OWN, 1500);
    port.macs.forget_guest();
    assert_eq!(port.macs.judge_source(OWN), MacJudgement::Ours, "the printed address");
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Foreign);
}

/// A machine's address is refused from the guest's first frame on; the guest's own is not, though a
/// switch reflects it, and it may come back after it was seen elsewhere.
#[test]
fn what_was_heard_on_the_wire_before_is_foreign() {
    let stations = Arc::new(Stations::default());
    for policy in [MacPolicy::Learn, MacPolicy::Allow] {
        let port = port(policy);
        port.macs.set_stations(&stations);
        let (gateway, guest) = (Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 2, policy as u8]));
        stations.note(gateway, Instant::now());
        assert_eq!(port.macs.judge_source(gateway), MacJudgement::Foreign);
        assert_eq!(port.macs.judge_source(gateway), MacJudgement::Foreign);
        assert_eq!(port.notifier.read().unwrap(), 1, "told once");
        assert_eq!((port.macs.take_heard(), port.macs.take_heard()), (Some(gateway), None));
        assert!(!port.macs.has_wanted());

        assert_eq!(port.macs.judge_source(guest), MacJudgement::Ours);
        stations.note(guest, Instant::now());
        assert_eq!(port.macs.judge_source(guest), MacJudgement::Ours, "reflected");
        assert_eq!(port.macs.take_wanted(), Some(guest));
        port.set_device(guest, 1500);
        port.macs.followed(guest);
        port.set_device(OWN, 1500);
        port.macs.forget_guest();
        assert_eq!(port.macs.judge_source(guest), MacJudgement::Ours, "back again");
    }
}

#[test]
fn addresses_beside_the_ports_own_pass_and_are_not_told_again() {
    let port = port(MacPolicy::Exclusive);
    assert_eq!(port.macs.judge_source(OWN), MacJudgement::Ours);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    port.notifier.read().unwrap();
    port.macs.watch_own();
    assert!(!port.macs.own_used());
    assert_eq!(port.macs.judge_source(OWN), MacJudgement::Ours);
    assert!(port.macs.own_used());
    port.macs.add_beside(NEW);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert!(!port.macs.has_wanted() && port.notifier.read().is_err());
}

#[test]
fn ignores_addresses_as_the_kernel_does() {
    let port = port(MacPolicy::Ignore);
    assert_eq!(port.macs.judge_source(NEW), MacJudgement::Ours);
    assert!(!port.macs.has_wanted());
}

#[test]
fn tells_when_the_first_ring_receives_and_when_the_last_stops() {
    let port = port(MacPolicy::Deny);
    port.set_receiving(3, true);
    port.set_receiving(0, true);
    port.set_receiving(3, false);
    assert_eq!(port.notifier.read().unwrap(), 1);
    assert_eq!(port.receiving(), 1);
    port.set_receiving(0, false);
    assert_eq!(port.notifier.read().unwrap(), 1);
}
