//! Devices that other programs put on a parent, or over it, are reported once, with the remedy.
//!
//! B7: a bridge takes the parent of userspace ports. U11: the kernel's own macvlans on it. B11: a
//! user namespace, where only one type works.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::backend::program;
use testkit::frames;
use testkit::netns::{World, die_with_us, wait_until};
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE, fresh_tag, open_wire};
use testkit::userspace::{Bench, Guest, mac, mac_key};
use testkit::vmm::QemuOptions;

/// Was: not reported.
#[test]
fn bug_b7_a_parent_that_gets_into_a_bridge_is_reported_and_works_as_documented() {
    let mut bench = Bench::bridge(2, &[]);
    let (mut one, mut two) = (bench.guest(0), bench.guest(1));
    bench.world.host.ip("link add br9 type bridge");
    for round in 1..=2 {
        bench.world.host.ip("link set eth0 master br9");
        bench.wait_said("parent eth0: became a port of the bridge br9", round, SECOND);
        // As docs/modes.md says: the wire, both ways, and siblings.
        bench.wait_for_wire(&mut one, ARRIVAL);
        let tag = fresh_tag();
        two.send(mac(0), tag);
        assert!(one.gets(tag, ARRIVAL), "a sibling");
        // Other news of the parent do not repeat it.
        bench.world.host.ip("link set eth0 alias busy");
        bench.world.host.ip("link set eth0 nomaster");
        bench.wait_said("parent eth0: is no longer a port of the bridge br9", round, SECOND);
        assert_eq!(bench.said("became a port of"), round);
    }
    assert!(bench.said("use br9 as the parent (parent=br9)") == 2);
    bench.wait_for_wire(&mut one, ARRIVAL);
    assert!(bench.backend.alive());
}

/// Was: no frames between them, and no message.
#[test]
fn bug_u11_kernel_ports_beside_userspace_ports_are_reported() {
    let world = World::new();
    world.host.ip("link add link eth0 name host0 type macvlan mode bridge");
    world.host.ip("link add link eth0 name vm3 type macvtap mode vepa");
    let bench = Bench::in_world(world, &[mac_key(0)], &[]);
    let line =
        "also has kernel ports: host0 (a macvlan in bridge mode), vm3 (a macvtap in vepa mode)";
    bench.wait_said(line, 1, SECOND);
    // A later device is named by itself, once, whatever else happens to it.
    bench.world.host.ip("link add link eth0 name late0 type macvlan mode bridge");
    bench.wait_said("ports: late0 (a macvlan in bridge mode);", 1, SECOND);
    bench.world.host.ip("link set late0 up");
    bench.world.host.ip("link set late0 down");
    bench.world.host.ip("link del late0");
    bench.world.host.ip("link add link eth0 name late1 type macvlan mode bridge");
    bench.wait_said("ports: late1", 1, SECOND);
    assert_eq!(bench.said("also has kernel ports"), 3, "{}", bench.backend.log());
    // A device of another parent is ignored.
    bench.world.host.ip("link add v0 type veth peer name v1");
    bench.world.host.ip("link add link v0 name other0 type macvlan mode bridge");
    bench.backend.wait_caught_up();
    assert_eq!(bench.said("other0"), 0);
}

/// A process in a user namespace of its own, with the world's parent.
fn rootless(world: &World, args: &[&str]) -> (std::process::Child, std::path::PathBuf) {
    let log =
        std::env::temp_dir().join(format!("vum-rootless-{}-{}", std::process::id(), fresh_tag()));
    let file = std::fs::File::create(&log).unwrap();
    let script = "echo ready; read go; exec \"$@\"";
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--clear-groups",
        "unshare",
        "-Urn",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command.arg(program()).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
    let mut child = die_with_us(&mut command).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let pid = child.id();
    world.host.ip(&format!("link set eth0 netns {pid}"));
    let inside = |args: &str| {
        let words = ["-t", &pid.to_string(), "-n", "ip", "link"].map(str::to_owned);
        let done = Command::new("nsenter").args(words).args(args.split(' ')).status().unwrap();
        assert!(done.success(), "{args}");
    };
    inside("set eth0 up");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    (child, log)
}

/// Was: advice that cannot work there (a udev rule, CAP_DAC_OVERRIDE, CAP_MKNOD).
#[test]
fn bug_b11_in_a_user_namespace_macvtap_names_macvlan_which_works_there() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let socket = dir.path().join("s.sock");
    let (path, key) = (socket.display().to_string(), frames::mac_text(mac(0)));
    let args = |kind| ["--parent", "eth0", "--socket-path", &path, "--mac", &key, "--type", kind];

    let world = World::new();
    let (mut child, log) = rootless(&world, &args("macvtap"));
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("use --type macvlan, which needs none"), "{text}");
    assert!(!text.contains("CAP_") && !text.contains("udev"), "{text}");

    let world = World::new();
    let (mut child, log) = rootless(&world, &args("macvlan"));
    let text = || std::fs::read_to_string(&log).unwrap();
    assert!(wait_until(ARRIVAL, || text().contains("listens at")), "{}", text());
    let mut guest = Guest::at(&socket, mac(0), &QemuOptions::default());
    let wire = open_wire(&world);
    let works = wait_until(ARRIVAL, || {
        let (out, into) = (fresh_tag(), fresh_tag());
        guest.send(LAN_MAC, out);
        wire.send(&frames::tagged(mac(0), LAN_MAC, into, 60));
        wire.recv_tag(out, SILENCE).is_some() && guest.gets(into, SILENCE)
    });
    assert!(works, "no frames both ways: {}", text());
    child.kill().unwrap();
    child.wait().unwrap();

    let world = World::new();
    let (mut child, log) = rootless(&world, &[&args("macvlan")[..], &["--mode=passthru"]].concat());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("in a user namespace no BPF program can be loaded"), "{text}");
}

/// Changes that a network manager or the LAN makes in a loop: ten lines a minute for each port and
/// parent, and next to no processor time. Was: a line for each change, and each change inspected.
#[test]
fn bug_b6_links_that_change_in_a_loop_cost_neither_lines_nor_time() {
    for (what, script) in [
        ("a carrier", "ip link set x0 down; ip link set x0 up"),
        ("the parent's MTU", "ip link set eth0 mtu 1400; ip link set eth0 mtu 1500"),
        ("the parent's state", "ip link set eth0 down; ip link set eth0 up"),
        (
            "its name",
            "ip link property add dev eth0 altname more; ip link property del dev eth0 altname more",
        ),
        ("a bridge", "ip link set eth0 master br9; ip link set eth0 nomaster"),
        ("kernel ports", "ip link add link eth0 name mv9 type macvlan; ip link del mv9"),
        ("an address", "ip addr add 203.0.113.9/24 dev eth0; ip addr del 203.0.113.9/24 dev eth0"),
    ] {
        let world = World::new();
        world.host.ip("link add x0 type veth peer name x1");
        world.host.ip("link add br9 type bridge");
        let bench = Bench::in_world(world, &[mac_key(0), mac_key(1)], &[]);
        let lines = bench.backend.log().lines().count();
        let script = format!("while :; do {script}; done");
        let mut churn = bench.world.host.command("sh").args(["-c", &script]).spawn().unwrap();
        let used = bench.backend.busy(2 * SECOND);
        churn.kill().unwrap();
        churn.wait().unwrap();
        let written = bench.backend.log().lines().count() - lines;
        println!("{what}: {used:?} of processor time in 2 s, {written} lines");
        assert!(used < Duration::from_millis(200), "{what}: {used:?}");
        // Two ports and a parent.
        assert!(written <= 30, "{what}: {written} lines\n{}", bench.backend.log());
    }
}
