//! The newest QEMU, beside the one that is installed: `scripts/newest-qemu.sh` fetches it.
//!
//! Users are ahead of a test machine's distribution, and they paste the output of `qemu-args`. So
//! the guests here run with exactly that, and QEMU's defaults (MSI-X among them) for all the rest.
//! Then the back-end is killed and started again: the printed option must bring QEMU back.
//!
//! The last test has the options that a guest cannot work with. The program cannot repair them from
//! its side. It can report them, or at least keep running, which is tested.
//!
//! What can go wrong: the mirror cannot be reached. Then these tests fail, and `make test` leaves
//! them out beforehand with a line that says so. `VUM_QEMU_NEWEST=PATH` names a QEMU that is there
//! already.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use testkit::backend::{Backend, program};
use testkit::guest::{Guest, GuestConfig, Nic, newest_qemu};
use testkit::netns::{World, assert_nothing_left};

const MAC: &str = "52:54:00:00:00:11";
const V4: &str = "192.0.2.11";
const V6: &str = "2001:db8::11";

struct Scene {
    world: World,
    dir: TempDir,
    kind: &'static str,
}

impl Scene {
    fn new(kind: &'static str) -> Scene {
        Scene { world: World::new(), dir: tempfile::tempdir().unwrap(), kind }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("vm1.sock")
    }

    fn port(&self) -> Vec<String> {
        let socket = self.socket().display().to_string();
        let words = ["--parent", World::PARENT, "--socket-path", &socket, "--name", "vm1"];
        let more = ["--mac", MAC, "--type", self.kind];
        words.iter().chain(&more).map(|word| word.to_string()).collect()
    }

    fn start(&self) -> Backend {
        let port = self.port();
        Backend::start(&self.world.host, &port.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Both directions work.
fn works(guest: &mut Guest, world: &World, when: &str) {
    for address in [World::LAN_V4, World::LAN_V6] {
        assert!(guest.pings(address), "{when}: {address} does not answer the guest");
    }
    assert!(world.lan.pings(V4) && world.lan.pings(V6), "{when}: the guest does not answer");
}

/// A guest of the printed line, unchanged, and QEMU's defaults; it outlives its back-end.
fn the_printed_line_works(kind: &'static str) {
    let qemu = newest_qemu();
    let scene = Scene::new(kind);
    let mut backend = scene.start();
    let output = Command::new(program())
        .args(["qemu-args", "--memory", "192M", "--qemu"])
        .arg(&qemu)
        .args(scene.port())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(",reconnect-ms=1000 "), "{printed}");
    // The paths here need no quotes, so a shell would see these very words.
    let extra = printed.split_whitespace().filter(|word| *word != "\\");
    let mut guest = Guest::boot(&GuestConfig {
        label: format!("newest-{kind}"),
        memory: Vec::new(),
        extra: extra.map(str::to_string).collect(),
        qemu: Some(qemu),
        ..GuestConfig::default()
    });
    guest.configure("eth0", V4, V6);
    works(&mut guest, &scene.world, "at first");
    let interrupts = guest.sh("grep -E 'virtio[0-9]+-(input|output)' /proc/interrupts");
    assert_eq!(interrupts.matches("PCI-MSI").count(), 2, "one for each ring: {interrupts}");

    // QEMU complains only about one protocol feature: docs/operations.md.
    let log = guest.qemu_log();
    let unknown = log.lines().find(|line| !line.contains("VHOST_USER_PROTOCOL_F_CONFIG"));
    assert_eq!(unknown, None, "{log}");

    backend.kill();
    assert!(guest.silent(World::LAN_V4), "without a back-end");
    backend = scene.start();
    backend.wait_for_log("front-end (process ", Duration::from_secs(10));
    works(&mut guest, &scene.world, "after the back-end was started again");
    drop((guest, backend, scene));
    assert_nothing_left();
}

#[test]
fn qemu_newest_takes_the_printed_line_on_a_macvtap_port() {
    the_printed_line_works("macvtap");
}

#[test]
fn qemu_newest_takes_the_printed_line_on_a_macvlan_port() {
    the_printed_line_works("macvlan");
}

/// Two options that this program does not serve, in one guest. `packed=on`: the guest gets split
/// rings. `host_mtu=` above the port's: QEMU asks us, is refused with the cause and the key, and
/// does not start the device. The guest keeps its MTU and receives nothing, so both logs must name
/// the cause.
#[test]
fn qemu_newest_devices_work_or_the_reason_is_told() {
    let devices = [("macvlan", "packed=on"), ("macvtap", "host_mtu=9000")];
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let mac = |n: usize| format!("52:54:00:00:01:{n:02x}");
    let socket = |n: usize| dir.path().join(format!("{n}.sock"));
    let mut args = vec!["--parent".to_string(), World::PARENT.to_string()];
    for (n, (kind, _)) in devices.iter().enumerate() {
        let path = socket(n).display().to_string();
        let port = format!("socket={path},name=p{n},type={kind},mac={}", mac(n));
        args.extend(["--port".to_string(), port]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let backend = Backend::start(&world.host, &args);
    let nic = |(n, (_, options)): (usize, &(&str, &str))| Nic {
        options: options.to_string(),
        ..Nic::vhost_user(socket(n), &mac(n))
    };
    let mut guest = Guest::boot(&GuestConfig {
        label: "newest-options".to_string(),
        nics: devices.iter().enumerate().map(nic).collect(),
        qemu: Some(newest_qemu()),
        msix: true,
        ..GuestConfig::default()
    });
    for (n, (kind, options)) in devices.iter().enumerate() {
        let address = format!("192.0.2.{}", 21 + n);
        let find = format!("cd /sys/class/net; grep -l {} eth*/address | cut -d/ -f1", mac(n));
        let eth = guest.sh(&find).trim().to_string();
        // One device at a time: the guest answers for an address by any of its devices.
        guest.sh(&format!("ip link set {eth} up; ip addr add {address}/24 dev {eth}"));
        let works = guest.pings(World::LAN_V4);
        let refused = options.contains("host_mtu");
        assert_eq!(works, !refused, "{kind},{options}: {}", guest.qemu_log());
        assert_eq!(world.lan.pings(&address), works, "{kind},{options}");
        if refused {
            let line = format!(
                "port p{n}: front-end refused: NET_SET_MTU: the front-end wants MTU 9000, the port \
                 has 1500; give the VMM at most that (host_mtu=), or raise the parent's"
            );
            backend.wait_for_log(&line, Duration::from_secs(5));
            assert!(guest.qemu_log().contains("9000Bytes MTU not supported by the backend"));
        }
        guest.sh(&format!("ip addr flush dev {eth}; ip link set {eth} down"));
    }
}

/// No IOMMU: QEMU itself reports that and ends, before a guest could start.
#[test]
fn qemu_newest_refuses_an_iommu_by_name() {
    let scene = Scene::new("macvtap");
    let mut backend = scene.start();
    let output = Command::new(newest_qemu())
        .args(["-nodefaults", "-display", "none", "-accel", "tcg", "-S"])
        .args(["-object", "memory-backend-memfd,id=m,size=64M,share=on"])
        .args(["-machine", "memory-backend=m", "-netdev", "vhost-user,id=n,chardev=c", "-chardev"])
        .arg(format!("socket,id=c,path={}", scene.socket().display()))
        .args(["-device", "virtio-net-pci,netdev=n,iommu_platform=on"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("iommu_platform=true is not supported by the device"), "{said}");
    backend.wait_for_log("has disconnected", Duration::from_secs(5));
    assert!(backend.alive());
}
