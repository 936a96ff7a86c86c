//! From creation and adoption to the end: what the device is in between, and what is left.

use std::time::{Duration, Instant};

use vhost_user_macvtap::host::macvtap::Macvtap;
use vhost_user_macvtap::host::macvtap::closing::close_all;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::host::spec::MacvtapSpec;
use vhost_user_macvtap::host::watch::{LinkEvent, LinkWatch};
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;

use crate::world::{MAC, World, poll_until, spec};

#[test]
fn every_mode_is_created_as_asked_and_removed() {
    let world = World::new();
    let source = Mac([2, 0, 0, 0, 0, 9]);
    for mode in Mode::ALL {
        let mut wanted = spec("vm0", mode);
        wanted.mtu = Some(1400);
        wanted.queues = 2;
        if mode == Mode::Source {
            wanted.sources = vec![source, Mac([2, 0, 0, 0, 0, 10])];
        }
        world.enter(|| {
            let mut netlink = Netlink::open().unwrap();
            let port = Macvtap::open(&mut netlink, &wanted).unwrap();
            let text = world.show("vm0").unwrap();
            for part in [&format!("macvtap mode {mode}"), "mtu 1400", "NOARP", "ALLMULTI", ",UP"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert!(text.contains("addrgenmode none"), "{text}");
            let mac = if mode == Mode::Passthru { world.mac_of("p0") } else { MAC.to_string() };
            assert_eq!(world.mac_of("vm0"), mac);
            assert_eq!(port.mac().to_string(), mac);
            assert_eq!((port.name(), &*port.parent().name, port.mtu()), ("vm0", "p0", 1400));
            assert_eq!(port.queues().len(), 2);
            assert!(port.created());
            let link = netlink.link_by_index(port.ifindex()).unwrap().unwrap();
            assert_eq!((link.mode, link.parent), (Some(mode), Some(port.parent_index())));
            assert!(link.up && link.running);
            if mode == Mode::Source {
                assert!(text.contains(&source.to_string()), "{text}");
                assert_eq!(link.sources.len(), 2);
            }
            port.close(&mut netlink).unwrap();
        });
        assert_eq!(world.show("vm0"), None);
    }
}

/// The process has half a second to leave with all its ports.
#[test]
fn many_queues_close_in_time() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut check = |ports: u8, queues: usize| {
            let mut open = Vec::new();
            for port in 0..ports {
                let mac = Some(Mac([2, 0, 0, 0, 1, port]));
                let one = spec(&format!("vm{port}"), Mode::Bridge);
                let wanted = MacvtapSpec { queues, mac, ..one };
                open.push(Macvtap::open(&mut netlink, &wanted).unwrap());
            }
            let start = Instant::now();
            assert_eq!(close_all(open, &mut netlink), []);
            let closed = start.elapsed();
            println!("{ports} ports of {queues} queues: closed in {closed:?}");
            // Generous, for a busy machine: one by one it would be 17 ms for each queue.
            assert!(closed < Duration::from_millis(500), "{closed:?}");
        };
        check(1, 32);
        check(4, 16);
        check(100, 1);
    });
    let left = world.ip("-br link");
    assert!(!left.contains("vm") && left.contains("p0"), "{left}");
}

#[test]
fn an_adopted_device_is_put_back_as_it_was() {
    let world = World::new();
    world.ip("link add link p0 name vm0 address 02:00:00:00:00:07 type macvtap mode vepa");
    world.ip("link set vm0 mtu 1300");
    // The queueing discipline is allotted at the first "up" and stays: the kernel's own doing.
    let show = || world.show("vm0").unwrap().replace("qdisc pfifo_fast", "qdisc noop");
    let before = show();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut wanted = spec("vm0", Mode::Vepa);
        wanted.mtu = Some(1200);
        let port = Macvtap::open(&mut netlink, &wanted).unwrap();
        assert!(!port.created());
        assert_eq!((port.mac(), port.mtu()), (MAC, 1200));
        let text = world.show("vm0").unwrap();
        assert!(text.contains("NOARP") && text.contains("ALLMULTI") && text.contains(",UP"));
        port.close(&mut netlink).unwrap();
        // Nothing asked for: what it has stays.
        wanted.mac = None;
        wanted.mtu = None;
        let port = Macvtap::open(&mut netlink, &wanted).unwrap();
        assert_eq!((port.mac(), port.mtu()), (Mac([2, 0, 0, 0, 0, 7]), 1300));
        port.close(&mut netlink).unwrap();
    });
    assert_eq!(show(), before);
}

#[test]
fn an_adopted_source_list_is_put_back() {
    let world = World::new();
    world.ip("link add link p0 name vm0 address 02:00:00:00:00:07 type macvtap mode source");
    world.ip("link set vm0 type macvtap macaddr add 02:00:00:00:00:21");
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut wanted = spec("vm0", Mode::Source);
        wanted.sources = vec![Mac([2, 0, 0, 0, 0, 0x33])];
        let port = Macvtap::open(&mut netlink, &wanted).unwrap();
        let text = world.show("vm0").unwrap();
        assert!(text.contains("00:33") && !text.contains("00:21"), "{text}");
        port.close(&mut netlink).unwrap();
    });
    let text = world.show("vm0").unwrap();
    assert!(text.contains("00:21") && !text.contains("00:33"), "{text}");
}

#[test]
fn a_passthru_parent_follows_and_gets_its_address_back() {
    let world = World::new();
    let original = world.mac_of("p0");
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Passthru)).unwrap();
        assert_eq!(port.mac().to_string(), original);
        port.set_mac(&mut netlink, MAC).unwrap();
        assert_eq!((world.mac_of("p0"), port.mac()), (MAC.to_string(), MAC));
        port.close(&mut netlink).unwrap();
        assert_eq!(world.mac_of("p0"), original);
        // An address given from the start goes the same way.
        let mut wanted = spec("vm0", Mode::Passthru);
        wanted.mac = Some(MAC);
        let port = Macvtap::open(&mut netlink, &wanted).unwrap();
        assert_eq!((world.mac_of("p0"), port.mac()), (MAC.to_string(), MAC));
        port.close(&mut netlink).unwrap();
    });
    assert_eq!(world.mac_of("p0"), original);
}

#[test]
fn a_parent_that_is_a_macvlan_stands_for_its_real_parent() {
    let world = World::new();
    world.ip("link add link p0 name mv0 type macvlan mode bridge");
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut wanted = spec("vm0", Mode::Bridge);
        wanted.parent = "mv0".into();
        let port = Macvtap::open(&mut netlink, &wanted).unwrap();
        assert_eq!(port.parent().name, "p0");
        port.close(&mut netlink).unwrap();
        wanted.mode = Mode::Passthru;
        let error = Macvtap::open(&mut netlink, &wanted).unwrap_err().to_string();
        assert!(error.contains("mv0 (a macvlan in bridge mode)"), "{error}");
    });
}

/// As in a container whose only interface is a macvlan of the host's.
#[test]
fn a_real_parent_may_be_out_of_sight() {
    let (world, inside) = (World::new(), World::new());
    world.ip("link add link p0 name mv0 type macvlan mode bridge");
    world.ip(&format!("link set mv0 netns {}", inside.name));
    inside.ip("link set mv0 up");
    inside.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut wanted = spec("vm0", Mode::Bridge);
        wanted.parent = "mv0".into();
        let port = Macvtap::open(&mut netlink, &wanted).unwrap();
        assert_eq!(port.parent().name, "mv0");
        wanted.name = "vm1".into();
        let error = Macvtap::open(&mut netlink, &wanted).unwrap_err().to_string();
        assert!(error.contains("belongs to vm0"), "{error}");
        port.close(&mut netlink).unwrap();
    });
    inside.ip("link del mv0");
}

#[test]
fn a_vanished_device_is_noticed_and_made_again() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut watch = LinkWatch::open().unwrap();
        let mut port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        let index = port.ifindex();
        // The kernel chooses the order of news about several devices: unexpected news is kept for
        // the next wait.
        let mut news = Vec::new();
        let mut wait_for = |wanted: &dyn Fn(&LinkEvent) -> bool| {
            poll_until(Duration::from_secs(2), || {
                watch.drain(|event| news.push(event)).unwrap();
                let at = news.iter().position(wanted)?;
                Some(news.remove(at))
            })
            .expect("no such news")
        };
        wait_for(&|e| matches!(e, LinkEvent::Changed(l) if l.index == index && l.running));
        world.ip("link set p0 down");
        wait_for(&|e| matches!(e, LinkEvent::Changed(l) if l.name == "p0" && !l.up));
        wait_for(&|e| matches!(e, LinkEvent::Changed(l) if l.index == index && !l.running));
        world.ip("link set p0 up");
        wait_for(&|e| matches!(e, LinkEvent::Changed(l) if l.index == index && l.running));

        // A bridge port that leaves its bridge is announced by RTM_DELLINK, but still exists.
        world.ip("link add br0 type bridge");
        world.ip("link set w0 master br0");
        world.ip("link set w0 nomaster");
        world.ip("link del br0");
        let gone = |e: &LinkEvent| matches!(e, LinkEvent::Gone { .. });
        assert!(matches!(wait_for(&gone), LinkEvent::Gone { name, .. } if name == "br0"));

        world.ip("link del w0");
        wait_for(&|e| *e == LinkEvent::Gone { index, name: "vm0".into() });
        let error = port.set_mac(&mut netlink, MAC).unwrap_err().to_string();
        assert!(error.contains("vanished"), "{error}");
        port.close(&mut netlink).unwrap();

        world.ip("link add w0 type veth peer name p0");
        wait_for(&|e| matches!(e, LinkEvent::Changed(l) if l.name == "p0"));
        let port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        assert_ne!(port.ifindex(), index);
        port.close(&mut netlink).unwrap();
    });
}

#[test]
fn news_that_come_too_fast_are_said_to_be_lost() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut watch = LinkWatch::open().unwrap();
        let link = netlink.link_by_name("w0").unwrap().unwrap();
        for round in 0..2000 {
            netlink.set_mtu(link.index, 1400 + round % 2).unwrap();
        }
        let mut overrun = false;
        watch.drain(|event| overrun |= event == LinkEvent::Overrun).unwrap();
        assert!(overrun);
    });
}
