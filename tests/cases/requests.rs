//! Requests of a front-end that was not set up for them, or must not make them.
//!
//! The first part is a newcomer's: a VMM whose guest memory is private. Each front-end shows it in
//! another way, and each must get a message with the options to type. The second part is a
//! tenant's: SEND_RARP lets the back-end send on the LAN, which must not become a way around the
//! check of source addresses.
//!
//! What can go wrong with the tests: QEMU's messages are replayed from a recording (`recorded.rs`);
//! real QEMU runs in `tests/qemu_newcomer.rs`.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::recorded::{
    CONNECT, HALF_PRIVATE_REGION, HALF_PRIVATE_RING, PRIVATE_MEMORY, bytes, replay,
};
use super::toll;
use testkit::driver::F_PROTOCOL;
use testkit::frames;
use testkit::memory::{Backing, make_file};
use testkit::netns::wait_until;
use testkit::rig::{LAN_MAC, MACS, Macvlan, Macvtap, Rig, SECOND, SILENCE, fresh_tag};
use testkit::vmm::{QemuOptions, proto, req};

/// The log names the options to type, for each VMM.
fn is_told_to_share(rig: &Rig) {
    rig.backend.wait_for_log("the guest's memory must be shared: ", SECOND);
    let log = rig.backend.log();
    let line = log.lines().find(|line| line.contains("memory must be shared")).unwrap();
    for words in [
        "memory-backend-memfd,id=mem,size=SIZE,share=on",
        "-machine memory-backend=mem",
        "<access mode='shared'/>",
        "shared=on",
    ] {
        assert!(line.contains(words), "{words:?} is not in {line}");
    }
}

/// "ring 0: its descriptor table at 0x7f6de535c000 is in no memory region" was the only message.
#[test]
fn bug_u1_qemu_with_private_memory_is_told_what_to_type() {
    let mut rig = Rig::new(Macvlan);
    let mut vmm = rig.connect(0);
    replay(&mut vmm, CONNECT);
    replay(&mut vmm, PRIVATE_MEMORY);
    vmm.expect_closed();
    is_told_to_share(&rig);
    rig.unharmed();
}

#[test]
fn bug_u1_one_of_two_memory_back_ends_is_private() {
    let rig = Rig::new(Macvtap);
    let mut vmm = rig.connect(0);
    replay(&mut vmm, CONNECT);
    let file = make_file(&Backing::Memfd, 128 << 20);
    vmm.send(HALF_PRIVATE_REGION.0, 0, &bytes(HALF_PRIVATE_REGION.1), &[file.as_raw_fd()]);
    replay(&mut vmm, &[HALF_PRIVATE_RING]);
    vmm.expect_closed();
    is_told_to_share(&rig);
}

/// `memory-backend-memfd,share=off` and `memory-backend-file,share=off`: QEMU sends the file, and
/// the log was silent: our mapping of it held zeros, the guest had no network.
#[test]
fn bug_u1_a_file_that_the_front_end_maps_for_itself() {
    for slots in [false, true] {
        let rig = Rig::new(Macvtap);
        let file = make_file(&Backing::Memfd, 1 << 20);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new private mapping of our own file, which nothing touches and the process's
        // end removes.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                1 << 20,
                access,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        let region = [0u64, 1 << 20, at as u64, 0].map(u64::to_le_bytes).concat();
        let mut vmm = rig.connect(0);
        replay(&mut vmm, CONNECT);
        let (request, count) =
            if slots { (req::ADD_MEM_REG, 0u64) } else { (req::SET_MEM_TABLE, 1) };
        let payload = [&count.to_le_bytes()[..], &region].concat();
        vmm.send(request, 8, &payload, &[file.as_raw_fd()]);
        assert_ne!(vmm.reply(request), [0; 8], "accepted");
        is_told_to_share(&rig);
    }
}

/// Other front-ends send a table of no region, or one whose regions bring no descriptor.
#[test]
fn bug_u1_a_table_without_memory() {
    let region = [0u64, 1 << 20, 0x7000_0000_0000, 0].map(u64::to_le_bytes).concat();
    for payload in [vec![0; 8], [&1u64.to_le_bytes()[..], &region].concat()] {
        let rig = Rig::new(Macvtap);
        let mut vmm = rig.connect(0);
        replay(&mut vmm, CONNECT);
        vmm.send(req::SET_MEM_TABLE, 0, &payload, &[]);
        vmm.expect_closed();
        is_told_to_share(&rig);
    }
}

fn rarps(rig: &Rig, time: Duration) -> Vec<frames::Mac> {
    let (end, mut sources) = (Instant::now() + time, Vec::new());
    let rarp = |f: &[u8]| frames::ethertype(f) == frames::ETH_RARP;
    while Instant::now() < end {
        sources.extend(rig.wire.recv_where(SILENCE, rarp).map(|f| frames::src(&f)));
    }
    sources
}

/// 249,511 frames with a foreign source in 3 s on the LAN, past the check of addresses, and 30 MB
/// of log.
#[test]
fn bug_s9_rarp_announces_the_ports_address_a_few_times() {
    let mut rig = Rig::new(Macvtap);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    rig.wire.clear();
    let mut foreign = MACS[1];
    for n in 0..6000u32 {
        foreign[2..].copy_from_slice(&n.to_be_bytes());
        vmm.send_rarp(if n % 10 == 0 { MACS[0] } else { foreign });
        if n % 64 == 0 {
            vmm.sync();
        }
    }
    vmm.sync();
    let sources = rarps(&rig, SECOND);
    assert!(sources.iter().all(|source| *source == MACS[0]), "{sources:?}");
    assert!((1..=60).contains(&sources.len()), "{} announcements", sources.len());
    let lines = toll::lines(&rig.backend, 0);
    assert!(lines.len() <= toll::LINES + 4, "{lines:#?}");
    assert!(rig.backend.log().contains("the port announces only its own"), "the refusal explains");
    rig.both_ways(&mut driver, 0);
    rig.unharmed();
}

/// It was served without its protocol feature, too.
#[test]
fn bug_f24_rarp_needs_its_protocol_feature() {
    let rig = Rig::new(Macvtap);
    let mut vmm = rig.connect(0);
    vmm.get_features();
    vmm.set_owner();
    let bits = vmm.get_protocol_features() & !(proto::RARP | proto::MTU | proto::STATUS);
    vmm.set_protocol_features(bits);
    vmm.set_features(F_PROTOCOL);
    rig.wire.clear();
    assert_ne!(vmm.order(req::SEND_RARP, &[&MACS[0][..], &[0; 2]].concat(), &[]), 0);
    assert_ne!(vmm.net_set_mtu(1400), 0);
    assert_ne!(vmm.order(req::SET_STATUS, &[0; 8], &[]), 0);
    assert_eq!(rarps(&rig, 2 * SILENCE), Vec::<frames::Mac>::new());
}

/// Only a counter reported it, and only by signal: its owner saw only that the guest had no
/// network.
#[test]
fn bug_u4_a_guest_with_another_address_is_told_once() {
    let mut rig = Rig::with(Macvtap, &["--mac-changes", "deny"]);
    for connection in 1..=2 {
        let (vmm, mut driver) = rig.guest(&QemuOptions::default());
        let other = [0x52, 0x54, 0, 9, 9, connection];
        for _ in 0..20 {
            driver.send(0, &[frames::tagged(LAN_MAC, other, fresh_tag(), 60)]);
        }
        let (foreign, own) = (frames::mac_text(other), frames::mac_text(MACS[0]));
        let start =
            format!("port t0: the guest sends from {foreign}, and the port's address is {own}");
        rig.backend.wait_for_log(&start, SECOND);
        let log = rig.backend.log();
        let line = log.lines().find(|line| line.contains(&start)).unwrap();
        assert!(line.contains(&format!("mac={own}")) && line.contains("--mac-changes allow"));
        driver.send(0, &[frames::tagged(LAN_MAC, [2; 6], fresh_tag(), 60)]);
        rig.backend.wait_caught_up();
        let told = rig.backend.log().matches("the guest sends from").count();
        assert_eq!(told, usize::from(connection), "once per connection");
        let open = rig.backend.fds().len();
        drop((vmm, driver));
        assert!(wait_until(2 * SECOND, || rig.backend.fds().len() < open));
    }
}
