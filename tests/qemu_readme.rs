//! README's first VM, by copy and paste, as a user without any privilege.
//!
//! The commands are taken out of README.md and run as they stand there: the back-end by root
//! (`sudo`), QEMU by the user `nobody` without a capability. The test changes only the parts that
//! README itself says must be changed (the disk, which is the test guest's kernel here; KVM, where
//! there is none), the directory of the socket, and the size of the guest's memory. It adds a
//! virtio-serial port, through which it asks the guest to ping the LAN.
//!
//! `VUM_QEMU=PATH` takes another QEMU; the newest one has a test of its own. What can go wrong:
//! under TCG a guest needs seconds to boot, and QEMU 7.2 crashes with MSI-X there, as README says:
//! then `vectors=0` is added.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::backend::program;
use testkit::guest::{Guest, KERNEL, guest_image, newest_qemu};
use testkit::netns::{World, assert_nothing_left, die_with_us, require, run, wait_until};

const USER: &str = "nobody";

/// The first block of the README chapter on the first VM that contains these words.
fn block(words: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = fs::read_to_string(readme).unwrap();
    let (_, chapter) = text.split_once("\n## First VM, with QEMU\n").unwrap();
    let blocks = chapter.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.into_iter().find(|block| block.contains(words)).unwrap().to_owned()
}

/// README's advice for this QEMU and this machine, and the test guest's place.
fn adapted(command: &str, qemu: &str, dir: &Path) -> String {
    let accel = std::env::var("VUM_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
    let dir = dir.display();
    let boot = format!("-kernel {dir}/vmlinux -initrd {dir}/initramfs.cpio -append \"'{KERNEL}'\"");
    let mut command = command
        .replace("-drive file=vm1.qcow2,if=virtio", &boot)
        .replace("qemu-args", "qemu-args --memory 192M")
        .replace("/run/vm1.sock", &format!("{dir}/vm1.sock"))
        .trim_end()
        .to_owned();
    if accel != "kvm" {
        command = command.replace("-accel kvm -cpu host", &format!("-accel {accel}"));
        if run(qemu, &["--version"]).text.contains("version 7.") {
            command.push_str(",vectors=0");
        }
    }
    let control = "-device virtio-serial-pci -device virtserialport,chardev=control,name=control";
    format!("{command} -chardev socket,id=control,path={dir}/control {control}")
}

/// QEMU as another user than root waited indefinitely at the socket of the README's own command.
#[test]
fn bug_u5_the_first_vm_works_by_copy_and_paste() {
    require(&[("qemu-system-x86_64", "qemu-system-x86")]);
    let installed = run("sh", &["-c", "command -v qemu-system-x86_64"]).text;
    let qemu = std::env::var("VUM_QEMU").unwrap_or(installed);
    the_first_vm_works_with(qemu.trim());
}

/// QEMU 10.2 removed `reconnect=`, which README's command had.
#[test]
fn qemu_newest_bug_u9_the_first_vm_works_by_copy_and_paste() {
    // The cache may be in a directory of root's that the user cannot enter.
    let dir = tempfile::Builder::new().prefix("vum-newest-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (newest, copy) = (newest_qemu(), dir.path().join("qemu"));
    let from = newest.parent().unwrap().to_str().unwrap();
    assert!(run("cp", &["-a", from, copy.to_str().unwrap()]).ok());
    the_first_vm_works_with(copy.join(newest.file_name().unwrap()).to_str().unwrap());
}

fn the_first_vm_works_with(qemu: &str) {
    require(&[("setpriv", "util-linux")]);
    let world = World::new();
    let dir = tempfile::Builder::new().prefix("vum-readme-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(program(), dir.path().join("vhost-user-macvtap")).unwrap();
    for file in ["vmlinux", "initramfs.cpio"] {
        fs::copy(guest_image().join(file), dir.path().join(file)).unwrap();
        let readable = fs::Permissions::from_mode(0o644);
        fs::set_permissions(dir.path().join(file), readable).unwrap();
    }
    // README's command and the printer find this QEMU in PATH.
    let wrapper = format!("#!/bin/sh\nexec {qemu} \"$@\"\n");
    fs::write(dir.path().join("qemu-system-x86_64"), wrapper).unwrap();
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.path().join("qemu-system-x86_64"), runnable).unwrap();
    let control = UnixListener::bind(dir.path().join("control")).unwrap();
    fs::set_permissions(dir.path().join("control"), fs::Permissions::from_mode(0o666)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let log = |name: &str| File::create(dir.path().join(name)).unwrap();

    let line = block("vhost-user-macvtap --parent").replace("sudo ", "exec ");
    let line = line.replace("/run/vm1.sock", &format!("{}/vm1.sock", dir.path().display()));
    let mut command = world.host.command("sh");
    command.args(["-c", &line]).env("USER", USER).env("PATH", &path).stderr(log("backend"));
    let mut backend = die_with_us(&mut command).spawn().unwrap();
    let socket = dir.path().join("vm1.sock");
    assert!(wait_until(Duration::from_secs(10), || socket.exists()), "no socket: {line}");

    let line = adapted(&block("eval qemu-system"), qemu, dir.path());
    assert!(!line.contains("sudo"), "QEMU needs no root: {line}");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", "65534", "--clear-groups", "--bounding-set=-all"]);
    command.args([
        "--inh-caps=-all",
        "--pdeathsig",
        "KILL",
        "sh",
        "-c",
        &line.replace("eval qemu", "eval exec qemu"),
    ]);
    command.env("PATH", &path).current_dir(dir.path()).stdin(Stdio::null());
    command.stdout(log("console")).stderr(log("qemu.log"));
    let child = die_with_us(&mut command).spawn().unwrap();
    let mut guest = Guest::adopt("vm1", child, dir, &control);
    guest.wait_boot();
    guest.configure("eth0", "192.0.2.11", "2001:db8::11");
    assert!(guest.pings(World::LAN_V4));
    assert!(world.lan.pings("192.0.2.11"));
    guest.kill();
    backend.kill().unwrap();
    backend.wait().unwrap();
    drop((guest, world));
    assert_nothing_left();
}
