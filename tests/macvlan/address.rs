//! The address that a guest has, and those that it may take.
//!
//! A front-end does not report the address. Without `mac=` the port learns the first address that
//! its guest uses, one for each session. With `mac=` the port keeps that one, unless it may adopt
//! the guest's. Either way no port gets a sibling's.

use std::time::Duration;

use testkit::frames::{self, Mac};
use testkit::netns::{World, wait_until};
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE, fresh_tag};
use testkit::userspace::{Bench, Guest, HostTalk, hush, mac, mac_key};
use testkit::vmm::QemuOptions;

/// Longer than the least time between two changes of a port's address.
const PAUSE: Duration = Duration::from_millis(120);

/// The address that the port has printed.
fn printed(bench: &Bench, port: usize) -> Mac {
    let log = bench.backend.log();
    let start = format!("port t{port}: on eth0 in userspace");
    let line = log.lines().find(|line| line.contains(&start)).unwrap();
    let text = line.split_once("MAC ").unwrap().1.split(',').next().unwrap();
    text.parse::<vhost_user_macvtap::net::mac::Mac>().unwrap().0
}

/// The addresses, beside its own, that the parent takes frames for.
fn filters(world: &World) -> String {
    world.host.sh("bridge fdb show dev eth0")
}

/// Whether a frame that claims to be from `source` gets from the guest to the LAN.
fn sends_as(bench: &Bench, guest: &mut Guest, source: Mac) -> bool {
    let tag = fresh_tag();
    guest.driver.send(0, &[frames::tagged(LAN_MAC, source, tag, 60)]);
    bench.wire.recv_tag(tag, SILENCE).is_some()
}

fn gone(bench: &Bench, guest: Guest) {
    bench.leaves(guest);
}

#[test]
fn without_mac_the_first_address_of_each_session_is_learnt_and_no_other() {
    let bench = Bench::new(&["", &mac_key(1)], &[]);
    let mut sibling = bench.guest(1);
    let own = printed(&bench, 0);
    for session in [mac(5), mac(6), own] {
        let follows = bench.said("adopted the guest's MAC");
        let mut guest = bench.connect(0, session, &QemuOptions::default());
        bench.wait_for_wire(&mut guest, SECOND);
        let tag = fresh_tag();
        sibling.send(session, tag);
        assert!(guest.gets(tag, ARRIVAL), "a sibling's frame to the learnt address");
        assert!(filters(&bench.world).contains(&frames::mac_text(session)), "the NIC's filter");
        if session != own {
            assert_eq!(bench.said("adopted the guest's MAC"), follows + 1);
            assert!(!bench.reached_at(&mut guest, own, SILENCE), "the printed address too");
            assert!(!filters(&bench.world).contains(&frames::mac_text(own)));
        }
        // No second one.
        let dropped = bench.dropped_for(0, "foreign MAC");
        std::thread::sleep(PAUSE);
        assert!(!sends_as(&bench, &mut guest, mac(9)), "a second address");
        assert!(!bench.reached_at(&mut guest, mac(9), SILENCE));
        assert_eq!(bench.dropped_for(0, "foreign MAC"), dropped + 1);
        gone(&bench, guest);
    }
    assert_eq!(bench.said("adopted the guest's MAC"), 2);
}

/// The first address was the first that the guest used *twice*: one that changed it with every
/// frame could use any.
#[test]
fn bug_a_guest_that_changed_its_address_with_every_frame_had_them_all_learnt() {
    let bench = Bench::new(&[""], &[]);
    let mut guest = bench.connect(0, mac(5), &QemuOptions::default());
    assert!(wait_until(SECOND, || sends_as(&bench, &mut guest, mac(5))));
    bench.wait_said("adopted the guest's MAC", 1, SECOND);
    for n in 6..9 {
        std::thread::sleep(PAUSE);
        assert!(!sends_as(&bench, &mut guest, mac(n)), "address {n}");
    }
    assert_eq!(bench.said("adopted the guest's MAC"), 1);
    assert_eq!(bench.dropped_for(0, "foreign MAC"), 3);
}

/// While the control side checked an address, its frames passed: a sibling's too.
#[test]
fn bug_a_siblings_address_could_be_used_until_it_was_refused() {
    let keys = ["".to_owned(), mac_key(1), mac_key(2) + ",mac-changes=allow"];
    let bench = Bench::new(&keys, &[]);
    let mut sibling = bench.guest(1);
    let mut learner = bench.connect(0, mac(5), &QemuOptions::default());
    let mut follower = bench.guest(2);
    let parent: Mac =
        bench.world.host.mac("eth0").parse::<vhost_user_macvtap::net::mac::Mac>().unwrap().0;
    for (port, guest) in [(0, &mut learner), (2, &mut follower)] {
        for (taken, whose) in [(mac(1), "the sibling's"), (parent, "the parent's")] {
            std::thread::sleep(PAUSE);
            assert!(!sends_as(&bench, guest, taken), "{whose} address passes");
            let refusal =
                format!("port t{port}: cannot adopt the guest's MAC {}", frames::mac_text(taken));
            bench.wait_said(&refusal, 1, SECOND);
        }
        assert!(bench.dropped_for(port, "foreign MAC") >= 2);
        // A free address is adopted afterwards.
        std::thread::sleep(PAUSE);
        guest.mac = mac(5 + port);
        bench.wait_for_wire(guest, SECOND);
    }
    bench.wait_for_wire(&mut sibling, SECOND);
}

#[test]
fn with_changes_denied_a_foreign_address_is_dropped_and_counted() {
    let bench = Bench::new(&[mac_key(0) + ",mac-changes=deny"], &[]);
    let mut guest = bench.guest(0);
    for n in 1..=5 {
        assert!(!sends_as(&bench, &mut guest, mac(7)));
        assert_eq!(bench.dropped_for(0, "foreign MAC"), n);
    }
    assert!(!bench.reached_at(&mut guest, mac(7), SILENCE));
    assert!(bench.reaches_lan(&mut guest, ARRIVAL) && bench.reached_from_lan(&mut guest, ARRIVAL));
    assert_eq!(bench.said("adopted the guest's MAC"), 0);
}

#[test]
fn with_changes_allowed_table_and_filter_follow_the_guest() {
    let bench = Bench::new(&[mac_key(0) + ",mac-changes=allow", mac_key(1)], &[]);
    let (mut guest, mut sibling) = (bench.guest(0), bench.guest(1));
    for (old, new) in [(mac(0), mac(7)), (mac(7), mac(8)), (mac(8), mac(0))] {
        std::thread::sleep(PAUSE);
        guest.mac = new;
        assert!(bench.reaches_lan(&mut guest, ARRIVAL), "the first frame with the new address");
        bench.wait_for_wire(&mut guest, SECOND);
        assert!(!bench.reached_at(&mut guest, old, SILENCE), "the old address");
        for (address, wanted) in [(new, true), (old, false)] {
            let tag = fresh_tag();
            sibling.send(address, tag);
            assert_eq!(guest.gets(tag, SILENCE), wanted, "a sibling's frame");
            let known = filters(&bench.world).contains(&frames::mac_text(address));
            assert_eq!(known, wanted, "{}", filters(&bench.world));
        }
    }
    // The next guest starts with what was printed.
    guest.mac = mac(9);
    std::thread::sleep(PAUSE);
    bench.wait_for_wire(&mut guest, SECOND);
    gone(&bench, guest);
    let mut next = bench.guest(0);
    assert!(!bench.reached_at(&mut next, mac(9), SILENCE));
}

#[test]
fn a_passthru_parent_follows_its_guest_and_has_its_own_address_back_at_either_end() {
    let world = World::new();
    hush(&world);
    let own = world.host.mac("eth0");
    let talk = HostTalk::new(&world);
    let mut bench = Bench::in_world(world, &["mode=passthru"], &[]);
    let address = |bench: &Bench| bench.world.host.mac("eth0");
    let becomes = |bench: &Bench, wanted: &str| {
        let done = wait_until(SECOND, || address(bench) == wanted);
        assert!(done, "the parent has {}, not {wanted}", address(bench));
    };
    for n in [3, 4] {
        let mut guest = bench.connect(0, mac(n), &QemuOptions::default());
        bench.wait_for_wire(&mut guest, SECOND);
        becomes(&bench, &frames::mac_text(mac(n)));
        std::thread::sleep(PAUSE);
        guest.mac = mac(n + 10);
        bench.wait_for_wire(&mut guest, SECOND);
        becomes(&bench, &frames::mac_text(mac(n + 10)));
        gone(&bench, guest);
        becomes(&bench, &own);
        // No other port is affected: the guardian has ended with the address.
        assert!(wait_until(SECOND, || bench.world.host.pids().len() == 1));
    }
    let _guest = bench.guest_with(0, mac(3), &QemuOptions::default());
    becomes(&bench, &frames::mac_text(mac(3)));
    assert!(bench.backend.stop(SECOND).success());
    assert_eq!(address(&bench), own);
    talk.wait(SECOND);
    assert!(bench.world.host.pids().is_empty());
}

/// Netlink news about the parent that was older than the address change made the guest's address
/// the parent's own: it was never given back.
#[test]
fn bug_old_news_made_a_guests_address_the_parents_own() {
    let bench = Bench::new(&["mode=passthru"], &[]);
    let own = bench.world.host.mac("eth0");
    // News all the time, and so also while the guardian is started and the address is changed.
    let script = "while :; do ip link set eth0 mtu 1400; ip link set eth0 mtu 1500; done";
    let mut news = bench.world.host.command("sh").args(["-c", script]).spawn().unwrap();
    for _ in 0..10 {
        let guest = bench.guest_with(0, mac(7), &QemuOptions::default());
        let follows = wait_until(SECOND, || bench.world.host.mac("eth0") != own);
        assert!(follows, "the parent does not follow");
        gone(&bench, guest);
        let back = wait_until(SECOND, || bench.world.host.mac("eth0") == own);
        if !back {
            news.kill().unwrap();
        }
        assert!(back, "it was {own}, and is {}", bench.world.host.mac("eth0"));
    }
    news.kill().unwrap();
    news.wait().unwrap();
}
