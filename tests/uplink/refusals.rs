//! Every refusal names the object, the reason and the remedy, and leaves nothing behind.

use vhost_user_macvtap::host::macvtap::Macvtap;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::host::spec::MacvtapSpec;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;

use crate::world::{MAC, World, spec};

/// Opens, expects a refusal with all these parts, and returns to the state before.
fn refused(world: &World, wanted: &MacvtapSpec, parts: &[&str]) {
    let before = world.ip("-br link");
    let error = world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        Macvtap::open(&mut netlink, wanted).unwrap_err().to_string()
    });
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert_eq!(world.ip("-br link"), before);
}

fn on(parent: &str) -> MacvtapSpec {
    MacvtapSpec { parent: parent.into(), ..spec("vm0", Mode::Bridge) }
}

#[test]
fn parents_that_cannot_be() {
    let world = World::new();
    world.ip("tuntap add t0 mode tun");
    world.ip("link add br0 type bridge");
    world.ip("link add w1 type veth peer name p1");
    world.ip("link set p1 master br0");
    refused(&world, &on("eth77"), &["parent eth77: ", "no such network device"]);
    refused(&world, &on("lo"), &["parent lo: ", "loopback"]);
    refused(&world, &on("t0"), &["parent t0: ", "not an Ethernet device"]);
    refused(&world, &on("p1"), &["parent p1: ", "bridge br0", "nomaster"]);
    // The bridge itself is a parent like any other.
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        Macvtap::open(&mut netlink, &on("br0")).unwrap().close(&mut netlink).unwrap();
    });
}

#[test]
fn siblings_in_the_way() {
    let world = World::new();
    world.ip("link add link p0 name mv0 address 02:00:00:00:00:05 type macvlan mode private");
    refused(
        &world,
        &spec("vm0", Mode::Passthru),
        &["parent p0: ", "mv0 (a macvlan in private mode)"],
    );
    let clash = Mac([2, 0, 0, 0, 0, 5]);
    let mut wanted = spec("vm0", Mode::Bridge);
    wanted.mac = Some(clash);
    refused(&world, &wanted, &["macvtap vm0: ", "02:00:00:00:00:05", "mv0"]);
    wanted.mac = Some(world.mac_of("p0").parse().unwrap());
    refused(&world, &wanted, &["macvtap vm0: ", "its parent p0"]);
    wanted.mac = Some(Mac::BROADCAST);
    refused(&world, &wanted, &["macvtap vm0: ", "group address"]);
    world.ip("link set mv0 up");
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        let error = port.set_mac(&mut netlink, clash).unwrap_err().to_string();
        assert!(error.contains("mv0 (a macvlan"), "{error}");
        assert_eq!(port.mac(), MAC);
        port.close(&mut netlink).unwrap();
    });
    world.ip("link del mv0");
    world.ip("link add link p0 name mv1 type macvtap mode passthru");
    refused(&world, &spec("vm0", Mode::Bridge), &["parent p0: ", "mv1 uses it alone"]);
}

#[test]
fn names_and_sizes() {
    let world = World::new();
    let mut wanted = spec("vm0", Mode::Bridge);
    wanted.mtu = Some(9000);
    refused(&world, &wanted, &["macvtap vm0: ", "9000", "1500"]);
    refused(&world, &spec("w0", Mode::Bridge), &["macvtap w0: ", "taken by a veth device"]);
    world.ip("link add link p0 name vm0 type macvtap mode vepa");
    let parts = ["macvtap vm0: ", "taken by a macvtap in vepa mode of p0", "ip link delete vm0"];
    refused(&world, &spec("vm0", Mode::Bridge), &parts);
    world.ip("link add w1 type veth peer name p1");
    let elsewhere = MacvtapSpec { mode: Mode::Vepa, ..on("p1") };
    refused(&world, &elsewhere, &["in vepa mode of another parent"]);
}

/// Fails at the 257th open, far into the work: everything before is undone.
#[test]
fn more_queues_than_the_kernel_has() {
    let world = World::new();
    let wanted = MacvtapSpec { queues: 300, ..spec("vm0", Mode::Passthru) };
    refused(&world, &wanted, &["macvtap vm0, ", "256 queues", "fewer queue pairs"]);
    world.ip("link add link p0 name vm1 type macvtap mode bridge");
    let wanted = MacvtapSpec { queues: 300, ..spec("vm1", Mode::Bridge) };
    refused(&world, &wanted, &["256 queues"]);
}

/// The kernel compares addresses only when a port goes up, and across namespaces.
#[test]
fn an_address_taken_out_of_sight_is_told_at_last() {
    let (world, other) = (World::new(), World::new());
    world.ip(&format!("link add link p0 name mv0 address {MAC} type macvlan mode bridge"));
    world.ip(&format!("link set mv0 netns {}", other.name));
    other.ip("link set mv0 up");
    let parts = ["macvtap vm0: ", &MAC.to_string(), "another network namespace"];
    refused(&world, &spec("vm0", Mode::Bridge), &parts);
    other.ip("link del mv0");
}

/// Takes every capability from the calling thread only.
fn drop_privileges() {
    // SAFETY: a system call on numbers; the raw one changes this thread only, unlike libc's.
    let answer = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(answer, 0);
}

#[test]
fn missing_privileges_are_named() {
    let world = World::new();
    let error = world.enter(|| {
        drop_privileges();
        let mut netlink = Netlink::open().unwrap();
        Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap_err().to_string()
    });
    assert!(error.contains("macvtap vm0: ") && error.contains("CAP_NET_ADMIN"), "{error}");

    // A device prepared in full needs no privilege but its node; the index makes the node unique.
    let index = 100_000 + std::process::id();
    world.ip(&format!("link add link p0 name vm0 index {index} type macvtap mode bridge"));
    world.ip("link set vm0 arp off allmulticast on up");
    let node = format!("/dev/tap{index}");
    let mut wanted = spec("vm0", Mode::Bridge);
    wanted.mac = None;
    let open = || {
        world.enter_with_sys(|| {
            drop_privileges();
            let mut netlink = Netlink::open().unwrap();
            let port = Macvtap::open(&mut netlink, &wanted).map_err(|e| e.to_string())?;
            port.close(&mut netlink).map_err(|e| e.to_string())
        })
    };
    let error = open().unwrap_err();
    assert!(error.contains(&node) && error.contains("udev"), "{error}");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&node, all).unwrap();
    open().unwrap();

    // Under a /sys of another namespace, without the right to mount one.
    let error = world.enter(|| {
        drop_privileges();
        let mut netlink = Netlink::open().unwrap();
        Macvtap::open(&mut netlink, &wanted).unwrap_err().to_string()
    });
    assert!(error.contains("ip netns exec"), "{error}");
}
