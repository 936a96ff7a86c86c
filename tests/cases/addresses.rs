//! The addresses that a port takes from its guest, and those that it must refuse (B10, S8, F19).

use std::time::Duration;

use testkit::backend::Backend;
use testkit::frames::{self, Mac};
use testkit::netns::{World, wait_until};
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE, fresh_tag, open_wire};
use testkit::userspace::{Bench, Guest, hush, mac, mac_key};
use testkit::vmm::QemuOptions;
use testkit::wire::Wire;

/// The address of a VRRP group's virtual router (RFC 5798, section 7.3).
const VRRP: Mac = [0, 0, 0x5e, 0, 1, 0x33];
/// A machine of the LAN.
const GATEWAY: Mac = [0x52, 0x54, 0, 0xdd, 0, 1];

/// Whether one frame from this address gets to the LAN, and one to it back.
fn both_ways(wire: &Wire, guest: &mut Guest, address: Mac) -> bool {
    let (out, into) = (fresh_tag(), fresh_tag());
    guest.driver.send(0, &[frames::tagged(LAN_MAC, address, out, 60)]);
    let left = wire.recv_tag(out, SILENCE).is_some();
    wire.send(&frames::tagged(address, LAN_MAC, into, 60));
    left && guest.gets(into, SILENCE)
}

/// Was: the parent's address was changed 32 times in 40 rounds.
#[test]
fn bug_b10_two_addresses_in_turn_leave_a_passthru_parent_alone() {
    for kind in ["macvlan", "macvtap"] {
        let world = World::new();
        hush(&world);
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let path = socket.display().to_string();
        let args = [
            "--type",
            kind,
            "--mode=passthru",
            "--parent=eth0",
            "--name=t0",
            "--socket-path",
            &path,
        ];
        let mut backend = Backend::start(&world.host, &args);
        let wire = open_wire(&world);
        let own = mac(3);
        let mut guest = Guest::at(&socket, own, &QemuOptions::default());
        assert!(wait_until(ARRIVAL, || both_ways(&wire, &mut guest, own)), "{kind}");
        let kept = wait_until(SECOND, || world.host.mac("eth0") == frames::mac_text(own));
        assert!(kept, "{kind}: the first address is the parent's");
        let (mut changes, mut last) = (0, world.host.mac("eth0"));
        for round in 0..40 {
            let address = if round % 2 == 0 { VRRP } else { own };
            assert!(both_ways(&wire, &mut guest, address), "{kind}, round {round}");
            let now = world.host.mac("eth0");
            changes += u32::from(now != last);
            last = now;
        }
        assert_eq!((changes, last), (0, frames::mac_text(own)), "{kind}");
        assert!(backend.log().matches("its guest uses several addresses").count() <= 1);
        // A guest that changes its address for good is still followed.
        let followed = wait_until(2 * SECOND, || {
            both_ways(&wire, &mut guest, mac(4));
            world.host.mac("eth0") == frames::mac_text(mac(4))
        });
        assert!(followed, "{kind}: {}", backend.log());
        assert!(backend.stop(SECOND).success());
        assert_ne!(world.host.mac("eth0"), frames::mac_text(mac(4)), "{kind}: not given back");
    }
}

/// Whether a sibling's frame to this address leaves for the LAN.
fn leaves(bench: &Bench, sibling: &mut Guest, to: Mac) -> bool {
    let tag = fresh_tag();
    sibling.send(to, tag);
    bench.wire.recv_tag(tag, SILENCE).is_some()
}

fn sends_as(bench: &Bench, guest: &mut Guest, source: Mac) -> bool {
    let tag = fresh_tag();
    guest.driver.send(0, &[frames::tagged(LAN_MAC, source, tag, 60)]);
    bench.wire.recv_tag(tag, SILENCE).is_some()
}

/// Was: the port learned or adopted it: its siblings' frames to the gateway came to the guest and
/// no longer left.
#[test]
fn bug_s8_an_address_that_is_heard_on_the_wire_is_not_learned() {
    let keys = ["".to_owned(), mac_key(1), mac_key(2) + ",mac-changes=allow"];
    let bench = Bench::new(&keys, &[]);
    let mut sibling = bench.guest(1);
    let mut follower = bench.guest(2);
    let mut learner = bench.connect(0, GATEWAY, &QemuOptions::default());
    // The gateway sends: broadcasts, to a guest, and between strangers.
    for to in [Mac::default().map(|_| 0xff), mac(1), [2, 7, 7, 7, 7, 7]] {
        bench.wire.send(&frames::tagged(to, GATEWAY, fresh_tag(), 60));
    }
    assert!(wait_until(SECOND, || leaves(&bench, &mut sibling, GATEWAY)));
    for (port, guest) in [(0, &mut learner), (2, &mut follower)] {
        for _ in 0..5 {
            assert!(!sends_as(&bench, guest, GATEWAY), "port {port}: even the first frame");
            assert!(leaves(&bench, &mut sibling, GATEWAY), "port {port}");
        }
        let line =
            format!("port t{port}: does not adopt the guest's MAC {}", frames::mac_text(GATEWAY));
        bench.wait_said(&line, 1, SECOND);
        assert!(bench.dropped_for(port, "foreign MAC") >= 5);
        assert_eq!(bench.said(&line), 1, "told once");
        // The guest gets an address of its own.
        guest.mac = mac(5 + port);
        bench.wait_for_wire(guest, SECOND);
    }
    assert!(leaves(&bench, &mut sibling, GATEWAY));
}

/// The gateway has only talked with the host, whose frames no port receives.
#[test]
fn bug_s8_the_hosts_gateway_and_neighbours_are_not_learned() {
    let world = World::new();
    let (gateway, machine) = (frames::mac_text(GATEWAY), frames::mac_text([2, 0, 0, 0, 0xee, 1]));
    world.host.ip("route add default via 192.0.2.254");
    world.host.ip(&format!("neigh add 192.0.2.254 lladdr {gateway} dev eth0 nud stale"));
    world.host.ip(&format!("neigh add 192.0.2.7 lladdr {machine} dev eth0 nud reachable"));
    let bench = Bench::in_world(world, &["", ""], &[]);
    for (port, address, who) in [
        (0, GATEWAY, "the default gateway 192.0.2.254"),
        (1, [2, 0, 0, 0, 0xee, 1], "the host's neighbour 192.0.2.7"),
    ] {
        let mut guest = bench.connect(port, address, &QemuOptions::default());
        let refused = wait_until(ARRIVAL, || {
            sends_as(&bench, &mut guest, address);
            bench.said(&format!("port t{port}: cannot adopt the guest's MAC")) > 0
        });
        assert!(refused && bench.said(who) == 1, "{}", bench.backend.log());
        assert!(!bench.reached_at(&mut guest, address, SILENCE));
        assert!(!sends_as(&bench, &mut guest, address));
    }
    assert_eq!(bench.said("adopted the guest's MAC"), 0);
}

/// A guest that moves away and comes back, and one whose frames a switch reflects, stay able to use
/// their address.
#[test]
fn bug_s8_a_guest_that_comes_back_or_is_reflected_keeps_its_address() {
    let world = World::new();
    world.set_hairpin(true);
    let bench = Bench::in_world(world, &["", &mac_key(1)], &[]);
    let address = mac(7);
    for session in 0..3 {
        let mut guest = bench.connect(0, address, &QemuOptions::default());
        // Broadcasts, which come back.
        for _ in 0..5 {
            guest.send([0xff; 6], fresh_tag());
        }
        bench.wait_for_wire(&mut guest, ARRIVAL);
        let left = bench.said("port t0: front-end");
        drop(guest);
        assert!(
            wait_until(SECOND, || bench.said("port t0: front-end") > left),
            "session {session}"
        );
        // The address is elsewhere now, and sends from there.
        for _ in 0..5 {
            bench.wire.send(&frames::tagged([0xff; 6], address, fresh_tag(), 60));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(bench.said("does not"), 0, "{}", bench.backend.log());
}

/// Was: 58 % of a processor for the control thread, a table for each toggle, a BPF program loaded
/// with it.
#[test]
fn bug_f19_a_ring_toggled_in_a_loop_does_not_rebuild_the_table_each_time() {
    let keys = [format!("{},mode=private", mac_key(0)), mac_key(1), mac_key(2)];
    let bench = Bench::new(&keys, &["--log-level=debug"]);
    let mut one = bench.guest(1);
    let mut hostile = bench.guest(0);
    let control = || {
        let pid = bench.world.host.pids()[0];
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).unwrap();
        let (_, tail) = stat.rsplit_once(')').unwrap();
        let ticks: u64 =
            tail.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    };
    let before = control();
    let start = std::time::Instant::now();
    let mut toggles = 0;
    while start.elapsed() < 3 * SECOND {
        for _ in 0..50 {
            hostile.vmm.set_vring_enable(0, false);
            hostile.vmm.set_vring_enable(0, true);
            toggles += 2;
        }
        // A neighbour is served meanwhile, and a new one is on the wire at once.
        assert!(bench.reaches_lan(&mut one, ARRIVAL) && bench.reached_from_lan(&mut one, ARRIVAL));
    }
    let (used, took) = (control() - before, start.elapsed());
    println!("{toggles} toggles in {took:?}: {used:?} of the control thread");
    assert!(used.as_secs_f64() < 0.08 * took.as_secs_f64(), "{used:?} in {took:?}");
    let mut late = bench.connect(2, mac(2), &QemuOptions::default());
    let took = bench.wait_for_wire(&mut late, 2 * SECOND);
    println!("a neighbour is on the wire after {took:?}");
    // And the last state holds.
    bench.wait_for_wire(&mut hostile, 2 * SECOND);
}
