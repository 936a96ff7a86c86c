//! Guests on userspace ports are found, and come and go.
//!
//! No kernel device goes up or down with the guest: a port is up while its guest can receive. So no
//! machine may answer for a guest that reboots or dies, its sibling must go on, and the guest must
//! be found again.

use std::time::Duration;

use testkit::backend::Backend;
use testkit::guest::{Guest, GuestConfig};
use testkit::netns::{World, assert_nothing_left, wait_until};
use testkit::scene::{G1, G2, LINK_LOCAL, Lan, MAC, Scene, V4, V6, settles};

/// Siblings and the LAN find a guest by the addresses that it has just made up, and it notices a
/// clash of addresses: neighbour discovery is multicast to groups that no NIC knows of. The host
/// stays silent.
#[test]
fn guests_are_found_by_siblings_and_from_outside() {
    let mut scene = Scene::pair("type=macvlan,mode=bridge");
    let taken = "2001:db8::abcd:11";
    let extra = "2001:db8::ef01:22";
    for guest in &mut scene.guests {
        guest.sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
    }
    for address in [taken, extra] {
        scene.guests[0].sh(&format!("ip addr add {address}/64 dev eth0"));
    }
    for address in [taken, extra] {
        settles(&mut scene.guests[0], address, false);
        assert!(scene.guests[1].pings(address), "{address}, by a sibling");
        assert!(scene.world.lan.pings(address), "{address}, by the LAN");
    }
    for [address, owner] in [[taken, "of a sibling"], [World::LAN_V6, "of the LAN"]] {
        scene.guests[1].sh(&format!("ip addr add {address}/64 dev eth0"));
        settles(&mut scene.guests[1], address, true);
        assert!(scene.guests[0].pings(address), "{owner}: {address}");
    }
    // Link-local addresses, too, and by question and answer alone: one answer, from the owner.
    for from in [G1, G2, Lan] {
        for (to, address) in LINK_LOCAL.iter().enumerate().filter(|(n, _)| *n != from as usize) {
            let text = scene.run_at(from, &format!("busybox ping -c 2 -W 2 {address}%eth0")).text;
            assert!(text.contains(" bytes from "), "{from:?} to guest {to}: {text}");
            assert!(!text.contains("DUP"), "{from:?} to guest {to}: {text}");
        }
    }
    let parent = scene.world.host.mac(World::PARENT);
    for (address, owner) in [(World::HOST_V4, parent.as_str()), (V4[0], MAC[0]), (V4[1], MAC[1])] {
        let text = scene.world.lan.run(&format!("busybox arping -b -c 2 -I eth0 {address}")).text;
        let replies: Vec<&str> = text.lines().filter(|line| line.contains("reply from")).collect();
        assert_eq!(replies.len(), 2, "one answer to each question: {text}");
        assert!(replies.iter().all(|line| line.contains(owner)), "{owner} alone: {text}");
    }
    let text = scene.guests[0].run(&format!("arping -b -c 2 -I eth0 {}", V4[1])).text;
    assert_eq!(text.matches("reply from").count(), 2, "{text}");
    assert!(text.contains(MAC[1]), "{text}");
    let text = scene.guests[0].run(&format!("arping -b -c 2 -I eth0 {}", World::HOST_V4)).text;
    assert!(text.contains("Received 0 "), "the host is not reached: {text}");
    scene.verdict();
}

/// A guest reboots, its QEMU is killed, the back-end is killed: the sibling goes on, and the guest
/// is reached again.
#[test]
fn guests_and_the_back_end_come_and_go() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = |n: usize| dir.path().join(format!("vm{n}.sock"));
    let specs: Vec<String> = (0..2)
        .map(|n| {
            let (path, mac) = (socket(n), MAC[n]);
            let path = path.display();
            format!("type=macvlan,socket={path},parent={},name=vm{n},mac={mac}", World::PARENT)
        })
        .collect();
    let args: Vec<&str> = specs.iter().flat_map(|spec| ["--port", spec]).collect();
    let mut backend = Backend::start(&world.host, &args);
    let start = |n: usize| Guest::start(&GuestConfig::vhost_user("vm", socket(n), MAC[n]));
    let (mut guest, mut sibling) = (start(0), start(1));
    sibling.wait_boot();
    sibling.configure("eth0", V4[1], V6[1]);
    let works = |guest: &mut Guest, sibling: &mut Guest, when: &str| {
        for address in [World::LAN_V4, World::LAN_V6, V4[1], V6[1]] {
            assert!(guest.pings(address), "{when}: {address} does not answer the guest");
        }
        assert!(world.lan.pings(V4[0]) && world.lan.pings(V6[0]), "{when}: from the LAN");
        assert!(sibling.pings(V4[0]) && sibling.pings(V6[0]), "{when}: from the sibling");
    };
    let boots = |guest: &mut Guest, sibling: &mut Guest, when: &str| {
        guest.configure("eth0", V4[0], V6[0]);
        works(guest, sibling, when);
    };
    guest.wait_boot();
    boots(&mut guest, &mut sibling, "at first");

    guest.reboot();
    boots(&mut guest, &mut sibling, "after a reboot");
    guest.reset();
    boots(&mut guest, &mut sibling, "after a reset");

    guest.kill();
    assert!(sibling.pings(World::LAN_V4), "the sibling without the guest");
    assert!(sibling.silent(V4[0]), "nobody answers for a guest that has gone");
    drop(guest);
    let mut guest = start(0);
    guest.wait_boot();
    boots(&mut guest, &mut sibling, "in another QEMU");

    backend.kill();
    assert!(guest.silent(V4[1]), "without a back-end");
    backend = Backend::start(&world.host, &args);
    let back = || backend.log().matches("front-end (process ").count() >= 2;
    assert!(wait_until(Duration::from_secs(10), back), "the guests do not come back");
    works(&mut guest, &mut sibling, "with another back-end");
    assert!(backend.stop(Duration::from_secs(2)).success());
    drop((guest, sibling, backend, world));
    assert_nothing_left();
}
