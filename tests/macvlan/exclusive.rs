//! One parent, one process; one address, one owner. A second process or port is refused at its
//! start. The message names the first one, and nothing is left behind.

use tempfile::TempDir;
use vhost_user_macvtap::config::{auto_mac, machine_id};

use testkit::backend::Backend;
use testkit::frames;
use testkit::netns::World;
use testkit::rig::{ARRIVAL, SECOND};
use testkit::userspace::{Bench, hush, mac, mac_key, state_of_parent, without_remarks};

/// Runs the program with a port for each of `keys` (SOCK is a path), which must fail with this code
/// and these words.
fn refused(world: &World, keys: &[&str], code: i32, parts: &[&str]) {
    let dir = TempDir::new().unwrap();
    let mut args = vec!["--type=macvlan".to_owned()];
    for (n, keys) in keys.iter().enumerate() {
        let socket = dir.path().join(format!("{n}.sock"));
        args.push("--port".to_owned());
        args.push(format!("socket={},name=n{n},{keys}", socket.display()));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let links = || without_remarks(&world.host.ip("-o link"));
    let before = (links(), state_of_parent(world));
    let run = Backend::run(&world.host, &args, 5 * SECOND);
    assert_eq!(run.code, Some(code), "{keys:?}: {}", run.stderr);
    for part in parts {
        assert!(run.stderr.contains(part), "{keys:?}: '{part}' is not in: {}", run.stderr);
    }
    assert_eq!((links(), state_of_parent(world)), before, "{keys:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{keys:?}: a socket was left");
}

fn quiet_world() -> World {
    let world = World::new();
    hush(&world);
    world
}

#[test]
fn a_second_process_on_the_parent_is_refused_until_the_first_has_gone() {
    let mut bench = Bench::bridge(1, &[]);
    let mut guest = bench.guest(0);
    let pid = format!("in use by process {} (vhost-user-macv)", bench.backend.pid());
    let parts = ["parent eth0: ", &pid, "serve all ports of this parent from one process"];
    for _ in 0..3 {
        refused(&bench.world, &["parent=eth0"], 1, &parts);
    }
    // By another name it is the same one.
    bench.world.host.ip("link set eth0 name lan7");
    refused_there(&bench, "lan7", &pid);
    bench.world.host.ip("link set lan7 name eth0");
    assert!(bench.reaches_lan(&mut guest, ARRIVAL), "the first one was disturbed");
    // Another parent is another matter.
    bench.world.plug(&bench.world.host, "eth1", "p-host2");
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("other.sock").display().to_string();
    let line = ["--type=macvlan", "--parent", "eth1", "--socket-path", &socket];
    let mut other = Backend::start(&bench.world.host, &line);
    assert!(other.stop(SECOND).success());

    bench.backend.kill();
    drop(guest);
    bench.start_again();
    // The socket's file was there before: only frames show that it is served again.
    bench.backend.wait_for_log("port t0: listens at", 5 * SECOND);
    bench.guest(0);
}

fn refused_there(bench: &Bench, parent: &str, who: &str) {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("vm.sock").display().to_string();
    let line = ["--type=macvlan", "--parent", parent, "--socket-path", &socket];
    let run = Backend::run(&bench.world.host, &line, 5 * SECOND);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("parent {parent}: {who}")), "{}", run.stderr);
}

#[test]
fn an_address_that_is_somebody_elses_is_refused_at_the_start() {
    let world = quiet_world();
    let given = "parent=eth0,mac=52:54:00:00:00:01";
    let both = [
        "--port 1 (socket=",
        "--port 2 (socket=",
        "both have mac=52:54:00:00:00:01 on parent eth0",
    ];
    refused(&world, &[given, given], 2, &both);
    // What a sibling derives is known only when the machine is.
    if let Some(id) = machine_id() {
        let derived = format!("parent=eth0,mac={}", auto_mac(&id, "n0"));
        refused(
            &world,
            &["parent=eth0", &derived],
            1,
            &["port n1: ", "belongs to n0 (a port in userspace"],
        );
    }
    let own = world.host.mac("eth0");
    let is = |whose: &str| format!("belongs to {whose}");
    refused(
        &world,
        &[&format!("parent=eth0,mac={own}")],
        1,
        &["port n0: ", &own, &is("its parent eth0")],
    );
    for kind in ["macvlan", "macvtap"] {
        let taken = frames::mac_text(mac(9));
        world
            .host
            .ip(&format!("link add link eth0 name mv0 address {taken} type {kind} mode bridge"));
        let sibling = is(&format!("mv0 (a {kind} in bridge mode on the same parent)"));
        refused(
            &world,
            &[&format!("parent=eth0,{}", mac_key(9))],
            1,
            &["port n0: ", &taken, &sibling],
        );
        world.host.ip("link del mv0");
    }
}

#[test]
fn passthru_beside_others_is_refused_at_the_start() {
    let world = quiet_world();
    let (alone, bridge) = ("parent=eth0,mode=passthru", "parent=eth0");
    let parts =
        ["--port 1 (socket=", "--port 2 (socket=", "mode=passthru of the first needs it alone"];
    refused(&world, &[alone, bridge], 2, &parts);
    refused(&world, &[alone, alone], 2, &parts[2..]);
    refused(&world, &[bridge, alone], 2, &["share parent eth0"]);
    world.host.ip("link add link eth0 name mv0 type macvlan mode bridge");
    let parts = ["parent eth0: passthru mode needs it alone", "mv0 (a macvlan in bridge mode)"];
    refused(&world, &[alone], 1, &parts);
    world.host.ip("link del mv0");
    world.host.ip("link add link eth0 name mv1 type macvtap mode passthru");
    refused(
        &world,
        &[bridge],
        1,
        &["parent eth0: mv1 uses it alone, in passthru mode", "remove mv1"],
    );
    refused(&world, &[alone], 1, &["parent eth0: mv1 uses it alone"]);
}

#[test]
fn parents_that_cannot_be_are_refused_with_what_to_do() {
    let world = quiet_world();
    let missing = ["parent eth7: there is no such network device", "'ip link' shows"];
    refused(&world, &["parent=eth7"], 4, &missing);
    let refused = |parent: &str, parts: &[&str]| {
        refused(&world, &[&format!("parent={parent}")], 1, parts);
    };
    refused("lo", &["parent lo: the loopback device carries no ports", "name an Ethernet device"]);
    world.host.ip("tuntap add dev tun7 mode tun");
    refused("tun7", &["parent tun7: not an Ethernet device", "name an Ethernet device"]);
    world.host.ip("link add br7 type bridge");
    world.host.ip("link set eth0 master br7");
    let remedy = "use br7 as the parent, or release it: ip link set eth0 nomaster";
    refused("eth0", &["parent eth0: already a port of the bridge br7", remedy]);
}
