//! A parent is the device that the kernel finds by the given name, whichever of its names that is.
//!
//! B8: every name that the kernel knows works wherever a parent is named. B9: two ports that call
//! one device by two names are siblings, for `--check` and at the start.

use std::fs;

use testkit::backend::Backend;
use testkit::frames;
use testkit::netns::{World, wait_until};
use testkit::rig::{ARRIVAL, SECOND, fresh_tag};
use testkit::userspace::{Guest, hush, mac, mac_key};
use testkit::vmm::QemuOptions;

/// As long as a name can be.
fn longest() -> String {
    format!("enx{}", "a-very-long-predictable-name-".repeat(5).split_at(124).0)
}

fn named(name: &str) -> World {
    let world = World::new();
    world.host.ip(&format!("link property add dev eth0 altname {name}"));
    world
}

/// Was: "32 bytes, a device name has at most 15", and "no such network device" for a copy of what
/// `ip` prints.
#[test]
fn bug_b8_every_name_that_the_kernel_knows_is_a_parent() {
    let long = longest();
    assert_eq!(long.len(), 127);
    let world = named(&long);
    world.host.ip("link property add dev eth0 altname pci:3");
    hush(&world);
    let dir = tempfile::tempdir().unwrap();
    let (socket, file) = (dir.path().join("s.sock"), dir.path().join("ports.toml"));
    let socket = socket.display().to_string();
    let index = world.host.attribute("eth0", "iflink");
    for given in [long.clone(), "pci:3".to_owned(), format!("eth0@if{index}"), format!("{long}@x")]
    {
        fs::write(
            &file,
            format!("[[port]]\nsocket = '{socket}'\nname = 'p'\nparent = '{given}'\n"),
        )
        .unwrap();
        let (file, port) =
            (file.display().to_string(), format!("socket={socket},parent={given},name=p"));
        for kind in ["macvtap", "macvlan"] {
            let ways: [&[&str]; 3] = [
                &["--parent", &given, "--socket-path", &socket, "--name", "p"],
                &["--port", &port],
                &["--config", &file],
            ];
            for way in ways {
                let args = [way, &["--type", kind]].concat();
                let checked =
                    Backend::run(&world.host, &[&args[..], &["--check"]].concat(), ARRIVAL);
                assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{args:?}");
                let mut backend = Backend::spawn(&world.host, &args);
                backend.wait_for_log("listens at", ARRIVAL);
                assert!(
                    backend.log().contains(&format!("eth0 (given as {given})")),
                    "{}",
                    backend.log()
                );
                assert!(backend.stop(SECOND).success());
            }
        }
        // The printers ask the parent for its address.
        let args =
            ["qemu-args", "--mode", "passthru", "--parent", &given, "--socket-path", &socket];
        let printed = Backend::run(&world.host, &args, ARRIVAL);
        assert!(printed.stdout.contains(&format!("mac={}", world.host.mac("eth0"))), "{printed:?}");
    }
}

/// A macvtap that was lost is made again, under a parent that has another name by now.
#[test]
fn bug_b8_a_parent_that_has_lost_the_name_is_still_the_parent() {
    let world = named("uplink-of-the-lab");
    hush(&world);
    let dir = tempfile::tempdir().unwrap();
    let port = |n: usize| {
        let (socket, kind) = (dir.path().join(format!("{n}.sock")), ["macvtap", "macvlan"][n]);
        let (socket, mac) = (socket.display().to_string(), mac_key(n));
        format!("socket={socket},parent=uplink-of-the-lab,name=t{n},type={kind},{mac}")
    };
    let backend = Backend::start(&world.host, &["--port", &port(0), "--port", &port(1)]);
    world.host.ip("link property del dev eth0 altname uplink-of-the-lab");
    world.host.ip("link set eth0 name lan7");
    backend.wait_for_log("was renamed to lan7", ARRIVAL);
    world.host.ip("link del t0");
    let again = wait_until(ARRIVAL, || world.host.has_link("t0"));
    assert!(again, "not made again: {}", backend.log());
    // The parent goes, and another device has the name.
    world.host.ip("link del lan7");
    backend.wait_for_log("has vanished; its 1 port(s)", ARRIVAL);
    world.plug(&world.host, "eth9", "p-host");
    world.host.ip("link property add dev eth9 altname uplink-of-the-lab");
    backend.wait_for_log("parent uplink-of-the-lab: is back", ARRIVAL);
    assert!(wait_until(ARRIVAL, || world.host.has_link("t0")), "{}", backend.log());
}

/// Was: "another switch of this process (pid …) uses it already".
#[test]
fn bug_b9_ports_that_give_two_names_of_one_parent_are_siblings() {
    let world = named(&longest());
    hush(&world);
    let dir = tempfile::tempdir().unwrap();
    let socket = |n: usize| dir.path().join(format!("{n}.sock"));
    let port = |n: usize, parent: &str| {
        format!("socket={},parent={parent},name=t{n},{}", socket(n).display(), mac_key(n))
    };
    let ports = [port(0, "eth0"), port(1, &longest()), port(2, "eth0@if2")];
    let args = ["--type=macvlan", "--port", &ports[0], "--port", &ports[1], "--port", &ports[2]];
    let mut backend = Backend::start(&world.host, &args);
    let mut guests: Vec<Guest> =
        (0..3).map(|n| Guest::at(&socket(n), mac(n), &QemuOptions::default())).collect();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let reached = wait_until(ARRIVAL, || {
            let tag = fresh_tag();
            guests[from].send(mac(to), tag);
            guests[to].gets(tag, SECOND / 10)
        });
        assert!(reached, "{from} to {to}");
    }
    assert!(backend.alive());
}

/// `--check` took it, and the start did not.
#[test]
fn bug_b9_check_and_start_refuse_the_same_ports_of_one_parent() {
    let world = named("wired");
    let dir = tempfile::tempdir().unwrap();
    let socket = |n: usize| dir.path().join(format!("{n}.sock")).display().to_string();
    let same_mac = format!(",{}", mac_key(1));
    for (one, two, why) in [
        (",mode=passthru", "", "mode=passthru of the first needs it alone"),
        ("", ",mode=passthru", "mode=passthru of the first needs it alone"),
        (&*same_mac, &*same_mac, "give each its own"),
    ] {
        for kind in ["--type=macvlan", "--type=macvtap"] {
            let ports = [
                format!("socket={},parent=eth0,name=a{one}", socket(0)),
                format!("socket={},parent=wired,name=b{two}", socket(1)),
            ];
            let args = [kind, "--port", &ports[0], "--port", &ports[1]];
            let checked = Backend::run(&world.host, &[&args[..], &["--check"]].concat(), ARRIVAL);
            let started = Backend::run(&world.host, &args, ARRIVAL);
            assert!(checked.stderr.contains(why), "{kind} {one}: {checked:?}");
            assert_eq!((checked.code, checked.stderr), (Some(2), started.stderr), "{kind} {one}");
            assert_eq!(started.code, Some(2));
            assert_eq!(world.host.links(), ["eth0"], "something was made");
        }
    }
}

/// An adopted device may be called by an alternative name, too; it was then taken for a sibling of
/// itself.
#[test]
fn bug_b8_a_device_is_adopted_by_an_alternative_name() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let address = frames::mac_text(mac(0));
    world
        .host
        .ip(&format!("link add link eth0 name mv7 address {address} type macvtap mode bridge"));
    world.host.ip("link property add dev mv7 altname vm7");
    let socket = |n: usize| dir.path().join(format!("{n}.sock")).display().to_string();
    let (one, two) = (socket(0), socket(1));
    let args = |socket, name| ["--parent", "eth0", "--socket-path", socket, "--name", name];
    let mut backend = Backend::start(&world.host, &args(&one, "vm7"));
    backend.wait_for_log("adopted macvtap mv7", ARRIVAL);
    assert!(backend.log().contains(&address), "{}", backend.log());
    // Another process that calls it by its other name finds it in use.
    let second = Backend::run(&world.host, &args(&two, "mv7"), ARRIVAL);
    assert!(second.stderr.contains("in use by process"), "{second:?}");
    assert!(backend.stop(SECOND).success());
    assert!(world.host.has_link("mv7"));
}
