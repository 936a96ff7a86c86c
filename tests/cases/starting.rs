//! A start that fails makes nothing, and names every error.
//!
//! A network manager sees every device from its first moment. If the program makes a macvtap and
//! removes it again because the port's socket cannot be had, the manager configures it, loses it,
//! and complains. Here `ip monitor` plays the network manager: for every error, it must report no
//! link. And several mistakes in several ports must all be named at once.
//!
//! What can go wrong with the tests: `ip monitor` needs a moment to listen. The test makes a link
//! of its own before and after, and the monitor must report both.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use testkit::backend::{Backend, Finished, program};
use testkit::netns::{Netns, die_with_us, wait_until};

const TIME: Duration = Duration::from_secs(10);

struct Host {
    netns: Netns,
    dir: TempDir,
    monitor: Child,
}

impl Host {
    fn new() -> Host {
        let netns = Netns::new("host");
        netns.ip("link add eth0 type veth peer name w0");
        let dir = TempDir::new().unwrap();
        let log = fs::File::create(dir.path().join("monitor")).unwrap();
        let mut command = netns.command("ip");
        command.args(["monitor", "link"]).stdin(Stdio::null()).stdout(log);
        let monitor = die_with_us(&mut command).spawn().unwrap();
        let host = Host { netns, dir, monitor };
        let hears = wait_until(TIME, || {
            host.mark();
            host.heard().contains("mark0")
        });
        assert!(hears, "ip monitor does not listen");
        host
    }

    /// A link that comes and goes.
    fn mark(&self) {
        self.netns.ip("link add mark0 type bridge");
        self.netns.ip("link del mark0");
    }

    fn heard(&self) -> String {
        fs::read_to_string(self.dir.path().join("monitor")).unwrap()
    }

    fn fails(&self, line: &str) -> Finished {
        let dir = self.dir.path().display().to_string();
        let line = line.replace("DIR", &dir);
        let args: Vec<&str> = line.split_whitespace().collect();
        Backend::run(&self.netns, &args, TIME)
    }

    /// Runs the program, which must fail with this code and messages that hold these words, one
    /// each, without a link.
    fn refused(&self, line: &str, code: i32, words: &[&str]) {
        let before = self.heard().len();
        let ended = self.fails(line);
        assert_eq!(ended.code, Some(code), "{line}: {}", ended.stderr);
        let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('[')).collect();
        assert_eq!(lines.len(), words.len(), "{line}: {}", ended.stderr);
        for word in words {
            assert!(lines.iter().any(|line| line.contains(word)), "{word}: {}", ended.stderr);
        }
        self.mark();
        let heard = || self.heard()[before..].to_owned();
        assert!(wait_until(TIME, || heard().contains("Deleted") && heard().contains("mark0")));
        let links: Vec<String> = heard().lines().map(str::to_owned).collect();
        let foreign = links
            .iter()
            .filter(|l| l.contains(": <") || l.contains("vm"))
            .find(|l| !l.contains("mark0"));
        assert_eq!(foreign, None, "{line}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

const PORT: &str = "--parent eth0 --name vm1";

/// A macvtap was made first, seen by every network manager, and then removed.
#[test]
fn bug_u10_a_socket_that_cannot_be_had_makes_no_device() {
    let host = Host::new();
    let refused = |path: &str, code, words: &str| {
        host.refused(&format!("{PORT} --socket-path {path}"), code, &[words]);
    };
    refused("DIR/no/such/vm.sock", 1, "there is no directory");
    fs::write(host.dir.path().join("file"), "data").unwrap();
    refused("DIR/file", 1, "its path exists and is not a socket");
    refused("DIR/file/vm.sock", 1, "is not a directory");
    refused("DIR", 1, "its path exists and is not a socket");
    refused("/proc/vm.sock", 1, "socket /proc/vm.sock: ");
    std::os::unix::fs::symlink("nowhere", host.dir.path().join("link")).unwrap();
    refused("DIR/link", 1, "its path exists and is not a socket");
    let _live = UnixListener::bind(host.dir.path().join("live.sock")).unwrap();
    refused("DIR/live.sock", 1, "in use by process");
    // A backlog that is full is a living process, too, and must not be waited for.
    let full = UnixListener::bind(host.dir.path().join("full.sock")).unwrap();
    // SAFETY: a system call on a socket of ours.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&full), 0) }, 0);
    let _waiting = std::os::unix::net::UnixStream::connect(host.dir.path().join("full.sock"));
    refused("DIR/full.sock", 1, "in use by a running process");
    let _other = std::os::unix::net::UnixDatagram::bind(host.dir.path().join("datagram.sock"));
    refused("DIR/datagram.sock", 1, "in use by a running process");
}

/// Each of these errors is found before a device is made.
#[test]
fn bug_u10_a_port_that_cannot_be_had_makes_no_device() {
    let host = Host::new();
    host.netns.ip("link add br0 type bridge");
    host.netns.ip("link add p1 type veth peer name w1");
    host.netns.ip("link set p1 master br0");
    let good = "--port socket=DIR/good.sock,parent=eth0,name=good";
    for (port, code, words) in [
        ("parent=eth7", 4, "parent eth7: there is no such network device"),
        ("parent=lo", 1, "parent lo: the loopback device"),
        ("parent=p1", 1, "already a port of the bridge br0"),
        ("parent=eth0,mtu=9000", 1, "macvtap vm1: MTU 9000 is above"),
        ("parent=eth0,type=macvlan,mtu=9000", 1, "port vm1: MTU 9000 is above"),
        ("parent=w0,type=macvlan,mode=passthru,mtu=9000", 1, "port vm1: MTU 9000 is above"),
        ("parent=eth7,type=macvlan", 4, "parent eth7: there is no such network device"),
    ] {
        let line = format!("{good} --port socket=DIR/vm.sock,name=vm1,{port}");
        host.refused(&line, code, &[words]);
    }
    host.refused(
        &format!("{good} --port socket=DIR/vm.sock,name=w1,parent=eth0"),
        1,
        &["the name is taken by a veth device"],
    );
    let mac = host.netns.mac("eth0");
    host.refused(
        &format!("{good} --port socket=DIR/vm.sock,name=vm1,parent=eth0,mac={mac}"),
        1,
        &["belongs to its parent eth0"],
    );
    let busy = host.dir.path().join("busy.sock").display().to_string();
    let flags = ["--parent", "w0", "--type", "macvlan", "--socket-path", &busy];
    let _other = Backend::start(&host.netns, &flags);
    host.refused(
        &format!("{good} --port socket=DIR/vm.sock,name=vm1,parent=w0,type=macvlan"),
        1,
        &["parent w0: in use by process"],
    );
}

/// Only the first mistake was reported; the second one after that was put right, and so on.
#[test]
fn bug_u10_all_ports_are_judged_at_once() {
    let host = Host::new();
    fs::create_dir(host.dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", host.dir.path().join("other")).unwrap();
    host.refused(
        "--port socket=DIR/no/a.sock,parent=eth7,name=vm1 --port socket=DIR/real/b.sock,parent=lo,name=vm2 \
         --port socket=DIR/other/b.sock,parent=eth0,name=vm3,mtu=9000 \
         --port socket=DIR/c.sock,parent=eth7,name=vm4 --port socket=DIR/d.sock,parent=eth0,name=vm5",
        2,
        &[
            "there is no directory",
            "parent eth7: ",
            "parent lo: ",
            "are two names of one path",
            "macvtap vm3: MTU 9000",
        ],
    );
    // For one of these the message advises to wait, for the other not.
    host.refused(
        "--port socket=DIR/a.sock,parent=eth7,name=vm1 --port socket=DIR/b.sock,parent=lo,name=vm2",
        1,
        &["parent eth7: ", "parent lo: "],
    );
}

/// Without the right to make a device, or to open a packet socket, nothing is tried.
#[test]
fn bug_u10_missing_rights_are_known_before() {
    let host = Host::new();
    let before = host.heard().len();
    let run = |drop: &str, ports: &str| {
        let dir = host.dir.path().display().to_string();
        let ports = ports.replace("DIR", &dir);
        host.netns
            .run(&format!("exec setpriv --bounding-set={drop} {} {ports}", program().display()))
    };
    let mixed = "--port socket=DIR/a.sock,parent=eth0,name=vm1 \
                 --port socket=DIR/b.sock,parent=w0,name=vm2,type=macvlan";
    let output = run("-net_raw", mixed);
    assert!(output.status == 3 && output.text.contains("its packet socket: "), "{}", output.text);
    let output = run("-net_admin", mixed);
    assert!(output.status == 3 && output.text.contains("is not permitted"), "{}", output.text);
    let output = run("-bpf,-sys_admin", &format!("{mixed},mode=passthru"));
    assert!(output.status == 3 && output.text.contains("kept from the host's"), "{}", output.text);
    host.mark();
    assert!(wait_until(TIME, || host.heard()[before..].matches("mark0").count() >= 2));
    assert!(!host.heard()[before..].contains("vm"), "{}", host.heard());
}
