//! A newcomer's mistakes with real QEMU: the log's messages, and the cost of the loop.
//!
//! `tests/cases/requests.rs` and `loops.rs` replay what QEMU 7.2 was recorded to send; here the
//! QEMU that is installed sends it. The guest boots as far as its network driver, which is when
//! QEMU hands its memory over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::backend::Backend;
use testkit::guest::guest_image;
use testkit::netns::{World, die_with_us, require};

/// A QEMU whose only care is the network device; ended when dropped.
struct Qemu(Child);

impl Qemu {
    fn start(socket: &Path, queues: u16, memory: &str) -> Qemu {
        require(&[("qemu-system-x86_64", "qemu-system-x86")]);
        let image = guest_image();
        let mut command = Command::new("qemu-system-x86_64");
        let accel = std::env::var("VUM_ACCEL").unwrap_or_else(|_| "tcg".to_string());
        command
            .args([
                "-nodefaults",
                "-display",
                "none",
                "-machine",
                "pc",
                "-accel",
                &accel,
                "-m",
                "192M",
            ])
            .arg("-kernel")
            .arg(image.join("vmlinux"))
            .arg("-initrd")
            .arg(image.join("initramfs.cpio"))
            .args(memory.split_whitespace())
            .args(["-chardev", &format!("socket,id=c,path={}", socket.display())])
            .args(["-netdev", &format!("vhost-user,id=n,chardev=c,queues={queues}")])
            .args([
                "-device",
                "virtio-net-pci,netdev=n,mac=52:54:00:12:34:56,mq=on,vectors=0,romfile=",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Qemu(die_with_us(&mut command).spawn().expect("QEMU starts"))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With each kind of private memory: nothing but "is in no memory region", or nothing at all.
#[test]
fn bug_u1_private_memory_is_answered_with_what_to_type() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("memory");
    let kinds = [
        String::new(),
        "-object memory-backend-ram,id=m,size=192M -numa node,memdev=m".into(),
        "-object memory-backend-memfd,id=m,size=192M,share=off -numa node,memdev=m".into(),
        format!(
            "-object memory-backend-file,id=m,size=192M,share=off,mem-path={} -numa node,memdev=m",
            file.display()
        ),
    ];
    for memory in kinds {
        let socket = dir.path().join("vm.sock");
        let name = socket.to_str().unwrap();
        let flags = ["--parent", "eth0", "--socket-path", name, "--name", "vm", "--type=macvlan"];
        let backend = Backend::start(&world.host, &flags);
        let _qemu = Qemu::start(&socket, 1, &memory);
        let told = "the guest's memory must be shared: QEMU: -object memory-backend-memfd";
        backend.wait_for_log(told, Duration::from_secs(60));
        drop(backend);
        std::fs::remove_file(&socket).unwrap();
    }
}

/// 107,000 connections and 38 MB of log in 54 s, most of a processor, and no line named the cause.
#[test]
fn bug_u2_four_queues_at_a_port_of_one_pair() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("vm.sock");
    let name = socket.to_str().unwrap();
    let flags = ["--parent", "eth0", "--socket-path", name, "--name", "vm"];
    let backend = Backend::start(&world.host, &flags);
    let memory = "-object memory-backend-memfd,id=m,size=192M,share=on -numa node,memdev=m";
    let _qemu = Qemu::start(&socket, 4, memory);
    backend.wait_for_log("queue-pairs=4", Duration::from_secs(30));
    std::thread::sleep(Duration::from_secs(2));
    let (time, used) = (Duration::from_secs(5), backend.busy(Duration::from_secs(5)));
    println!("{used:?} in {time:?}");
    assert!(used < time / 50, "{used:?} of a processor in {time:?}");
    let lines = backend.log().lines().filter(|line| line.contains("port vm: ")).count();
    assert!(lines <= 13, "{lines} lines:\n{}", backend.log());
}
