//! Events on a parent: down, no carrier, deleted, another name, another MTU, another namespace.
//!
//! Each time a stream runs between two siblings, which must not notice. A third guest talks with
//! the LAN, and must be connected again within a second after the event is undone. Meanwhile the
//! process logs it once and sleeps.

use std::time::Duration;

use crate::stream::Stream;
use testkit::frames;
use testkit::netns::{Netns, World, wait_until};
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE, fresh_tag};
use testkit::userspace::{Bench, Guest, mac, mac_key};
use testkit::vmm::QemuOptions;

/// Processor time that the process may use in a second without a wire.
const ASLEEP: Duration = Duration::from_millis(20);

/// An action on a world.
type Deed = fn(&World);

/// Something bad happens to the parent, and is undone.
struct Event<'a> {
    begin: &'a dyn Fn(&Bench),
    end: &'a dyn Fn(&Bench),
    /// The log's text at either moment.
    says: [&'a str; 2],
}

fn endured(event: &Event) {
    let mut bench = Bench::bridge(3, &[]);
    let mut third = bench.guest(2);
    let stream = Stream::start(bench.guest(0), bench.guest(1));
    stream.runs_on(200);
    (event.begin)(&bench);
    bench.wait_said(event.says[0], 1, SECOND);
    stream.runs_on(500);
    assert!(!bench.reaches_lan(&mut third, SILENCE), "the parent still works");
    // Frames for the wire are now taken and dropped, so that the guest does not hang.
    for _ in 0..3 {
        let batch = vec![frames::tagged(LAN_MAC, third.mac, fresh_tag(), 60); 100];
        third.driver.send(0, &batch);
    }
    assert!(third.driver.drain_tx(0, ARRIVAL), "the guest hangs");
    let (one, other) = stream.stop();
    let used = bench.backend.busy(SECOND);
    println!("{used:?} of processor time in a second without a wire");
    assert!(used < ASLEEP, "{used:?} in a second");

    let stream = Stream::start(one, other);
    (event.end)(&bench);
    let took = bench.wait_for_wire(&mut third, SECOND);
    println!("'{}': on the wire after {took:?}", event.says[1]);
    bench.wait_said(event.says[1], 1, SECOND);
    stream.runs_on(500);
    stream.stop();
    for text in event.says {
        assert_eq!(bench.said(text), 1, "how often the log says '{text}'");
    }
    assert_eq!(bench.said(") connected"), 3, "somebody was disconnected");
    assert!(bench.backend.alive());
}

#[test]
fn a_parent_that_is_down_for_a_while() {
    endured(&Event {
        begin: &|bench| drop(bench.world.host.ip("link set eth0 down")),
        end: &|bench| drop(bench.world.host.ip("link set eth0 up")),
        says: ["parent eth0: is down; siblings", "parent eth0: is up again"],
    });
}

#[test]
fn a_parent_without_a_cable_for_a_while() {
    endured(&Event {
        begin: &|bench| bench.world.set_cable(false),
        end: &|bench| bench.world.set_cable(true),
        says: ["parent eth0: is down; siblings", "parent eth0: is up again"],
    });
}

#[test]
fn a_parent_that_is_removed_and_made_again() {
    endured(&Event {
        begin: &|bench| drop(bench.world.host.ip("link del eth0")),
        end: &|bench| bench.world.plug(&bench.world.host, World::PARENT, "p-host"),
        says: ["parent eth0: has vanished", "parent eth0: is back"],
    });
}

#[test]
fn a_parent_that_visits_another_namespace() {
    let away = Netns::new("away");
    endured(&Event {
        begin: &|bench| drop(bench.world.host.ip(&format!("link set eth0 netns {}", away.name()))),
        end: &|bench| {
            away.ip(&format!("link set eth0 netns {}", bench.world.host.name()));
            bench.world.host.ip("link set eth0 up");
        },
        says: ["parent eth0: has vanished", "parent eth0: is back"],
    });
}

#[test]
fn a_parent_that_is_renamed_is_still_the_same() {
    let bench = Bench::bridge(3, &[]);
    let mut third = bench.guest(2);
    let stream = Stream::start(bench.guest(0), bench.guest(1));
    bench.world.host.ip("link set eth0 name lan7");
    bench.wait_said("parent eth0: was renamed to lan7", 1, SECOND);
    bench.wait_for_wire(&mut third, SECOND);
    // The parent has the filters of a guest that connects later.
    drop(third);
    bench.guest(2);
    stream.runs_on(200);
    bench.world.host.ip("link set lan7 name eth0");
    bench.wait_said("parent eth0: was renamed to eth0", 1, SECOND);
    bench.guest(2);
    stream.runs_on(200);
    stream.stop();
    assert_eq!(bench.said("has vanished"), 0);
}

/// The parent was looked up by the name of the configuration. After a rename no guest's MAC was
/// adopted, and a port whose guest had disconnected kept that guest's address.
#[test]
fn bug_after_a_rename_of_the_parent_no_address_was_followed() {
    let bench = Bench::new(&[mac_key(0) + ",mac-changes=allow"], &[]);
    let guest = bench.guest_with(0, mac(7), &QemuOptions::default());
    bench.world.host.ip("link set eth0 name lan7");
    bench.wait_said("parent eth0: was renamed to lan7", 1, SECOND);
    drop(guest);
    let mut guest = bench.guest(0);
    assert!(!bench.reached_at(&mut guest, mac(7), SILENCE), "the address of the guest before");
    guest.mac = mac(8);
    bench.wait_for_wire(&mut guest, SECOND);
    assert_eq!(bench.said("cannot adopt the guest's MAC"), 0);
}

#[test]
fn the_mtu_of_the_parent_is_followed_down_and_up() {
    let bench = Bench::bridge(3, &[]);
    let mut third = bench.guest(2);
    let stream = Stream::start(bench.guest(0), bench.guest(1));
    let passes = |guest: &mut Guest, len: usize| {
        let tag = fresh_tag();
        guest.driver.send(0, &[frames::tagged(LAN_MAC, guest.mac, tag, len)]);
        bench.wire.recv_tag(tag, SILENCE).is_some_and(|frame| frame.len() == len)
    };
    assert!(passes(&mut third, 1514));
    for (round, mtu) in [(1, 1300), (2, 1400)] {
        bench.world.host.ip(&format!("link set eth0 mtu {mtu}"));
        for port in 0..3 {
            let mac = frames::mac_text(mac(port));
            bench.wait_said(&format!("port t{port}: now has MAC {mac}, MTU {mtu}"), 1, SECOND);
        }
        assert!(passes(&mut third, 14 + mtu), "{mtu}");
        assert!(!passes(&mut third, 14 + 4 + 1 + mtu), "{mtu}: a longer one");
        assert_eq!(bench.dropped_for(2, "long frame"), round);
        stream.runs_on(200);
    }
    bench.world.host.ip("link set eth0 mtu 1500");
    bench.wait_said("MTU 1500", 6, SECOND);
    assert!(passes(&mut third, 1514));
    stream.stop();
    assert_eq!(bench.said("now has MAC"), 9, "said once for each port and change");
}

/// A kernel macvlan has no carrier when its parent has none, and then it does not receive from its
/// siblings.
#[test]
fn siblings_as_the_kernels_are_cut_off_with_their_parent() {
    let bench = Bench::new(&[mac_key(0) + ",compat=on", mac_key(1) + ",compat=on"], &[]);
    let (mut one, mut other) = (bench.guest(0), bench.guest(1));
    let mut talk = |timeout: Duration| {
        let tag = fresh_tag();
        one.send(other.mac, tag);
        other.gets(tag, timeout)
    };
    let events: [(&str, Deed, Deed); 2] = [
        (
            "down",
            |world| drop(world.host.ip("link set eth0 down")),
            |world| drop(world.host.ip("link set eth0 up")),
        ),
        ("no cable", |world| world.set_cable(false), |world| world.set_cable(true)),
    ];
    for (round, (what, begin, end)) in (1..).zip(events) {
        assert!(talk(SECOND), "before: {what}");
        begin(&bench.world);
        bench.wait_said("parent eth0: is down", round, SECOND);
        // The log comes first, then the change.
        assert!(wait_until(SECOND, || !talk(SILENCE)), "{what}: they still talk");
        end(&bench.world);
        assert!(wait_until(SECOND, || talk(SILENCE)), "after: {what}");
    }
    bench.world.host.ip("link del eth0");
    bench.wait_said("parent eth0: has vanished", 1, SECOND);
    assert!(wait_until(SECOND, || !talk(SILENCE)), "without a parent they still talk");
}

/// A passthru port has its parent's address: with a new parent the new one, which must also be the
/// parent's after the guest has disconnected. The process gave it the old parent's then.
#[test]
fn bug_a_passthru_parent_made_again_was_given_the_old_ones_address() {
    let bench = Bench::new(&["mode=passthru"], &[]);
    let mut guest = bench.guest_with(0, mac(7), &QemuOptions::default());
    bench.wait_said("adopted the guest's MAC", 1, SECOND);
    bench.world.host.ip("link del eth0");
    bench.wait_said("parent eth0: has vanished", 1, SECOND);
    bench.world.plug(&bench.world.host, World::PARENT, "p-host");
    let own = bench.world.host.mac("eth0");
    bench.wait_said("parent eth0: is back", 1, 2 * SECOND);
    bench.wait_for_wire(&mut guest, SECOND);
    let address = || bench.world.host.mac("eth0");
    let follows = wait_until(SECOND, || address() == frames::mac_text(mac(7)));
    assert!(follows, "the new parent has {}", address());
    drop(guest);
    assert!(wait_until(SECOND, || address() == own), "it was {own}, and is {}", address());
    std::thread::sleep(SILENCE);
    assert_eq!(address(), own);
}

/// A refused address stayed refused until the guest disconnected, though the obstacle was no longer
/// there.
#[test]
fn bug_an_address_refused_on_the_old_parent_was_refused_on_the_new_one() {
    let bench = Bench::new(&[mac_key(0) + ",mac-changes=allow"], &[]);
    let mut guest = bench.guest(0);
    let old = bench.world.host.mac("eth0").parse::<vhost_user_macvtap::net::mac::Mac>().unwrap().0;
    guest.mac = old;
    assert!(!bench.reaches_lan(&mut guest, SILENCE), "the parent's address passes");
    bench.wait_said("cannot adopt the guest's MAC", 1, SECOND);
    bench.world.host.ip("link del eth0");
    bench.wait_said("parent eth0: has vanished", 1, SECOND);
    bench.world.plug(&bench.world.host, World::PARENT, "p-host");
    bench.wait_said("parent eth0: is back", 1, 2 * SECOND);
    bench.wait_for_wire(&mut guest, SECOND);
}

/// A parent that came back as a port of a bridge caused a log line every second.
#[test]
fn bug_a_parent_that_came_back_unfit_was_complained_of_every_second() {
    let bench = Bench::bridge(1, &[]);
    let mut guest = bench.guest(0);
    let host = &bench.world.host;
    host.ip("link add br7 type bridge");
    host.ip("link del eth0");
    bench.wait_said("parent eth0: has vanished", 1, SECOND);
    // Unfit from the moment when it has the name.
    host.ip("link add w8 type veth peer name w7");
    host.ip("link set w8 master br7");
    host.ip("link set w8 name eth0");
    let complaint = "parent eth0: already a port of the bridge br7";
    bench.wait_said(complaint, 1, 2 * SECOND);
    let used = bench.backend.busy(3 * SECOND);
    assert!(used < 2 * ASLEEP, "{used:?} in three seconds");
    assert_eq!(bench.said(complaint), 1);
    host.ip("link del eth0");
    bench.world.plug(host, World::PARENT, "p-host");
    bench.wait_for_wire(&mut guest, 2 * SECOND);
}

/// One port whose MTU or address could not be set on the new device kept all of them off the wire.
#[test]
fn bug_a_port_unfit_for_the_new_parent_kept_its_siblings_off_the_wire() {
    let bench = Bench::new(&[mac_key(0) + ",mtu=1400", mac_key(1)], &[]);
    let (mut fits, mut clashes) = (bench.guest(0), bench.guest(1));
    bench.wait_for_wire(&mut fits, SECOND);
    bench.world.host.ip("link del eth0");
    bench.wait_said("parent eth0: has vanished", 1, SECOND);
    bench.world.host.ip(&format!(
        "link add eth0 address {} mtu 1280 type veth peer name far",
        frames::mac_text(clashes.mac)
    ));
    bench.world.host.ip("link set eth0 up");
    bench.wait_said("parent eth0: is back", 1, 2 * SECOND);
    bench.wait_said("port t1: MAC address", 1, SECOND);
    bench.wait_said("port t0: now has MAC", 1, SECOND);
    // Siblings never stopped exchanging frames.
    let tag = fresh_tag();
    fits.send(clashes.mac, tag);
    assert!(clashes.gets(tag, ARRIVAL));
}
