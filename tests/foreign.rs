//! Front-ends of other projects: the `vhost` crate's and DPDK's virtio-user.
//!
//! Our fake VMM speaks as QEMU and Cloud Hypervisor were seen to. The authors of the back-end wrote
//! it, so a misreading of the specification could be in both. These two are independent. The
//! crate's front-end checks every answer strictly and sends the tidy order of its documentation.
//! virtio-user is a second implementation of a virtio-net driver, in C, that polls its rings, never
//! sleeps and never asks for calls; testpmd behind it makes frames, counts them or sends them back.
//!
//! What can go wrong with the tests: testpmd takes a processor for itself and needs 192 MiB. It is
//! killed by its pid however a test ends, and its directory under /run/dpdk removed. Packages:
//! dpdk-dev (Debian's testpmd) and librte-net-virtio23 (virtio-user), both in
//! scripts/install-deps.sh.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::driver::*;
use testkit::frames;
use testkit::memory::Memory;
use testkit::netns::{die_with_us, require, wait_until};
use testkit::rig::*;
use testkit::vmm::{Guest, QemuOptions};
use vhost::vhost_user::{
    Frontend, VhostUserFrontend, VhostUserProtocolFeatures, message::VhostUserConfigFlags,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

// --- the vhost crate's front-end ---

fn regions(memory: &Memory) -> Vec<VhostUserMemoryRegionInfo> {
    memory
        .regions()
        .iter()
        .map(|region| VhostUserMemoryRegionInfo {
            guest_phys_addr: region.gpa,
            memory_size: region.size,
            userspace_addr: region.user_addr(),
            mmap_offset: region.offset,
            mmap_handle: region.fd(),
        })
        .collect()
}

/// Sends the back-end the places of the driver's rings.
fn give_rings(front: &mut Frontend, driver: &Driver) {
    for queue in driver.queues() {
        let config = VringConfigData {
            queue_max_size: queue.size,
            queue_size: queue.size,
            flags: 0,
            desc_table_addr: driver.mem.user_addr(queue.desc),
            used_ring_addr: driver.mem.user_addr(queue.used),
            avail_ring_addr: driver.mem.user_addr(queue.avail),
            log_addr: None,
        };
        front.set_vring_num(queue.index, queue.size).expect("SET_VRING_NUM");
        front.set_vring_addr(queue.index, &config).expect("SET_VRING_ADDR");
        front.set_vring_base(queue.index, queue.used_idx()).expect("SET_VRING_BASE");
        front.set_vring_call(queue.index, &queue.call).expect("SET_VRING_CALL");
        front.set_vring_kick(queue.index, &queue.kick).expect("SET_VRING_KICK");
        front.set_vring_enable(queue.index, true).expect("SET_VRING_ENABLE");
    }
}

/// The documented order, with everything that crate and back-end have in common; `slots`: memory
/// region by region.
fn crate_front_end(pairs: usize, slots: bool) {
    let rig = Rig::new(Macvtap);
    let memory = Memory::like_qemu(64 << 20);
    let mut front = Frontend::connect(rig.socket(0), 2 * pairs as u64).expect("connect");
    front.set_owner().expect("SET_OWNER");
    let offered = front.get_features().expect("GET_FEATURES");
    let wanted = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    let both = front.get_protocol_features().expect("GET_PROTOCOL_FEATURES") & wanted;
    assert_eq!(both, wanted, "protocol features");
    front.set_protocol_features(both).expect("SET_PROTOCOL_FEATURES");
    front.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
    assert!(front.get_queue_num().expect("GET_QUEUE_NUM") >= 2 * pairs as u64);

    let (_, config) =
        front.get_config(0, 12, VhostUserConfigFlags::empty(), &[0; 12]).expect("GET_CONFIG");
    assert_eq!(config[..6], MACS[0], "the address in the configuration space");
    assert_eq!(config[8..12], [2, 0, 0, 0], "two queue pairs, no MTU given");

    let features = offered & (Guest::default().features | F_PROTOCOL);
    front.set_features(features).expect("SET_FEATURES");
    if slots {
        assert!(front.get_max_mem_slots().expect("GET_MAX_MEM_SLOTS") >= 8);
        for region in regions(&memory) {
            front.add_mem_region(&region).expect("ADD_MEM_REG");
        }
    } else {
        front.set_mem_table(&regions(&memory)).expect("SET_MEM_TABLE");
    }
    let mut driver = Driver::new(&memory, features, pairs, 256, 256);
    give_rings(&mut front, &driver);
    for pair in 0..pairs {
        driver.post_rx(pair, 64, 2048);
    }
    rig.link_up_on_all(&mut driver, 0);
    for pair in 0..pairs {
        rig.frame_out(&mut driver, 0, pair, 1514);
    }
    rig.frame_in(&mut driver, 0, 1514);

    // Stopped and started again, as for a migration that was called off.
    for queue in driver.queues() {
        let base = front.get_vring_base(queue.index).expect("GET_VRING_BASE");
        assert_eq!(base, u32::from(queue.used_idx()), "ring {}", queue.index);
    }
    give_rings(&mut front, &driver);
    rig.frame_out(&mut driver, 0, 0, 60);
    rig.frame_in(&mut driver, 0, 60);
}

#[test]
fn the_vhost_crates_front_end_with_a_memory_table() {
    crate_front_end(1, false);
}

#[test]
fn the_vhost_crates_front_end_with_memory_slots_and_two_pairs() {
    crate_front_end(2, true);
}

// --- DPDK ---

/// A testpmd on a virtio-user port behind the rig's port 0.
struct Testpmd {
    child: Child,
    prefix: String,
    dir: TempDir,
}

impl Testpmd {
    fn start(rig: &Rig, queues: usize, mode: &str) -> Testpmd {
        require(&[("dpdk-testpmd", "dpdk-dev librte-net-virtio23")]);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("vum-{}-{count}", std::process::id());
        let dir = TempDir::new().expect("a directory for testpmd's output");
        let output = File::create(dir.path().join("output")).unwrap();
        let device = format!(
            "net_virtio_user0,path={},mac={},queues={queues},queue_size=256",
            rig.socket(0).display(),
            frames::mac_text(MACS[0])
        );
        let mut command = rig.world.lan.command("dpdk-testpmd");
        command.args(["-l", "0,1", "--no-huge", "-m", "192", "--no-pci", "--file-prefix", &prefix]);
        command.args(["--vdev", &device, "--", &format!("--forward-mode={mode}")]);
        command.args(["-i", "--auto-start", "--total-num-mbufs=8192", "--nb-cores=1"]);
        command.args([format!("--txq={queues}"), format!("--rxq={queues}")]);
        command.args(["--txd=256", "--rxd=256"]);
        command.stdin(Stdio::piped()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = die_with_us(&mut command).spawn().expect("testpmd starts");
        let testpmd = Testpmd { child, prefix, dir };
        let started = wait_until(20 * SECOND, || testpmd.output().contains("testpmd> "));
        assert!(started, "testpmd does not forward:\n{}", testpmd.output());
        testpmd
    }

    fn output(&self) -> String {
        let bytes = fs::read(self.dir.path().join("output")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it the orderly way and returns all of its output, with its statistics.
    fn quit(mut self) -> String {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(b"stop\nshow port stats 0\nquit\n").expect("testpmd reads commands");
        let mut status = None;
        let ended = wait_until(10 * SECOND, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let output = self.output();
        assert!(ended, "testpmd does not end:\n{output}");
        assert!(status.unwrap().success(), "testpmd:\n{output}");
        output
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(format!("/run/dpdk/{}", self.prefix));
        if std::thread::panicking() {
            eprintln!("---- testpmd ----\n{}---- end ----", self.output());
        }
    }
}

/// All numbers that follow this word in testpmd's output.
fn numbers(output: &str, word: &str) -> Vec<u64> {
    output
        .split(word)
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Afterwards the port is as good as new.
fn port_lives(mut rig: Rig) {
    rig.backend.wait_for_log("has disconnected", 2 * SECOND);
    assert!(rig.backend.alive());
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    rig.both_ways(&mut driver, 0);
}

fn sends(queues: usize) {
    let rig = Rig::new(Macvtap);
    let testpmd = Testpmd::start(&rig, queues, "txonly");
    let ours = |f: &[u8]| f.len() == 64 && frames::src(f) == MACS[0];
    assert!(rig.wire.recv_where(10 * SECOND, ours).is_some(), "nothing from testpmd");
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < SECOND {
        count += u64::from(rig.wire.recv_where(SILENCE, ours).is_some());
    }
    let output = testpmd.quit();
    println!("{queues} queues: {count} frames on the wire in a second");
    assert!(count > 5000, "only {count} frames in a second");
    let claimed = numbers(&output, "TX-packets:").into_iter().max().unwrap();
    assert!(claimed >= count, "{count} on the wire, testpmd has sent {claimed}\n{output}");
    if queues > 1 {
        for queue in 0..queues {
            let head = format!("-> TX Port= 0/Queue= {queue} ");
            let tail = output.split(&head).nth(1).unwrap_or_else(|| panic!("{head}: {output}"));
            assert_ne!(numbers(tail, "TX-packets:")[0], 0, "queue {queue} has sent nothing");
        }
    }
    port_lives(rig);
}

#[test]
fn virtio_user_sends_on_one_pair() {
    sends(1);
}

#[test]
fn virtio_user_sends_on_two_pairs() {
    sends(2);
}

/// Every frame goes in, has its addresses swapped by DPDK and comes out again: none is lost at a
/// bearable rate.
fn answers(queues: usize) {
    let rig = Rig::new(Macvtap);
    let testpmd = Testpmd::start(&rig, queues, "macswap");
    rig.wire.clear();
    let (mut sent, mut back) = (0, 0);
    for round in 0..50 {
        let from = |port| frames::End { mac: LAN_MAC, ip: [10, 9, 0, 9], port };
        let to = frames::End { mac: MACS[0], ip: [10, 9, 0, 1], port: 7 };
        let tag = fresh_tag().to_be_bytes();
        for flow in 0..20 {
            let data = [&tag[..], &[flow as u8; 100]].concat();
            rig.wire.send(&frames::udp4(from(1000 + flow), to, &data));
            sent += 1;
        }
        for _ in 0..20 {
            let ours = |f: &[u8]| {
                frames::dst(f) == LAN_MAC
                    && frames::src(f) == MACS[0]
                    && frames::segment(f).is_some_and(|s| s.data[..8] == tag && s.sums_right)
            };
            back += u64::from(rig.wire.recv_where(2 * SECOND, ours).is_some());
        }
        assert_eq!(back, sent, "round {round}: frames that came back, of those sent");
    }
    let output = testpmd.quit();
    assert!(numbers(&output, "RX-packets:").into_iter().max().unwrap() >= sent, "{output}");
    port_lives(rig);
}

#[test]
fn virtio_user_answers_on_one_pair() {
    answers(1);
}

#[test]
fn virtio_user_answers_on_two_pairs() {
    answers(2);
}

/// testpmd counts what arrives, by queue: flows are spread, and none is lost.
#[test]
fn virtio_user_receives_on_both_of_two_pairs() {
    let rig = Rig::new(Macvtap);
    let testpmd = Testpmd::start(&rig, 2, "rxonly");
    let to = frames::End { mac: MACS[0], ip: [10, 9, 0, 1], port: 7 };
    for flow in 0..1000 {
        let from = frames::End { mac: LAN_MAC, ip: [10, 9, 0, 9], port: 1000 + flow };
        rig.wire.send(&frames::udp4(from, to, b"one flow of many"));
        if flow % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::thread::sleep(2 * SILENCE);
    let output = testpmd.quit();
    let queue = |queue: usize| {
        let head = format!("Forward Stats for RX Port= 0/Queue= {queue} ");
        let tail = output.split(&head).nth(1).unwrap_or_else(|| panic!("{head}: {output}"));
        numbers(tail, "RX-packets:")[0]
    };
    let (first, second) = (queue(0), queue(1));
    // The LAN sends hardly any other frames, but it may.
    assert!((1000..1020).contains(&(first + second)), "{first} and {second} of 1000 frames");
    assert!(first > 200 && second > 200, "{first} and {second}: not spread");
    port_lives(rig);
}
