//! A real libvirt starts a guest with the interface that `libvirt-xml` prints, unchanged.
//!
//! libvirt runs as users without privileges run it, `qemu:///session`, but alone: a daemon of its
//! own with its own directories, under the user `nobody`, in a namespace of process ids. The end of
//! that namespace is the end of the daemon and of every QEMU that it started. The machine's own
//! libvirt is not used. The user also shows the rights that the back-end's socket needs: QEMU is
//! not root, so the socket has to be writable by a group of QEMU's (docs/operations.md,
//! "Permissions").
//!
//! Not the program's doing: QEMU 7.2 without KVM crashes when a vhost-user device starts with
//! MSI-X, so the domain overrides one property of the finished device, `vectors`. That is an
//! element of its own, beside `<devices>`; the printed `<interface>` is not changed by a byte.
//!
//! What can go wrong: libvirt asks QEMU for its capabilities at the first start, which takes a few
//! seconds. When `virsh` fails, its message and the daemon's log are in the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use tempfile::TempDir;
use testkit::backend::{Backend, program};
use testkit::guest::{Guest, KERNEL, guest_image};
use testkit::netns::{World, assert_nothing_left, die_with_us, require, run, wait_until};

const MAC: &str = "52:54:00:12:34:01";
/// The user `nobody` and its group, on every Linux.
const NOBODY: u32 = 65534;

/// A directory for all files of libvirt and its guest.
fn scratch() -> TempDir {
    let dir = tempfile::Builder::new().prefix("vum-libvirt-").tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for name in ["home", "home/.config/libvirt", "run", "image"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    // Without this libvirt would start one more daemon, for QEMU's messages.
    fs::write(dir.path().join("home/.config/libvirt/qemu.conf"), "stdio_handler = \"file\"\n")
        .unwrap();
    for name in ["home", "home/.config", "home/.config/libvirt", "run"] {
        let path = dir.path().join(name);
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    }
    dir
}

/// A program with the environment by which libvirt's parts find each other.
fn with_libvirt_environment<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    command
        .env("HOME", dir.join("home"))
        .env("XDG_RUNTIME_DIR", dir.join("run"))
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .current_dir("/")
        .stdin(Stdio::null())
}

/// Starts the daemon. The guest's files may be where only root can read: they are mounted for it.
/// The shell stays, because process 1 must reap the QEMUs that libvirt leaves to it, or libvirt
/// would wait long for each to end.
fn libvirtd(dir: &Path) -> Child {
    let script = format!(
        "mount --bind {} {}/image && \
         {{ setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups libvirtd & wait $!; }}",
        guest_image().display(),
        dir.display()
    );
    let log = File::create(dir.join("libvirtd.log")).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let child = die_with_us(with_libvirt_environment(&mut command, dir)).spawn().unwrap();
    let socket = dir.join("run/libvirt/libvirt-sock");
    let there = wait_until(Duration::from_secs(30), || socket.exists());
    assert!(there, "libvirtd does not start: {}", log_of(dir));
    child
}

fn log_of(dir: &Path) -> String {
    fs::read_to_string(dir.join("libvirtd.log")).unwrap_or_default()
}

/// `virsh ARGS` as the daemon's user, which must succeed. Returns its stdout.
fn virsh(dir: &Path, args: &[&str]) -> String {
    let nobody = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    command.args(["virsh", "--quiet", "--connect", "qemu:///session"]).args(args);
    let output = with_libvirt_environment(&mut command, dir).output().unwrap();
    assert!(
        output.status.success(),
        "virsh {args:?}: {}\nlibvirtd: {}",
        String::from_utf8_lossy(&output.stderr),
        log_of(dir)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The output of `libvirt-xml` for the port: its parts for `<domain>` and for `<devices>`.
fn printed(port: &[&str]) -> (String, String) {
    let output = Command::new(program()).arg("libvirt-xml").args(port).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (domain, devices) = text.split_once("<!-- in <devices>: -->\n").expect("two parts");
    (domain.to_string(), devices.to_string())
}

/// A whole domain around the printed parts.
fn domain(dir: &Path, (memory, interface): &(String, String)) -> String {
    let dir = dir.display();
    format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>vm1</name>
<memory unit='MiB'>192</memory>
{memory}<vcpu>1</vcpu>
<os>
  <type arch='x86_64' machine='pc'>hvm</type>
  <kernel>{dir}/image/vmlinux</kernel>
  <initrd>{dir}/image/initramfs.cpio</initrd>
  <cmdline>{KERNEL}</cmdline>
</os>
<devices>
  <serial type='file'><source path='{dir}/run/console'/><target port='0'/></serial>
  <channel type='unix'>
    <source mode='connect' path='{dir}/control'/>
    <target type='virtio' name='control'/>
  </channel>
  <controller type='usb' model='none'/>
  <memballoon model='none'/>
{interface}</devices>
<qemu:override>
  <qemu:device alias='net0'>
    <qemu:frontend>
      <qemu:property name='vectors' type='unsigned' value='0'/>
    </qemu:frontend>
  </qemu:device>
</qemu:override>
</domain>
"
    )
}

/// A directory for the back-end's socket as docs/operations.md has it: files in it get QEMU's
/// group.
fn socket_in_group(dir: &Path) -> PathBuf {
    let sockets = dir.join("sockets");
    fs::create_dir(&sockets).unwrap();
    chown(&sockets, None, Some(NOBODY)).unwrap();
    fs::set_permissions(&sockets, Permissions::from_mode(0o2750)).unwrap();
    sockets.join("vm1.sock")
}

#[test]
fn libvirt_starts_a_guest_with_the_printed_interface() {
    require(&[
        ("libvirtd", "libvirt-daemon libvirt-daemon-driver-qemu"),
        ("virsh", "libvirt-clients"),
        ("xmllint", "libxml2-utils"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("setpriv", "util-linux"),
    ]);
    let world = World::new();
    let dir = scratch();
    let socket = socket_in_group(dir.path());
    let port = ["--parent", World::PARENT, "--socket-path", socket.to_str().unwrap(), "--mac", MAC];
    // The back-end inherits it: its sockets are open to the group too, and to no other user.
    umask(Mode::from_bits_truncate(0o007));
    let mut backend = Backend::start(&world.host, &port);

    let parts = printed(&port);
    let definition = dir.path().join("vm1.xml");
    fs::write(&definition, domain(dir.path(), &parts)).unwrap();
    fs::set_permissions(&definition, Permissions::from_mode(0o644)).unwrap();
    let definition = definition.to_str().unwrap();
    let valid = run("virt-xml-validate", &[definition, "domain"]);
    assert!(valid.ok(), "{}", valid.text);

    let listener = UnixListener::bind(dir.path().join("control")).unwrap();
    fs::set_permissions(dir.path().join("control"), Permissions::from_mode(0o666)).unwrap();
    let daemon = libvirtd(dir.path());
    virsh(dir.path(), &["define", definition]);
    virsh(dir.path(), &["start", "vm1"]);
    let path = dir.path().to_path_buf();
    let mut guest = Guest::adopt("vm1", daemon, dir, &listener);
    guest.wait_boot();
    assert_eq!(guest.sh("cat /sys/class/net/eth0/address").trim(), MAC);
    guest.configure("eth0", "192.0.2.11", "2001:db8::11");
    for address in [World::LAN_V4, World::LAN_V6] {
        assert!(guest.pings(address), "{address}");
    }
    assert!(world.lan.pings("192.0.2.11"));
    assert!(virsh(&path, &["domiflist", "vm1"]).contains("vhostuser"));

    // <reconnect>: libvirt made QEMU come back by itself.
    backend.kill();
    assert!(guest.silent(World::LAN_V4));
    let mut backend = Backend::start(&world.host, &port);
    backend.wait_for_log("connected", Duration::from_secs(10));
    assert!(guest.pings(World::LAN_V4), "after the back-end was started again");

    virsh(&path, &["destroy", "vm1"]);
    backend.wait_for_log("has disconnected", Duration::from_secs(10));
    backend.signal(Signal::SIGTERM);
    assert_eq!(backend.wait_exit(Duration::from_secs(2)).code(), Some(0));
    drop((guest, backend, world));
    assert_nothing_left();
}
