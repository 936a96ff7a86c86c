//! The receivers beside a passthru port and a source port: the host's own stack is the witness.

use std::time::Duration;

use testkit::frames::{self, Mac};
use testkit::netns::{World, wait_until};
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE, fresh_tag};
use testkit::userspace::{Bench, Guest, HostTalk, hush, mac, mac_key};
use testkit::vmm::QemuOptions;

fn address_of(text: &str) -> Mac {
    text.parse::<vhost_user_macvtap::net::mac::Mac>().unwrap().0
}

#[test]
fn a_passthru_guest_has_all_unicast_and_the_host_none_but_broadcasts() {
    let world = World::new();
    hush(&world);
    let own = address_of(&world.host.mac("eth0"));
    let talk = HostTalk::new(&world);
    talk.wait(SECOND);
    let mut bench = Bench::in_world(world, &["mode=passthru,mac-changes=deny"], &[]);
    // From the start of the port, with or without a guest.
    assert!(!talk.answered() && talk.hears_broadcast(), "without a guest");
    let mut guest = bench.guest_with(0, own, &QemuOptions::default());
    for to in [own, mac(50), [2, 0, 0, 0, 0, 1], [0x33, 0x33, 0, 1, 2, 3]] {
        assert!(bench.reached_at(&mut guest, to, ARRIVAL), "to {}", frames::mac_text(to));
    }
    for _ in 0..3 {
        assert!(!talk.answered(), "the host hears unicast");
        assert!(!talk.hears(&bench.wire, LAN_MAC, own), "the host hears unicast");
        let heard = talk.hears_broadcast();
        assert!(heard, "the host does not hear a broadcast");
        let udp = |f: &[u8]| f.len() > 40 && frames::dst(f) == frames::BROADCAST && f[23] == 17;
        assert!(guest.recv_where(ARRIVAL, udp).is_some(), "the guest does not hear a broadcast");
    }
    // No port here receives a guest's broadcast that a switch sends back.
    bench.world.set_hairpin(true);
    let tag = fresh_tag();
    guest.send(frames::BROADCAST, tag);
    assert!(bench.wire.recv_tag(tag, ARRIVAL).is_some());
    assert!(!guest.gets(tag, SILENCE), "its own broadcast came back to the guest");
    drop(guest);
    assert!(bench.backend.stop(SECOND).success());
    talk.wait(SECOND);
}

#[test]
fn a_source_port_with_nodst_has_its_senders_for_itself() {
    let world = World::new();
    hush(&world);
    let (own, listed) = (address_of(&world.host.mac("eth0")), address_of(&world.lan.mac("eth0")));
    let talk = HostTalk::new(&world);
    talk.wait(SECOND);
    let keys = format!("{},mode=source,source={},nodst=on", mac_key(0), frames::mac_text(listed));
    let mut bench = Bench::in_world(world, &[keys, mac_key(1)], &[]);
    let mut bridge = bench.guest(1);
    let mut guest = bench.connect(0, mac(0), &QemuOptions::default());
    let unicast = |from: Mac| frames::tagged(own, from, fresh_tag(), 60);
    // The port is up when frames of the listed sender arrive.
    let up = wait_until(2 * SECOND, || {
        let frame = unicast(listed);
        bench.wire.send(&frame);
        guest.gets(frames::tag_of(&frame).unwrap(), SILENCE)
    });
    assert!(up, "the listed sender is not heard by its port");
    for _ in 0..3 {
        assert!(!talk.answered(), "the host hears the listed sender");
        assert!(!talk.hears(&bench.wire, listed, own), "the host hears the listed sender");
        assert!(talk.hears(&bench.wire, LAN_MAC, own), "the host does not hear others");
        let other = unicast(LAN_MAC);
        bench.wire.send(&other);
        let came = guest.gets(frames::tag_of(&other).unwrap(), SILENCE);
        assert!(!came, "the source port hears somebody who is not listed");
        // Nor do siblings receive the listed sender's frames, group frames included.
        for to in [mac(1), frames::BROADCAST] {
            let frame = frames::tagged(to, listed, fresh_tag(), 60);
            bench.wire.send(&frame);
            let tag = frames::tag_of(&frame).unwrap();
            assert!(guest.gets(tag, ARRIVAL), "the source port");
            assert!(!bridge.gets(tag, SILENCE), "a sibling hears the listed sender");
        }
        assert!(bench.reached_from_lan(&mut bridge, ARRIVAL), "a sibling does not hear others");
    }
    // The filter goes with the process, however that ends.
    bench.backend.kill();
    talk.wait(SECOND);
}

/// The table said that the port is up before the kernel had its filters.
#[test]
fn bug_the_host_heard_a_ports_echo_while_it_came_up() {
    let world = World::new();
    hush(&world);
    let talk = HostTalk::new(&world);
    talk.wait(ARRIVAL);
    let bench = Bench::in_world(world, &[format!("{},mode=private", mac_key(0))], &[]);
    let echo = || talk.hears(&bench.wire, mac(0), frames::BROADCAST);
    for round in 0..10 {
        assert!(
            wait_until(ARRIVAL, echo),
            "round {round}: with no guest it is anybody's broadcast"
        );
        let mut guest = bench.connect(0, mac(0), &QemuOptions::default());
        // The moment at which the port receives from the LAN, with no pause in between. (Its guest
        // sends first: the LAN's switch has just learned its address elsewhere.)
        let moment = Duration::from_millis(3);
        let hears = |guest: &mut Guest| {
            bench.reaches_lan(guest, moment) && bench.reached_from_lan(guest, moment)
        };
        assert!((0..2000).any(|_| hears(&mut guest)), "round {round}: the guest hears nothing");
        assert!(!echo(), "round {round}: the host hears what its own port has said");
    }
}
