//! The socket's owner, group and mode, as the VMM's user meets them.
//!
//! Root runs the back-end, another user runs the VMM, and connecting takes the right to write. Each
//! test connects as the users in question (in a child that has become them), because the file's
//! bits alone do not say whether a user gets there.
//!
//! What can go wrong with the tests: a directory of the test itself may be closed to others; it is
//! opened first.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tempfile::TempDir;

use testkit::backend::{Backend, Finished};
use testkit::netns::{Netns, wait_until};

const TIME: Duration = Duration::from_secs(5);
const USER: u32 = 4242;

/// A host with a parent, and a directory that every user can enter.
struct Host {
    netns: Netns,
    dir: TempDir,
}

impl Host {
    fn new() -> Host {
        let netns = Netns::new("host");
        netns.ip("link add eth0 type veth peer name w0");
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Host { netns, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, line: &str) -> Backend {
        let args = self.args(line);
        Backend::start(&self.netns, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn fails(&self, line: &str) -> Finished {
        let args = self.args(line);
        Backend::run(&self.netns, &args.iter().map(String::as_str).collect::<Vec<_>>(), TIME)
    }

    fn args(&self, line: &str) -> Vec<String> {
        let dir = self.dir.path().display().to_string();
        let line = format!("--parent eth0 --type macvlan {}", line.replace("DIR", &dir));
        line.split_whitespace().map(str::to_owned).collect()
    }
}

/// Whether a user with a group, and no other, can connect.
fn connects(path: &Path, user: u32, group: u32) -> bool {
    let address = UnixAddr::new(path).unwrap();
    let mut command = Command::new("true");
    command.uid(user).gid(group);
    // SAFETY: runs in the forked child, as that user already; two system calls that touch no memory
    // of others.
    unsafe {
        command.pre_exec(move || {
            let stream = (AddressFamily::Unix, SockType::Stream, SockFlag::empty());
            let fd = socket(stream.0, stream.1, stream.2, None)?;
            Ok(connect(fd.as_raw_fd(), &address)?)
        });
    }
    command.status().is_ok_and(|status| status.success())
}

/// QEMU as another user than root waited indefinitely, and there was no flag to let it in.
#[test]
fn bug_u5_the_named_user_or_group_may_connect() {
    let host = Host::new();
    let path = host.path("vm1.sock");
    for (flags, user, group, bits) in [
        ("--socket-owner 4242", true, false, 0o755),
        ("--socket-group 4343", false, true, 0o660),
        ("--socket-owner 4242 --socket-group 4343", true, true, 0o660),
        ("--socket-group 4343 --socket-mode 0620", false, true, 0o620),
        ("--socket-mode 0o666", true, true, 0o666),
        ("", false, false, 0o755),
    ] {
        let mut backend = host.start(&format!("--socket-path DIR/vm1.sock {flags}"));
        assert_eq!(connects(&path, USER, USER), user, "{flags}: the user");
        assert_eq!(connects(&path, 4444, 4343), group, "{flags}: the group");
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o777, bits, "{flags}");
        assert!(backend.stop(TIME).success());
        assert!(!path.exists(), "{flags}: stays behind");
        assert_eq!(fs::read_dir(host.dir.path()).unwrap().count(), 0, "{flags}");
    }
}

/// By `--port` and in a file, by name and by number, with defaults.
#[test]
fn bug_u5_keys_and_defaults() {
    let host = Host::new();
    let file = host.path("ports.toml");
    let text = "[defaults]\nsocket-owner = 'nobody'\n[[port]]\nsocket = 'DIR/a.sock'\nsocket-mode = 660\n\
                [[port]]\nsocket = 'DIR/b.sock'\nsocket-owner = 4242\nsocket-mode = 0o600\n";
    fs::write(&file, text.replace("DIR", host.dir.path().to_str().unwrap())).unwrap();
    let backend = host.start(
        "--config DIR/ports.toml --port socket=DIR/c.sock,socket-group=nogroup,socket-mode=0770",
    );
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let nogroup = nix::unistd::Group::from_name("nogroup").unwrap().unwrap().gid.as_raw();
    for (name, uid, gid, mode) in
        [("a", nobody, 0, 0o660), ("b", 4242, 0, 0o600), ("c", nobody, nogroup, 0o770)]
    {
        let path = host.path(&format!("{name}.sock"));
        assert!(wait_until(TIME, || path.exists()), "{name}");
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (uid, gid, mode), "{name}");
    }
    backend.wait_for_log("a.sock, for user nobody and group root", TIME);
    backend.wait_for_log("c.sock, for user nobody and group nogroup", TIME);
}

/// An observer of the path never sees a socket without its owner and mode, and the first connection
/// succeeds.
#[test]
fn bug_u5_the_socket_appears_in_one_step() {
    let host = Host::new();
    let path = host.path("vm1.sock");
    for _ in 0..5 {
        let (done, seen) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let end = std::time::Instant::now() + 2 * TIME;
                while !done.load(Ordering::Relaxed) && std::time::Instant::now() < end {
                    if let Ok(meta) = fs::symlink_metadata(&path) {
                        let is = (meta.uid(), meta.gid(), meta.mode() & 0o777);
                        assert_eq!(is, (4242, 4343, 0o600), "seen too early");
                        std::os::unix::net::UnixStream::connect(&path).expect("it is served");
                        seen.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            });
            let _backend = host.start(
                "--socket-path DIR/vm1.sock --socket-owner 4242 --socket-group 4343 --socket-mode 600",
            );
            let found = wait_until(TIME, || seen.load(Ordering::Relaxed));
            done.store(true, Ordering::Relaxed);
            assert!(found);
        });
        fs::remove_file(&path).unwrap();
    }
}

/// A wrong value is bad usage, and named; for a forbidden one the message has the remedy.
#[test]
fn bug_u5_mistakes_are_answered() {
    let host = Host::new();
    for (flags, words) in [
        ("--socket-owner alicee", "--socket-owner alicee: there is no such user; `getent passwd`"),
        ("--socket-group kvmm", "--socket-group kvmm: there is no such group; `getent group`"),
        ("--socket-mode 0888", "--socket-mode 0888: not an octal number"),
        ("--socket-mode 0440", "--socket-mode 0440: no user may write to it"),
        (
            "--socket-group 4343 --socket-mode 0600",
            "--socket-mode 0600: a front-end needs the right",
        ),
        ("--socket-owner 4242 --client", "--socket-owner 4242: this port makes no socket"),
    ] {
        for check in ["", "--check"] {
            let ended = host.fails(&format!("--socket-path DIR/vm1.sock {flags} {check}"));
            assert_eq!(ended.code, Some(2), "{flags}: {}", ended.stderr);
            let lines: Vec<&str> = ended.stderr.lines().collect();
            assert!(lines.len() == 1 && lines[0].starts_with(words), "{flags}: {}", ended.stderr);
        }
    }
    let script = format!(
        "exec setpriv --bounding-set=-chown {} --parent eth0 --type macvlan --socket-path {} \
         --socket-owner 4242",
        testkit::backend::program().display(),
        host.path("vm1.sock").display()
    );
    let output = host.netns.run(&script);
    assert_eq!(output.status, 3, "{}", output.text);
    assert!(output.text.contains("it cannot be given to user 4242"), "{}", output.text);
    assert!(output.text.contains("CAP_CHOWN"), "{}", output.text);
    assert_eq!(fs::read_dir(host.dir.path()).unwrap().count(), 0);
}

/// The VMM's user has the right to the socket, but not to the directory: QEMU waited without any
/// message.
#[test]
fn bug_u5_a_closed_directory_is_told() {
    let host = Host::new();
    let closed = host.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let backend = host.start("--socket-path DIR/closed/vm1.sock --socket-owner 4242");
    backend.wait_for_log("user 4242 cannot reach it: the directory", TIME);
    backend.wait_for_log("closed (mode 0700) is closed to them; open it (chmod o+x", TIME);
    drop(backend);
    let _ = fs::remove_file(closed.join("vm1.sock"));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
    let backend = host.start("--socket-path DIR/closed/vm1.sock --socket-owner 4242");
    backend.wait_for_log("vm1.sock, for user 4242", TIME);
    assert!(!backend.log().contains("cannot reach"), "{}", backend.log());
}

/// A stale socket of another user is replaced, and a directory that belongs to the VMM's user is no
/// danger.
#[test]
fn bug_u5_a_stale_socket_is_replaced_in_the_users_own_directory() {
    let host = Host::new();
    let own = host.path("own");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(4242), Some(4242)).unwrap();
    let path = own.join("vm1.sock");
    drop(UnixListener::bind(&path).unwrap());
    std::os::unix::fs::chown(&path, Some(4242), Some(4242)).unwrap();
    let mut backend = host.start("--socket-path DIR/own/vm1.sock --socket-owner 4242");
    backend.wait_for_log("replacing the socket of a process that has ended", TIME);
    backend.wait_for_log("listens at", TIME);
    assert!(connects(&path, USER, USER));
    assert!(backend.stop(TIME).success());
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
}
