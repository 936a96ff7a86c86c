//! The handshake, as real VMMs do it: orders recorded from QEMU 7.2 and Cloud Hypervisor, played
//! byte by byte.
//!
//! Each test brings the real binary up on a real parent in a network namespace, plays a VMM, and
//! then asks the only question that counts: does a frame go through, each way? A handshake that
//! "succeeds" and leaves a dead ring is the bug that users report. Further tests: QEMU's messages
//! that come too early or twice, messages that are refused without ending the connection, stop as a
//! barrier, reconnects, memory of every kind.
//!
//! What can go wrong with the tests: they need root, `ip`, macvtap in the kernel, and (one of them)
//! free memory for 2 MiB pages. If one of these is missing, the test fails with the reason; nothing
//! is skipped.
//!
//! Specification: vhost-user, "Communication", "Ring states", "Multiple queue support", "Protocol
//! features".

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::driver::*;
use testkit::frames;
use testkit::memory::{Backing, HUGE, HugePages, Memory};
use testkit::rig::*;
use testkit::vmm::*;

testkit::for_each_port_type! {
    qemu_72_order_one_pair,
    qemu_72_order_two_pairs,
    cloud_hypervisor_order_one_pair,
    cloud_hypervisor_order_two_pairs,
    enable_before_features_is_remembered,
    stop_continue_and_reboot,
    pause_leaves_the_memory_alone,
    ring_with_event_idx,
    ring_without_event_idx,
    ring_with_indirect_descriptors,
    ring_with_long_chains,
    ring_with_mergeable_buffers,
    ring_without_mergeable_buffers,
    ring_in_order,
    doubled_memory_region,
    mtu_accepted_and_refused,
    rarp_reaches_the_wire,
    status_is_kept,
    unknown_request_is_refused_and_the_connection_lives,
    second_front_end_is_refused,
    hundred_reconnects_leave_nothing_behind,
    restart_offers_the_same_and_continues,
    wrong_ring_base_is_not_believed,
    get_vring_base_is_a_barrier,
    memory_in_one_memfd,
    memory_in_a_plain_file,
    memory_on_huge_pages,
    memory_in_eight_regions,
    buffer_across_two_regions,
    memory_plugged_in_and_out,
}

// --- recorded orders ---

fn qemu_order(ports: PortType, pairs: usize) {
    let rig = Rig::new(ports);
    for (reply_ack, mem_slots, status) in
        [(true, true, true), (true, false, true), (false, true, false), (false, false, false)]
    {
        eprintln!("pairs {pairs}, REPLY_ACK {reply_ack}, memory slots {mem_slots}");
        let o = QemuOptions {
            pairs,
            reply_ack,
            mem_slots,
            status,
            mtu: Some(1500),
            ..Default::default()
        };
        let mut vmm = rig.connect(0);
        let mut driver = vmm.start_like_qemu72(&o);
        for pair in 0..pairs {
            driver.post_rx(pair, 64, 2048);
        }
        vmm.guest_sets_pairs(pairs, pairs);
        rig.link_up_on_all(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
        rig.frame_out(&mut driver, 0, pairs - 1, 60);
        vmm.stop_like_qemu72(&driver);
    }
}

fn qemu_72_order_one_pair(ports: PortType) {
    qemu_order(ports, 1);
}

fn qemu_72_order_two_pairs(ports: PortType) {
    qemu_order(ports, 2);
}

fn cloud_hypervisor_order(ports: PortType, pairs: usize) {
    let rig = Rig::new(ports);
    for (reply_ack, mem_slots) in [(true, true), (true, false), (false, true), (false, false)] {
        eprintln!("pairs {pairs}, REPLY_ACK {reply_ack}, memory slots {mem_slots}");
        let o = ChOptions { pairs, reply_ack, mem_slots, ..Default::default() };
        let mut vmm = rig.connect(0);
        let mut driver = vmm.start_like_cloud_hypervisor(&o);
        for pair in 0..pairs {
            driver.post_rx(pair, 64, 2048);
        }
        rig.link_up_on_all(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
        rig.frame_out(&mut driver, 0, pairs - 1, 60);
        vmm.ch_reset(&driver);
    }
}

fn cloud_hypervisor_order_one_pair(ports: PortType) {
    cloud_hypervisor_order(ports, 1);
}

fn cloud_hypervisor_order_two_pairs(ports: PortType) {
    cloud_hypervisor_order(ports, 2);
}

/// With one pair QEMU enables the rings at realize, before any feature is acknowledged, and never
/// again.
fn enable_before_features_is_remembered(ports: PortType) {
    let rig = Rig::new(ports);
    let o = QemuOptions { early_enables: 5, late_enable: false, ..Default::default() };
    let mut vmm = rig.connect(0);
    let mut driver = vmm.start_like_qemu72(&o);
    driver.post_rx(0, 64, 2048);
    rig.link_up(&mut driver, 0);
    rig.both_ways(&mut driver, 0);
}

fn stop_continue_and_reboot(ports: PortType) {
    let mut rig = Rig::new(ports);
    let o = QemuOptions::default();
    let (mut vmm, mut driver) = rig.guest(&o);
    for round in 0..3 {
        let bases = vmm.stop_like_qemu72(&driver);
        for (q, base) in driver.queues().zip(bases) {
            assert_eq!(base, u32::from(q.used_idx()), "round {round}: base of ring {}", q.index);
        }
        vmm.cont_like_qemu72(&o, &mut driver);
        // The control thread brings a userspace port up a moment after its rings run.
        rig.link_up(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
    }
    for _ in 0..3 {
        vmm.reboot_like_qemu72(&o, &mut driver);
        driver.post_rx(0, 64, 2048);
        rig.link_up(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
    }
}

/// Cloud Hypervisor pauses by ENABLE 0 alone: from then on the guest's memory must not change.
fn pause_leaves_the_memory_alone(ports: PortType) {
    let rig = Rig::new(ports);
    let mut vmm = rig.connect(0);
    let mut driver = vmm.start_like_cloud_hypervisor(&ChOptions::default());
    driver.post_rx(0, 64, 2048);
    rig.link_up(&mut driver, 0);
    vmm.ch_pause(&driver);
    let before = driver.pairs[0].rx.used_snapshot();
    driver.pairs[0].rx.take_calls();
    for _ in 0..10 {
        rig.wire.send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 60));
    }
    std::thread::sleep(SILENCE);
    assert_eq!(before, driver.pairs[0].rx.used_snapshot(), "written to while paused");
    assert_eq!(driver.pairs[0].rx.take_calls(), 0, "called while paused");
    vmm.ch_resume(&driver);
    rig.link_up(&mut driver, 0);
    rig.both_ways(&mut driver, 0);
    vmm.ch_reset(&driver);
}

// --- choices of the guest's driver ---

fn ring_choice(ports: PortType, guest: Guest, style: TxStyle, buffer: u32) {
    let rig = Rig::new(ports);
    let mut vmm = rig.connect(0);
    let wanted = guest.features & (F_EVENT_IDX | F_INDIRECT | F_MRG_RXBUF | F_IN_ORDER);
    let mut driver = vmm.start_like_qemu72(&QemuOptions { guest, ..Default::default() });
    let got = driver.features & (F_EVENT_IDX | F_INDIRECT | F_MRG_RXBUF | F_IN_ORDER);
    assert_eq!(got, wanted, "the back-end does not offer what this test is about");
    driver.style = style;
    driver.post_rx(0, 200, buffer);
    rig.link_up(&mut driver, 0);
    // More than a ring, so that indices and descriptors wrap.
    for len in (60..1514).step_by(3) {
        rig.frame_out(&mut driver, 0, 0, len);
        rig.frame_in(&mut driver, 0, len);
    }
    // As many as the ring holds at once: else the driver publishes, and may have to kick, several
    // times.
    let fits = (200 / style.pieces).min(100);
    let burst: Vec<_> =
        (0..fits).map(|_| frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 200)).collect();
    let before = driver.pairs[0].tx.kicks;
    driver.send(0, &burst);
    assert!(driver.pairs[0].tx.kicks <= before + 1, "one publication, at most one kick");
    for frame in &burst {
        let got = rig.wire.recv_tag(frames::tag_of(frame).unwrap(), ARRIVAL);
        assert_eq!(got.as_ref(), Some(frame), "a frame of the burst, in order");
    }
    assert!(driver.drain_tx(0, ARRIVAL), "all transmit buffers come back");
}

const PLAIN: TxStyle = TxStyle { indirect: false, pieces: 1 };

fn ring_with_event_idx(ports: PortType) {
    ring_choice(ports, Guest::default(), PLAIN, 2048);
}

fn ring_without_event_idx(ports: PortType) {
    ring_choice(ports, Guest::default().without(F_EVENT_IDX), PLAIN, 2048);
}

fn ring_with_indirect_descriptors(ports: PortType) {
    let style = TxStyle { indirect: true, pieces: 7 };
    ring_choice(ports, Guest::default(), style, 2048);
}

fn ring_with_long_chains(ports: PortType) {
    let style = TxStyle { indirect: false, pieces: 17 };
    ring_choice(ports, Guest::default().without(F_INDIRECT), style, 2048);
}

/// 200-byte buffers: a full frame takes 8 of them, and all must appear at once.
fn ring_with_mergeable_buffers(ports: PortType) {
    ring_choice(ports, Guest::default(), PLAIN, 200);
}

fn ring_without_mergeable_buffers(ports: PortType) {
    let guest = Guest::default().without(F_MRG_RXBUF | F_GUEST_TSO4 | F_GUEST_TSO6);
    ring_choice(ports, guest, PLAIN, 1526);
}

fn ring_in_order(ports: PortType) {
    ring_choice(ports, Guest::default().with(F_IN_ORDER), PLAIN, 2048);
}

// --- single messages ---

/// QEMU before 8.0 adds every region once per queue pair. The same again is fine, an overlap is
/// not.
fn doubled_memory_region(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    needs(&vmm, proto::CONFIGURE_MEM_SLOTS | proto::REPLY_ACK);
    for region in vmm.memory.regions() {
        assert_eq!(vmm.add_mem_reg(&region), 0, "the same region once more");
    }
    rig.both_ways(&mut driver, 0);
    let overlapping = Memory::empty().add(&Backing::Memfd, 0x20_0000, 4 << 20);
    assert_ne!(vmm.add_mem_reg(&overlapping), 0, "another region over the first was accepted");
    rig.both_ways(&mut driver, 0);
}

fn needs(vmm: &Vmm, bits: u64) {
    assert_eq!(vmm.proto & bits, bits, "protocol features that this test needs were not offered");
}

fn mtu_accepted_and_refused(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions { mtu: Some(1400), ..Default::default() });
    needs(&vmm, proto::MTU | proto::REPLY_ACK);
    assert_eq!(vmm.net_set_mtu(1500), 0);
    assert_ne!(vmm.net_set_mtu(9000), 0, "the parent carries 1500 bytes only");
    assert_ne!(vmm.net_set_mtu(u64::MAX), 0);
    assert_ne!(vmm.net_set_mtu(0), 0);
    rig.both_ways(&mut driver, 0);
}

/// After a migration the switches on the LAN learn the guest's new place from this frame.
fn rarp_reaches_the_wire(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    needs(&vmm, proto::RARP);
    rig.wire.clear();
    vmm.send_rarp(MACS[0]);
    let rarp = |f: &[u8]| frames::ethertype(f) == frames::ETH_RARP;
    let f = rig.wire.recv_where(ARRIVAL, rarp).expect("a RARP frame on the wire");
    assert_eq!(frames::dst(&f), frames::BROADCAST);
    assert_eq!(frames::src(&f), MACS[0]);
    assert_eq!(f[14..22], [0, 1, 8, 0, 6, 4, 0, 3], "Ethernet, IPv4, request reverse");
    assert_eq!((&f[22..28], &f[32..38]), (&MACS[0][..], &MACS[0][..]), "both hardware addresses");
    rig.both_ways(&mut driver, 0);
}

fn status_is_kept(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    needs(&vmm, proto::STATUS);
    assert_eq!(vmm.get_status(), 15, "what the handshake has set bit by bit");
    vmm.set_status(0);
    assert_eq!(vmm.get_status(), 0);
    vmm.set_status(15);
    assert_eq!(vmm.get_status(), 15);
    rig.both_ways(&mut driver, 0);
}

/// A VMM newer than we are may ask for things that we do not know. That is no reason to cut the
/// guest off.
fn unknown_request_is_refused_and_the_connection_lives(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    needs(&vmm, proto::REPLY_ACK);
    for unknown in [0, 41, 77, 1000, u32::MAX] {
        vmm.send(unknown, NEED_REPLY, &[1, 2, 3, 4, 5, 6, 7, 8], &[]);
        let verdict = vmm.reply(unknown);
        assert_eq!(verdict.len(), 8);
        assert_ne!(verdict, [0; 8], "request {unknown} does not exist and was accepted");
    }
    rig.both_ways(&mut driver, 0);
}

fn second_front_end_is_refused(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    for _ in 0..20 {
        // Refused at once, or accepted and closed at once: either is an answer.
        if let Ok(second) = UnixStream::connect(rig.socket(0)) {
            Vmm::from_stream(second).expect_closed();
        }
        rig.both_ways(&mut driver, 0);
    }
}

// --- coming and going ---

fn hundred_reconnects_leave_nothing_behind(ports: PortType) {
    let rig = Rig::new(ports);
    let mut counts = (0, 0);
    for round in 0..100 {
        let o =
            QemuOptions { mem_slots: round % 2 == 0, pairs: 1 + round % 2, ..Default::default() };
        let mut vmm = rig.connect(0);
        let mut driver = vmm.start_like_qemu72(&o);
        driver.post_rx(0, 8, 2048);
        driver.send(0, &[frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60)]);
        if round % 3 == 0 {
            vmm.stop_like_qemu72(&driver);
        }
        drop(vmm);
        if round == 9 {
            counts = settled(&rig, (usize::MAX, usize::MAX));
        }
    }
    let after = settled(&rig, counts);
    assert!(after.0 <= counts.0, "descriptors grew from {} to {}", counts.0, after.0);
    assert!(after.1 <= counts.1, "threads grew from {} to {}", counts.1, after.1);
    let mut vmm = rig.connect(0);
    let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
    driver.post_rx(0, 64, 2048);
    rig.link_up(&mut driver, 0);
}

/// Descriptors and threads of the back-end, once the last connection has been cleaned up.
fn settled(rig: &Rig, at_most: (usize, usize)) -> (usize, usize) {
    let deadline = Instant::now() + 2 * SECOND;
    std::thread::sleep(3 * SILENCE);
    loop {
        let now = (rig.backend.fds().len(), rig.backend.threads().len());
        if (now.0 <= at_most.0 && now.1 <= at_most.1) || Instant::now() > deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running guest's VMM finds a new process behind the socket: rings go on where they stood.
fn restart_offers_the_same_and_continues(ports: PortType) {
    let mut rig = Rig::new(ports);
    let o = QemuOptions::default();
    let (vmm, mut driver) = rig.guest(&o);
    let before = (vmm.offered, vmm.proto_offered);
    let memory = vmm.memory.clone();
    rig.crash_and_restart();
    drop(vmm);
    let mut vmm = rig.connect(0).with_memory(&memory);
    vmm.reconnect_like_qemu72(&o, &mut driver);
    assert_eq!((vmm.offered, vmm.proto_offered), before, "another process offers other features");
    rig.link_up(&mut driver, 0);
    rig.both_ways(&mut driver, 0);
}

/// Cloud Hypervisor gives the available index as ring base: believing it skips every posted buffer.
fn wrong_ring_base_is_not_believed(ports: PortType) {
    let rig = Rig::new(ports);
    let o = ChOptions::default();
    let mut vmm = rig.connect(0);
    let memory = vmm.memory.clone();
    let mut driver = vmm.start_like_cloud_hypervisor(&o);
    driver.post_rx(0, 64, 2048);
    rig.link_up(&mut driver, 0);
    drop(vmm);
    let mut vmm = rig.connect(0).with_memory(&memory);
    assert_ne!(driver.pairs[0].rx.avail_idx(), driver.pairs[0].rx.used_idx());
    vmm.reconnect_like_cloud_hypervisor(&o, &driver);
    rig.link_up(&mut driver, 0);
    rig.both_ways(&mut driver, 0);
}

/// When GET_VRING_BASE has answered, the ring is the VMM's: no write and no call may follow,
/// whichever frames arrive.
fn get_vring_base_is_a_barrier(ports: PortType) {
    let mut rig = Rig::new(ports);
    let o = QemuOptions::default();
    let (mut vmm, mut driver) = rig.guest(&o);
    let flood = Flood::start(&rig);
    for round in 0..30 {
        for _ in 0..20 {
            driver.send(0, &[frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 300)]);
            driver.recv(0, ARRIVAL).expect("the flood comes in");
        }
        let bases = vmm.stop_like_qemu72(&driver);
        let p = &mut driver.pairs[0];
        let before = (p.rx.used_snapshot(), p.tx.used_snapshot());
        p.rx.take_calls();
        p.tx.take_calls();
        std::thread::sleep(Duration::from_millis(30));
        let after = (p.rx.used_snapshot(), p.tx.used_snapshot());
        assert!(before == after, "round {round}: used ring written after GET_VRING_BASE");
        assert_eq!(p.rx.take_calls() + p.tx.take_calls(), 0, "round {round}: called afterwards");
        assert_eq!(bases[0], u32::from(p.rx.used_idx()), "round {round}: base of the receive ring");
        vmm.cont_like_qemu72(&o, &mut driver);
    }
    drop(flood);
    rig.wire.clear();
    while driver.recv(0, SILENCE).is_some() {}
    rig.both_ways(&mut driver, 0);
}

/// Frames for port 0 from the LAN, without end, until dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(rig: &Rig) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let wire = open_wire(&rig.world);
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                for _ in 0..8 {
                    wire.try_send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 200));
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Flood { stop, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

// --- memory ---

fn on_memory(ports: PortType, memory: &Memory) {
    let rig = Rig::new(ports);
    for mem_slots in [true, false] {
        let mut vmm = rig.connect(0).with_memory(memory);
        let mut driver = vmm.start_like_qemu72(&QemuOptions { mem_slots, ..Default::default() });
        driver.post_rx(0, 64, 2048);
        rig.link_up(&mut driver, 0);
        rig.both_ways(&mut driver, 0);
    }
}

fn memory_in_one_memfd(ports: PortType) {
    on_memory(ports, &Memory::single(&Backing::Memfd, 64 << 20));
}

fn memory_in_a_plain_file(ports: PortType) {
    on_memory(ports, &Memory::single(&Backing::File(PathBuf::from("/var/tmp")), 64 << 20));
}

fn memory_on_huge_pages(ports: PortType) {
    let _pages = HugePages::reserve(16);
    on_memory(ports, &Memory::single(&Backing::Huge, 16 * HUGE));
}

fn memory_in_eight_regions(ports: PortType) {
    let memory = Memory::empty();
    for i in 0..8 {
        memory.add(&Backing::Memfd, i << 32, if i == 0 { 32 << 10 } else { 1 << 20 });
    }
    on_memory(ports, &memory);
}

/// Two regions that touch in guest addresses lie anywhere in ours: a buffer across the border is
/// two pieces.
fn buffer_across_two_regions(ports: PortType) {
    let rig = Rig::new(ports);
    let memory = Memory::single(&Backing::Memfd, 16 << 20);
    memory.add(&Backing::Memfd, 16 << 20, 4 << 20);
    let border: u64 = 16 << 20;
    let mut vmm = rig.connect(0).with_memory(&memory);
    let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
    driver.post_rx(0, 32, 2048);
    rig.link_up(&mut driver, 0);
    driver.refill = false;
    rig.use_up_rx(&mut driver, 0);
    // The border falls before, into, right after the header, and into the data.
    for before in [1, 6, 11, 12, 13, 26, 500, 1500] {
        let tag = fresh_tag();
        let frame = frames::tagged(LAN_MAC, MACS[0], tag, 1514);
        driver.send_from(0, border - before, &frame);
        let got = rig.wire.recv_tag(tag, ARRIVAL);
        assert_eq!(got, Some(frame), "sent, {before} bytes before the border");
        assert!(driver.drain_tx(0, ARRIVAL));
        driver.post_rx_at(0, border - before, 1600);
        rig.frame_in(&mut driver, 0, 1514);
    }
}

fn memory_plugged_in_and_out(ports: PortType) {
    let mut rig = Rig::new(ports);
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    needs(&vmm, proto::CONFIGURE_MEM_SLOTS | proto::REPLY_ACK);
    driver.refill = false;
    for round in 0..3 {
        let region = vmm.memory.add(&Backing::Memfd, 1 << 32, 8 << 20);
        assert_eq!(vmm.add_mem_reg(&region), 0, "round {round}");
        rig.use_up_rx(&mut driver, 0);
        driver.post_rx_at(0, region.gpa + 0x1000, 1999);
        rig.frame_in(&mut driver, 0, 1514);
        let frame = frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 1000);
        driver.send_from(0, region.gpa + 0x8_0000, &frame);
        let got = rig.wire.recv_tag(frames::tag_of(&frame).unwrap(), ARRIVAL);
        assert_eq!(got, Some(frame), "sent from the new region");
        assert!(driver.drain_tx(0, ARRIVAL));

        assert_eq!(vmm.rem_mem_reg(&region), 0, "round {round}");
        vmm.memory.remove(region.gpa);
        driver.post_rx(0, 8, 2048);
        rig.frame_in(&mut driver, 0, 60);
    }
    let never = Memory::empty().add(&Backing::Memfd, 1 << 33, 1 << 20);
    assert_ne!(vmm.rem_mem_reg(&never), 0, "a region that was never added was removed");
    rig.frame_out(&mut driver, 0, 0, 60);
}
