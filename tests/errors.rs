//! The messages for a user when the program does not work: every error, through the real program.
//!
//! A script sees the exit code (2: bad usage, 3: a missing permission, 4: a missing parent, 1:
//! else). A user reads one line that names the object, the reason and the remedy. Each test breaks
//! one thing, runs the program in a namespace, reads that line, and then checks that nothing was
//! left behind: the links and the sockets must be the same as before. A front-end's mistakes have
//! no exit code: there the line is in the log and names the port, the connection ends or the
//! message is refused, and the process goes on.
//!
//! Where each error of the list is tested:
//!
//! | error | where |
//! |---|---|
//! | parent missing, loopback, not Ethernet, in a bridge | `parents_that_cannot_be` |
//! | parent in a bond | `src/host/parent/tests.rs`, made up: kernels to test on often have no bonding driver |
//! | passthru beside another port of the same process | `tests/cli/refusals.rs` |
//! | the same where the two parents are one device by two names | `one_parent_by_two_names` |
//! | passthru beside a foreign port, a port beside a foreign passthru | `foreign_ports_in_the_way` |
//! | MAC multicast, zero, a sibling's in the same process | `tests/cli/refusals.rs` |
//! | MAC of the parent, of a foreign sibling | `addresses_that_are_taken` |
//! | MTU above the parent's | `mtu_above_the_parents` |
//! | name taken, or in use by another process of ours | `names_that_are_taken` |
//! | no permission | `missing_capabilities_are_named` |
//! | socket path too long | `tests/cli/refusals.rs` |
//! | socket in use, directory missing, not a socket | `socket_paths_that_cannot_be` |
//! | socket stale | `a_stale_socket_is_taken_over` |
//! | bad `--port` keys and values, all at once | `tests/cli/main.rs`; that they touch nothing: `bad_usage_touches_nothing` |
//! | queue pairs 0 and 33 | `tests/cli/refusals.rs` |
//! | /dev/tapN not to be had | `tap_nodes_that_cannot_be_had` |
//! | `--fd` not inherited, no socket, not connected | `inherited_descriptors_that_are_none` |
//! | front-end: memory, rings, MTU | `what_a_front_end_did_wrong_is_told`; that nothing is harmed: `tests/hostile.rs` |
//! | front-end: a second one | `a_second_front_end_is_told` |
//!
//! What can go wrong with the tests: without root they fail and say so. Privileges are dropped by
//! setpriv(1); the program is copied first, since its directory may be closed to others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use testkit::backend::{Backend, program};
use testkit::memory::{Backing, make_file};
use testkit::netns::{Netns, die_with_us, require};
use testkit::rig::*;
use testkit::vmm::*;

const MAC: &str = "52:54:00:aa:00:01";

/// A host with a parent, and a directory for sockets.
struct Workplace {
    host: Netns,
    dir: TempDir,
}

impl Workplace {
    fn new() -> Workplace {
        let host = Netns::new("host");
        host.ip("link add eth0 type veth peer name w0");
        host.ip("link set w0 up");
        host.ip("link set eth0 up");
        let dir = TempDir::new().expect("a directory for the sockets");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Workplace { host, dir }
    }

    fn path(&self, file: &str) -> String {
        self.dir.path().join(file).display().to_string()
    }

    /// A program line with `SOCK` for a path in the directory.
    fn args(&self, line: &str) -> Vec<String> {
        line.split_whitespace().map(|word| word.replace("SOCK", &self.path("vm.sock"))).collect()
    }

    /// The state that must be the same afterwards: links with addresses and MTUs, and the files
    /// beside the socket.
    fn state(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name(), entry.file_type().unwrap()))
            .collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        // Not the carrier's state, which follows by itself. All changes of a port to other devices
        // show here.
        let links: String = self
            .host
            .ip("-o link")
            .lines()
            .map(|l| l.split(" state ").next().unwrap().replace("NO-CARRIER,", "") + "\n")
            .collect();
        format!("{links}{files:?}")
    }

    /// Runs the program, which must fail with this code and one message made of these three, and
    /// leave nothing.
    fn refused(&self, line: &str, code: i32, parts: [&str; 3]) {
        let mut command = self.host.command(program());
        command.args(self.args(line));
        self.refused_command(line, command, code, parts);
    }

    fn refused_command(
        &self,
        what: &str,
        mut command: Command,
        code: i32,
        [object, reason, remedy]: [&str; 3],
    ) {
        let before = self.state();
        let output = finish(&mut command);
        let message = message_of(&output);
        assert_eq!(output.status.code(), Some(code), "{what}: {output:?}");
        assert!(message.starts_with(object), "{what}: {object:?} does not start {message:?}");
        let (_, behind) = message.split_once(reason).unwrap_or_else(|| {
            panic!("{what}: {reason:?} is no reason in {message:?}");
        });
        let advice = behind.split_once("; ").map_or("", |(_, advice)| advice);
        assert!(advice.contains(remedy), "{what}: {remedy:?} is no remedy in {message:?}");
        assert_eq!(self.state(), before, "{what}: something was left behind or changed");
    }
}

/// Runs to the end; killed after ten seconds, and then there is no exit code.
fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = die_with_us(command).spawn().expect("the program starts");
    let ended = testkit::netns::wait_until(Duration::from_secs(10), || {
        child.try_wait().expect("waiting for the program").is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    child.wait_with_output().unwrap()
}

/// The one line on stderr that is not from the log.
fn message_of(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(lines.len(), 1, "one message is wanted: {stderr}");
    lines[0].to_owned()
}

// --- the parent and what is on it ---

#[test]
fn parents_that_cannot_be() {
    let place = Workplace::new();
    place.host.ip("tuntap add t0 mode tun");
    place.host.ip("link add br0 type bridge");
    place.host.ip("link add p1 type veth peer name w1");
    place.host.ip("link set p1 master br0");
    let refused = |parent: &str, parts: [&str; 3]| {
        place.refused(&format!("--parent {parent} --socket-path SOCK --name vm0"), 1, parts);
    };
    place.refused(
        "--parent eth77 --socket-path SOCK --name vm0",
        4,
        ["parent eth77: ", "no such network device", "'ip link'"],
    );
    refused("lo", ["parent lo: ", "the loopback device", "name an Ethernet device"]);
    refused("t0", ["parent t0: ", "not an Ethernet device", "name an Ethernet device"]);
    refused("p1", ["parent p1: ", "port of the bridge br0", "use br0 as the parent"]);
}

/// The kernel makes a port on a macvlan a port of the macvlan's parent: only it sees that the two
/// are siblings.
#[test]
fn one_parent_by_two_names() {
    let place = Workplace::new();
    place.host.ip("link add link eth0 name mv0 type macvlan mode bridge");
    let other = place.path("other.sock");
    place.refused(
        &format!(
            "--port socket=SOCK,parent=eth0,name=vm0,mac={MAC} \
             --port socket={other},parent=mv0,name=vm1,mac={MAC}"
        ),
        2,
        ["ports vm0 and vm1: ", "are one device, and both have mac=", "give each its own"],
    );
    place.refused(
        &format!(
            "--port socket=SOCK,parent=eth0,name=vm0 \
             --port socket={other},parent=mv0,name=vm1,mode=passthru"
        ),
        2,
        ["ports vm1 and vm0: ", "needs it alone", "use another parent or mode=bridge"],
    );
}

#[test]
fn foreign_ports_in_the_way() {
    let place = Workplace::new();
    place.host.ip("link add link eth0 name other type macvtap mode bridge");
    place.refused(
        "--parent eth0 --socket-path SOCK --name vm0 --mode passthru",
        1,
        ["parent eth0: ", "other (a macvtap in bridge mode", "another parent, or remove that port"],
    );
    place.host.ip("link del other");
    place.host.ip("link add link eth0 name alone type macvtap mode passthru");
    place.refused(
        "--parent eth0 --socket-path SOCK --name vm0",
        1,
        ["parent eth0: ", "alone uses it alone, in passthru mode", "remove alone"],
    );
}

#[test]
fn addresses_that_are_taken() {
    let place = Workplace::new();
    let sibling = "02:00:00:00:00:05";
    place.host.ip(&format!("link add link eth0 name mv0 address {sibling} type macvlan"));
    let parents = place.host.mac("eth0");
    let refused = |mac: &str, holder: &str| {
        place.refused(
            &format!("--parent eth0 --socket-path SOCK --name vm0 --mac {mac}"),
            1,
            ["macvtap vm0: ", &format!("{mac} belongs to {holder}"), "choose another address"],
        );
    };
    refused(&parents, "its parent eth0");
    refused(sibling, "mv0 (a macvlan");
}

#[test]
fn mtu_above_the_parents() {
    let place = Workplace::new();
    place.refused(
        "--parent eth0 --socket-path SOCK --name vm0 --mtu 1501",
        1,
        ["macvtap vm0: ", "MTU 1501 is above the MTU of its parent eth0, 1500", "at most 1500"],
    );
    // The second port is the wrong one: the first, which was there already, goes too.
    let other = place.path("other.sock");
    place.refused(
        &format!(
            "--port socket=SOCK,parent=eth0,name=vm0 --port socket={other},parent=eth0,name=vm1,mtu=9000"
        ),
        1,
        ["macvtap vm1: ", "MTU 9000 is above", "or raise the parent's"],
    );
}

#[test]
fn names_that_are_taken() {
    let place = Workplace::new();
    let refused = |name: &str, parts: [&str; 3]| {
        place.refused(&format!("--parent eth0 --socket-path SOCK --name {name}"), 1, parts);
    };
    refused("w0", ["macvtap w0: ", "taken by a veth device", "ip link delete w0"]);
    place.host.ip("link add link eth0 name vm0 type macvtap mode vepa");
    refused(
        "vm0",
        ["macvtap vm0: ", "taken by a macvtap in vepa mode of eth0", "choose another port name"],
    );
    place.host.ip("link del vm0");

    let first = place.path("first.sock");
    let backend = Backend::start(
        &place.host,
        &["--parent", "eth0", "--name", "vm0", "--socket-path", &first],
    );
    let pid = format!("in use by process {} (vhost-user-macv)", backend.pid());
    refused("vm0", ["macvtap vm0: ", &pid, "stop that process, or choose another port name"]);
}

// --- permissions ---

/// The program where every user may run it, in the place's directory.
fn public_copy(place: &Workplace) -> PathBuf {
    let copy = place.dir.path().join("program");
    fs::copy(program(), &copy).expect("a copy of the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn missing_capabilities_are_named() {
    require(&[("setpriv", "util-linux")]);
    let place = Workplace::new();
    let copy = public_copy(&place);
    let parts = ["macvtap vm0: ", "creating a network device is not permitted", "CAP_NET_ADMIN"];
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    for who in [&nobody[..], &["--bounding-set=-net_admin"]] {
        let mut command = place.host.command("setpriv");
        command.args(who).arg(&copy);
        command.args(place.args("--parent eth0 --socket-path SOCK --name vm0"));
        place.refused_command(&format!("as {who:?}"), command, 3, parts);
    }
    // The device is there, but its node belongs to root. Its index makes the node unique: /dev
    // knows no namespaces.
    let index = 300_000 + std::process::id();
    place.host.ip(&format!("link add link eth0 name vm0 index {index} type macvtap mode bridge"));
    let mut command = place.host.command("setpriv");
    command.args(nobody).args(["--inh-caps=+net_admin", "--ambient-caps"]);
    command.arg("+net_admin").arg(&copy);
    command.args(place.args("--parent eth0 --socket-path SOCK --name vm0"));
    let node = format!("cannot be opened (/dev/tap{index}: Permission denied");
    let told =
        ["macvtap vm0, character device ", &node, "a udev rule), or run with CAP_DAC_OVERRIDE"];
    place.refused_command("a user with CAP_NET_ADMIN alone", command, 3, told);
}

/// A container: /dev holds no taps, and none can be made.
#[test]
fn tap_nodes_that_cannot_be_had() {
    require(&[("setpriv", "util-linux"), ("unshare", "util-linux")]);
    let place = Workplace::new();
    let line = place.args("--parent eth0 --socket-path SOCK --name vm0").join(" ");
    let container = |caps: &str| {
        let mut command = place.host.command("unshare");
        command.args(["--mount", "sh", "-c"]).arg(format!(
            "mount -t tmpfs none /dev && exec setpriv --bounding-set={caps} {} {line}",
            program().display()
        ));
        command
    };
    place.refused_command(
        "an empty /dev and no CAP_MKNOD",
        container("-mknod"),
        3,
        ["macvtap vm0, character device ", "(/dev/tap", "grant CAP_MKNOD"],
    );
    // The same container with the capability makes its own node: the refusal above was about that
    // alone.
    let mut command = container("-sys_module");
    let mut child = die_with_us(&mut command).stderr(Stdio::null()).spawn().unwrap();
    let socket = PathBuf::from(place.path("vm.sock"));
    let served = testkit::netns::wait_until(Duration::from_secs(5), || socket.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(served, "not served with CAP_MKNOD");
}

// --- sockets ---

#[test]
fn socket_paths_that_cannot_be() {
    let place = Workplace::new();
    let refused = |path: &str, parts: [&str; 3]| {
        place.refused(&format!("--parent eth0 --socket-path {path} --name vm0"), 1, parts);
    };
    let missing = place.path("no/such/vm.sock");
    refused(&missing, [&format!("socket {missing}: "), "there is no directory", "mkdir -p"]);
    let file = place.path("file");
    fs::write(&file, "data").unwrap();
    let object = format!("socket {file}: ");
    refused(
        &file,
        [&object, "its path exists and is not a socket", "remove it or choose another path"],
    );
    assert_eq!(fs::read(&file).unwrap(), b"data");
    // A link to nowhere is no socket either, and its target is not made.
    let link = place.path("link");
    symlink(place.path("target"), &link).unwrap();
    refused(&link, [&format!("socket {link}: "), "not a socket", "choose another path"]);

    let busy = place.path("busy.sock");
    let listener = UnixListener::bind(&busy).unwrap();
    let pid = format!("in use by process {}", std::process::id());
    let object = format!("socket {busy}: ");
    refused(&busy, [&object, &pid, "end that process or choose another path"]);
    // Of two ports the second one's path is busy: the first one's socket must not stay.
    place.refused(
        &format!(
            "--port socket=SOCK,parent=eth0,name=vm0 --port socket={busy},parent=eth0,name=vm1"
        ),
        1,
        [&object, &pid, "end that process"],
    );
    drop(listener);
}

#[test]
fn a_stale_socket_is_taken_over() {
    let place = Workplace::new();
    let path = place.path("vm.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err() && fs::exists(&path).unwrap());
    let args = place.args("--parent eth0 --socket-path SOCK --name vm0");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut backend = Backend::start(&place.host, &args);
    backend.wait_for_log("replacing the socket of a process that has ended", SECOND);
    backend.wait_for_log("listens at", SECOND);
    assert_ne!(Vmm::connect(path.as_ref()).get_features(), 0);
    assert!(backend.stop(SECOND).success());
    assert!(!fs::exists(&path).unwrap());
}

/// The number that the test's descriptor gets in the program.
const GIVEN: RawFd = 40;

#[test]
fn inherited_descriptors_that_are_none() {
    let place = Workplace::new();
    let object = format!("--fd {GIVEN}: ");
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    let listener = UnixListener::bind(place.path("listener")).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected_tcp = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let stream = "not a connected Unix stream socket";
    let cases: [(&str, Option<RawFd>, &str); 5] = [
        ("nothing", None, "no such descriptor was inherited"),
        ("a file", Some(file.as_raw_fd()), "not a socket"),
        ("a listener", Some(listener.as_raw_fd()), stream),
        ("datagrams", Some(datagram.as_raw_fd()), stream),
        ("TCP", Some(connected_tcp.as_raw_fd()), stream),
    ];
    for (what, fd, reason) in cases {
        let mut command = place.host.command(program());
        command.args(place.args(&format!("--parent eth0 --name vm0 --fd {GIVEN}")));
        // SAFETY: dup2 is async-signal-safe and touches no memory; the copy has no close-on-exec.
        unsafe {
            command.pre_exec(move || match fd {
                Some(fd) if libc::dup2(fd, GIVEN) != GIVEN => Err(io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let remedy = "pass a connected Unix stream socket that the VMM has the other end of";
        place.refused_command(what, command, 1, [&object, reason, remedy]);
    }
}

/// An error that `--check` finds is also found without it, before anything is touched.
#[test]
fn bad_usage_touches_nothing() {
    let place = Workplace::new();
    let before = place.state();
    let args = place.args(
        "--port socket=SOCK,parent=eth0,name=vm0 --port socket=SOCK,queue-pairs=33,colour=red \
         --mac 01:00:5e:00:00:01",
    );
    let output = finish(place.host.command(program()).args(args));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for words in
        ["'colour' is not a key", "queue-pairs=33", "a multicast address", "parent: missing"]
    {
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
    assert_eq!(place.state(), before);
}

// --- front-ends ---

/// A mistake, as a message with its descriptors; the log's text about it, and the remedy.
struct Mistake {
    request: u32,
    payload: Vec<u8>,
    fds: Vec<RawFd>,
    reason: &'static str,
    remedy: &'static str,
}

fn mistakes(small: RawFd, pipe: RawFd) -> Vec<Mistake> {
    let table = |size: u64| {
        let region = [0u64, size, 0x7000_0000_0000, 0].map(u64::to_le_bytes).concat();
        [pair_of(1, 0), region].concat()
    };
    let mistake = |request, payload: Vec<u8>, fds: &[RawFd], reason, remedy| Mistake {
        request,
        payload,
        fds: fds.to_vec(),
        reason,
        remedy,
    };
    let (mem, num) = (req::SET_MEM_TABLE, req::SET_VRING_NUM);
    let sizes = "rx_queue_size";
    vec![
        mistake(mem, table(1 << 20), &[], "1 memory regions came with 0 descriptors", "share=on"),
        mistake(mem, table(2 << 20), &[small], "its file is truncated", "larger"),
        mistake(mem, table(1 << 20), &[pipe], "its descriptor is a pipe", "memory-backend-memfd"),
        mistake(num, pair_of(0, 0), &[], "SET_VRING_NUM: ring 0: size 0 is not a power", sizes),
        mistake(num, pair_of(1, 3), &[], "SET_VRING_NUM: ring 1: size 3 is not a power", sizes),
        mistake(
            num,
            pair_of(1, 2048),
            &[],
            "ring 1: size 2048 is not a power of two from 1",
            sizes,
        ),
        mistake(num, pair_of(4, 256), &[], "there is no ring 4: the port has 2", "queue-pairs="),
        mistake(
            req::NET_SET_MTU,
            9000u64.to_le_bytes().to_vec(),
            &[],
            "NET_SET_MTU: the front-end wants MTU 9000, the port has 1500",
            "host_mtu=",
        ),
    ]
}

/// Without acknowledgements only the end of the connection reports the error to the front-end; with
/// them the connection stays.
#[test]
fn what_a_front_end_did_wrong_is_told() {
    let small = make_file(&Backing::Memfd, 1 << 20);
    let (pipe, _writer) = io::pipe().unwrap();
    let mut rig = Rig::new(Macvtap);
    let mut lines = 0;
    for ack in [false, true] {
        for m in mistakes(small.as_raw_fd(), pipe.as_raw_fd()) {
            // Two or three lines for each; a port has ten a minute.
            lines += 3;
            if lines > 10 {
                (rig, lines) = (Rig::new(Macvtap), 3);
            }
            let what = format!("{} (acknowledged: {ack})", m.reason);
            let seen = rig.backend.log().len();
            let mut vmm = rig.connect(0);
            let features = vmm.get_features();
            vmm.set_owner();
            let wanted = proto::MTU | proto::MQ | if ack { proto::REPLY_ACK } else { 0 };
            let bits = vmm.get_protocol_features() & wanted;
            assert_eq!(bits, wanted, "{what}: protocol features");
            vmm.set_protocol_features(bits);
            vmm.set_features(features);
            if ack {
                assert_ne!(vmm.order(m.request, &m.payload, &m.fds), 0, "{what}: accepted");
                vmm.sync();
            } else {
                vmm.send(m.request, 0, &m.payload, &m.fds);
                vmm.expect_closed();
            }
            let line = || {
                let log = rig.backend.log()[seen..].to_owned();
                log.lines().find(|line| line.contains(m.reason)).map(str::to_owned)
            };
            let told = testkit::netns::wait_until(SECOND, || line().is_some());
            assert!(told, "{what}: not in the log: {}", &rig.backend.log()[seen..]);
            let line = line().unwrap();
            assert!(line.contains("WARN") && line.contains("port t0: "), "{what}: {line}");
            assert!(line.contains(m.remedy), "{what}: {:?} is no remedy in {line}", m.remedy);
            drop(vmm);
        }
    }
    assert!(rig.backend.alive());
    rig.guest(&QemuOptions::default());
    rig.unharmed();
}

#[test]
fn a_second_front_end_is_told() {
    let mut rig = Rig::new(Macvtap);
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    let mut second = rig.connect(0);
    second.expect_closed();
    rig.backend.wait_for_log(
        &format!(
            "port t0: connection refused: process {} is connected; every VM needs a port of its own",
            std::process::id()
        ),
        SECOND,
    );
    rig.both_ways(&mut driver, 0);
}
