//! Guests and VMMs that mean harm, or are merely broken; named after the bugs that other back-ends
//! had.
//!
//! One process carries the network of many guests. So each test asks the same questions after a
//! deed of port 0. Does the process live? Does port 1's traffic still flow? If the guest did it,
//! does port 0's own ring go on with the next good frame? A refused message may end its connection
//! or be answered with an error; a broken chain comes back with length 0 and is counted; a ring
//! whose indices make no sense stops. The back-end must believe nothing, leak nothing, and never
//! hang.
//!
//! What can go wrong with the tests: a case that is refused for another reason than the one meant
//! proves nothing. Therefore every abuse starts from a guest that works, and differs from good
//! behaviour in one thing.
//!
//! Specification: virtio 1.2, 2.7.4 to 2.7.8 (descriptors, available ring), 5.1.6.2 (frames);
//! vhost-user, "Message specification". Numbers of CVEs at the tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::driver::*;
use testkit::frames;
use testkit::memory::{Backing, Memory, make_file};
use testkit::rig::*;
use testkit::vmm::*;

testkit::for_each_port_type! {
    memory_that_is_none,
    memory_truncated_while_in_use,
    ring_sizes_that_are_none,
    ring_size_three_never_runs,
    ring_index_out_of_range,
    ring_addresses_outside_the_memory,
    features_that_were_not_offered,
    messages_out_of_shape,
    message_in_single_bytes_is_understood,
    cve_2019_14818_unwanted_descriptors_are_closed,
    broken_transmit_chains,
    broken_indirect_tables,
    odd_but_legal_chains,
    broken_receive_buffers,
    merged_frame_runs_out_of_buffers,
    available_ring_out_of_its_mind,
    gso_header_sweep,
    cve_2024_11614_checksum_place_sweep,
    cve_2024_41090_short_frames_are_never_written,
    spoofed_source_is_dropped_and_counted,
    cve_2020_16843_rx_resumes,
}

/// A working guest on port 0 does something; afterwards all other guests are well and port 0 serves
/// a new guest.
fn abuse(ports: PortType, deed: impl FnOnce(&mut Rig, &mut Vmm, &mut Driver)) {
    let mut rig = Rig::new(ports);
    rig.bystander();
    let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
    deed(&mut rig, &mut vmm, &mut driver);
    drop((vmm, driver));
    rig.unharmed();
    rig.guest(&QemuOptions::default());
    rig.unharmed();
}

/// The message must not be accepted: an error in the reply, or the end of the connection (true).
fn refused(vmm: &mut Vmm, what: &str, r: u32, payload: &[u8], fds: &[RawFd]) -> bool {
    if vmm.try_send(r, NEED_REPLY, payload, fds).is_err() {
        return true;
    }
    match vmm.try_reply() {
        Ok(m) if m.request == req::GET_VRING_BASE => panic!("{what}: answered"),
        Ok(m) => {
            assert_ne!(m.u64(), 0, "{what}: accepted");
            false
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => panic!("{what}: no answer at all"),
        Err(_) => true,
    }
}

/// Many messages, each on a connection that has not been closed for the one before.
fn all_refused(ports: PortType, cases: &[(String, u32, Vec<u8>, Vec<RawFd>)]) {
    let mut rig = Rig::new(ports);
    rig.bystander();
    let mut guest = Some(rig.guest(&QemuOptions::default()));
    for (what, r, payload, fds) in cases {
        let (mut vmm, driver) = guest.take().unwrap_or_else(|| rig.guest(&QemuOptions::default()));
        if !refused(&mut vmm, what, *r, payload, fds) {
            guest = Some((vmm, driver));
        }
        assert!(rig.backend.alive(), "{what}: the back-end died");
    }
    drop(guest);
    rig.unharmed();
    rig.guest(&QemuOptions::default());
}

// --- the VMM: memory ---

fn region(gpa: u64, size: u64, user: u64, offset: u64) -> Vec<u8> {
    [gpa, size, user, offset].iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn add(region: Vec<u8>) -> Vec<u8> {
    [vec![0; 8], region].concat()
}

fn table(region: Vec<u8>) -> Vec<u8> {
    [pair_of(1, 0), region].concat()
}

fn memory_that_is_none(ports: PortType) {
    const GPA: u64 = 1 << 40;
    const USER: u64 = 0x7000_0000_0000;
    let small = make_file(&Backing::Memfd, 1 << 20);
    let (pipe, _writer) = io::pipe().expect("a pipe");
    let directory = File::open("/").expect("a directory");
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let fd = small.as_raw_fd();
    let meg = 1 << 20;
    let kinds = [
        ("no descriptor", region(GPA, meg, USER, 0), None),
        ("file shorter than the region", region(GPA, 64 * meg, USER, 0), Some(fd)),
        ("offset behind the end of the file", region(GPA, meg, USER, meg), Some(fd)),
        ("offset and size overflow", region(GPA, meg, USER, u64::MAX - 4095), Some(fd)),
        ("a pipe", region(GPA, meg, USER, 0), Some(pipe.as_raw_fd())),
        ("a directory", region(GPA, meg, USER, 0), Some(directory.as_raw_fd())),
        ("/dev/null", region(GPA, meg, USER, 0), Some(null.as_raw_fd())),
        ("no size", region(GPA, 0, USER, 0), Some(fd)),
        ("guest addresses that wrap", region(u64::MAX - 4095, meg, USER, 0), Some(fd)),
        ("user addresses that wrap", region(GPA, meg, u64::MAX - 4095, 0), Some(fd)),
        ("all ones", region(u64::MAX, u64::MAX, u64::MAX, u64::MAX), Some(fd)),
    ];
    let mut cases = Vec::new();
    for (what, r, fd) in kinds {
        let fds: Vec<RawFd> = fd.into_iter().collect();
        cases.push((format!("ADD_MEM_REG, {what}"), req::ADD_MEM_REG, add(r.clone()), fds.clone()));
        cases.push((format!("SET_MEM_TABLE, {what}"), req::SET_MEM_TABLE, table(r), fds));
    }
    let many = [pair_of(9, 0), region(GPA, meg, USER, 0)].concat();
    cases.push(("9 regions announced, 1 sent".into(), req::SET_MEM_TABLE, many, vec![fd]));
    let many = [pair_of(u32::MAX, 0), region(GPA, meg, USER, 0)].concat();
    cases.push(("2^32-1 regions announced".into(), req::SET_MEM_TABLE, many, vec![fd]));
    all_refused(ports, &cases);
}

/// The VMM (or its owner) shortens the file under a running guest: touching it raises SIGBUS in the
/// back-end.
fn memory_truncated_while_in_use(ports: PortType) {
    abuse(ports, |rig, vmm, driver| {
        let frame = frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60);
        let tx = &mut driver.pairs[0].tx;
        let at = driver.mem.alloc(4096);
        driver.mem.write(at + 12, &frame);
        tx.add(&[Desc::read(at, 12 + frame.len() as u32)]);
        // From here on neither side may touch it; the kick alone makes the back-end look.
        vmm.memory.regions()[0].file.set_len(0).expect("truncate the guest's memory");
        tx.kick();
        rig.wire.send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 60));
        std::thread::sleep(SILENCE);
        rig.unharmed();
    });
}

// --- the VMM: rings ---

fn ring_sizes_that_are_none(ports: PortType) {
    let num = |n: u32| (format!("ring size {n}"), req::SET_VRING_NUM, pair_of(0, n), vec![]);
    all_refused(
        ports,
        &[num(0), num(2048), num(32768), num(65536), num(65536 + 256), num(u32::MAX)],
    );
}

/// Some layers only log a size that is no power of two; then at least the ring must stay dead.
fn ring_size_three_never_runs(ports: PortType) {
    let mut rig = Rig::new(ports);
    rig.bystander();
    let o = QemuOptions { guest: Guest { tx_ring: 3, ..Guest::default() }, ..Default::default() };
    let mut vmm = rig.connect(0).with_memory(&Memory::like_qemu(64 << 20));
    vmm.offered = vmm.get_features();
    let features = vmm.offered & (o.guest.features | F_PROTOCOL);
    vmm.set_owner();
    let bits = vmm.get_protocol_features() & proto::REPLY_ACK;
    vmm.set_protocol_features(bits);
    vmm.set_features(features);
    vmm.set_mem_table();
    let mut driver = Driver::new(&vmm.memory, features, 1, 256, 3);
    let tx = &driver.pairs[0].tx;
    if !refused_or_ignored(&mut vmm, req::SET_VRING_NUM, &pair_of(1, 3)) {
        vmm.set_vring_base(1, 0);
        vmm.set_vring_addr(tx);
        vmm.set_vring_kick(tx);
        vmm.set_vring_call(tx);
        vmm.set_vring_enable(1, true);
        driver.send(0, &[frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60)]);
        std::thread::sleep(SILENCE);
        assert_eq!(driver.pairs[0].tx.used_idx(), 0, "a ring of 3 entries is being served");
    }
    drop(vmm);
    rig.unharmed();
    rig.guest(&QemuOptions::default());
}

/// True: refused. False: accepted without an error.
fn refused_or_ignored(vmm: &mut Vmm, r: u32, payload: &[u8]) -> bool {
    vmm.try_send(r, NEED_REPLY, payload, &[]).is_err()
        || vmm.try_reply().map_or(true, |m| m.u64() != 0)
}

/// CVE-2020-10723: an index cut to 16 bits names another ring.
fn ring_index_out_of_range(ports: PortType) {
    let mut cases = Vec::new();
    for index in [4, 5, 64, 255, 256, 0x1_0000, 0x1_0001, 0x8000_0000, u32::MAX] {
        let bad =
            |r: u32, payload: Vec<u8>| (format!("request {r}, ring {index}"), r, payload, vec![]);
        cases.push(bad(req::SET_VRING_NUM, pair_of(index, 256)));
        cases.push(bad(req::SET_VRING_BASE, pair_of(index, 0)));
        cases.push(bad(req::SET_VRING_ENABLE, pair_of(index, 1)));
        cases.push(bad(req::SET_VRING_ADDR, vring_addr(index, 0x1000, 0x2000, 0x3000)));
        cases.push(bad(req::GET_VRING_BASE, pair_of(index, 0)));
    }
    for index in [4u64, 255] {
        for r in [req::SET_VRING_KICK, req::SET_VRING_CALL, req::SET_VRING_ERR] {
            let no_fd = (index | 1 << 8).to_le_bytes().to_vec();
            cases.push((format!("request {r}, ring {index}"), r, no_fd, vec![]));
        }
    }
    all_refused(ports, &cases);
}

fn ring_addresses_outside_the_memory(ports: PortType) {
    let bad = |what: &str, d, u, a| {
        (what.to_owned(), req::SET_VRING_ADDR, vring_addr(0, d, u, a), vec![])
    };
    all_refused(
        ports,
        &[
            bad("addresses 0", 0, 0, 0),
            bad("far away", 1 << 62, (1 << 62) + 4096, (1 << 62) + 8192),
            bad("end of the address space", u64::MAX - 15, u64::MAX - 3, u64::MAX - 1),
        ],
    );
}

fn features_that_were_not_offered(ports: PortType) {
    let all = u64::MAX.to_le_bytes().to_vec();
    all_refused(ports, &[("every virtio feature".into(), req::SET_FEATURES, all, vec![])]);
}

// --- the VMM: framing ---

/// Sends bytes on a fresh connection, and no more; the back-end may answer in any way that does no
/// harm.
fn framing(socket: &Path, bytes: &[u8]) {
    let mut vmm = Vmm::connect(socket);
    let _ = vmm.send_raw(bytes, &[]);
    vmm.shut_down();
    vmm.expect_closed();
}

fn messages_out_of_shape(ports: PortType) {
    // Connections are taken slowly where one follows the other: so they go to many ports in turn.
    let dir = tempfile::tempdir().unwrap();
    let sockets: Vec<_> = (0..12).map(|n| dir.path().join(format!("{n}.sock"))).collect();
    let more: Vec<String> = sockets
        .iter()
        .enumerate()
        .map(|(n, path)| format!("--port=socket={},parent=eth0,name=f{n}", path.display()))
        .collect();
    let mut rig = Rig::with(ports, &more.iter().map(String::as_str).collect::<Vec<_>>());
    rig.bystander();
    let mut next = sockets.iter().cycle();
    let mut framing = |bytes: &[u8]| framing(next.next().unwrap(), bytes);
    let header = |r: u32, flags: u32, size: u32| [r, flags, size].map(u32::to_le_bytes).concat();
    for size in [1, 7, 9, 4096, 4097, 65536, 1 << 20, 1 << 31, u32::MAX] {
        framing(&header(req::SET_FEATURES, VERSION, size));
        framing(&[header(req::GET_FEATURES, VERSION, size), vec![0xa5; 8192]].concat());
        framing(&[header(req::SET_MEM_TABLE, VERSION, size), vec![0xff; 8192]].concat());
    }
    for flags in [0, 2, 3, VERSION | REPLY, u32::MAX, 0xffff_fff1] {
        framing(&header(req::GET_FEATURES, flags, 0));
    }
    for garbage in
        [&[0u8; 12][..], &[0xff; 12], &[0x41; 4096], b"GET / HTTP/1.1\r\n\r\n", &[1], &[]]
    {
        framing(garbage);
    }
    assert!(rig.backend.alive());
    for request in 0..64 {
        framing(&message(request, VERSION | NEED_REPLY, &[0xff; 64]));
        framing(&message(request, VERSION | NEED_REPLY, &[]));
    }
    rig.unharmed();
    rig.guest(&QemuOptions::default());
}

/// A stream socket may deliver a message in any pieces.
fn message_in_single_bytes_is_understood(ports: PortType) {
    let rig = Rig::new(ports);
    let mut vmm = rig.connect(0);
    for byte in message(req::GET_FEATURES, VERSION, &[]) {
        vmm.send_raw(&[byte], &[]).expect("the connection stays");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(vmm.reply(req::GET_FEATURES).len(), 8);
}

/// CVE-2019-14818: descriptors sent along with a message that takes none were never closed.
fn cve_2019_14818_unwanted_descriptors_are_closed(ports: PortType) {
    let mut rig = Rig::new(ports);
    rig.bystander();
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_raw_fd(); 16];
    let mut vmm = rig.connect(0);
    let mut before = 0;
    for i in 0..1000 {
        if i == 10 {
            before = rig.backend.fds().len();
        }
        let r = [req::GET_FEATURES, req::SET_OWNER, req::SET_VRING_NUM, 77][i % 4];
        let payload = if r == req::SET_VRING_NUM { pair_of(0, 256) } else { vec![] };
        let sent = vmm.try_send(r, 0, &payload, &fds[..1 + i % 16]).is_ok();
        let alive = sent && vmm.try_send(req::GET_FEATURES, 0, &[], &[]).is_ok();
        // After any answer to the first, the second is answered or the connection has ended.
        let last = if r == req::GET_FEATURES { 2 } else { 1 };
        if !(alive && (0..last).all(|_| vmm.try_reply().is_ok())) {
            vmm = rig.connect(0);
        }
    }
    drop(vmm);
    let deadline = Instant::now() + 2 * SECOND;
    while rig.backend.fds().len() > before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let after = rig.backend.fds().len();
    assert!(after <= before, "descriptors grew from {before} to {after}");
    rig.unharmed();
}

// --- the guest: chains ---

/// Puts one chain into the transmit ring and checks the result: it must come back with length 0,
/// its content must not reach the LAN, and the next good frame must.
fn broken_chain(
    rig: &Rig,
    driver: &mut Driver,
    what: &str,
    chain: impl FnOnce(&mut Driver, u64, u32) -> u16,
) {
    eprintln!("chain: {what}");
    let tag = fresh_tag();
    let data = [&[0u8; 12][..], &frames::tagged(LAN_MAC, MACS[0], tag, 100)].concat();
    let at = driver.mem.alloc(4096);
    driver.mem.write(at, &data);
    let head = chain(driver, at, data.len() as u32);
    let tx = &mut driver.pairs[0].tx;
    tx.publish();
    assert_eq!(tx.wait_returned(head, ARRIVAL), Some(0), "{what}: not given back");
    assert_eq!(rig.wire.recv_tag(tag, SILENCE), None, "{what}: it reached the LAN");
    rig.frame_out(driver, 0, 0, 60);
    assert!(driver.drain_tx(0, ARRIVAL), "{what}: the good frame after it is stuck");
}

const NOWHERE: u64 = 0x7f00_0000_0000;

fn broken_transmit_chains(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        assert!(driver.drain_tx(0, ARRIVAL));
        let drops = rig.drops(0);
        let mut count = 0;
        let mut case = |what: &str, chain: &dyn Fn(&mut Queue, u64, u32) -> u16| {
            broken_chain(rig, driver, what, |d, at, len| chain(&mut d.pairs[0].tx, at, len));
            count += 1;
        };
        case("loop of one", &|q, at, len| {
            let head = q.next_head();
            q.add(&[Desc { addr: at, len, flags: D_NEXT, next: Some(head) }])
        });
        case("loop of two", &|q, at, len| {
            let head = q.next_head();
            q.add(&[Desc::read(at, 12), Desc { addr: at, len, flags: D_NEXT, next: Some(head) }])
        });
        case("next is outside the table", &|q, at, len| {
            q.add(&[Desc { addr: at, len, flags: D_NEXT, next: Some(256) }])
        });
        case("next is 65535", &|q, at, len| {
            q.add(&[Desc { addr: at, len, flags: D_NEXT, next: Some(65535) }])
        });
        case("address nowhere", &|q, _, len| q.add(&[Desc::read(NOWHERE, len)]));
        case("data nowhere", &|q, at, _| q.add(&[Desc::read(at, 12), Desc::read(NOWHERE, 100)]));
        case("address and length wrap", &|q, _, len| q.add(&[Desc::read(u64::MAX - 10, len)]));
        case("runs past the end of the memory", &|q, _, _| {
            q.add(&[Desc::read((64 << 20) - 50, 100)])
        });
        case("runs into the hole", &|q, _, _| q.add(&[Desc::read(0xa_0000 - 50, 100)]));
        case("4 GiB long", &|q, at, _| q.add(&[Desc::read(at, u32::MAX)]));
        case("writable", &|q, at, len| q.add(&[Desc::write(at, len)]));
        case("writable after readable", &|q, at, len| {
            q.add(&[Desc::read(at, 12), Desc::write(at + 12, len - 12)])
        });
        for n in [0, 1, 11, 12] {
            case(&format!("{n} bytes: no frame behind the header"), &|q, at, _| {
                q.add(&[Desc::read(at, n)])
            });
        }
        case("nothing but empty descriptors", &|q, at, _| q.add(&[Desc::read(at, 0); 20]));
        case("empty descriptor with an address nowhere", &|q, _, _| {
            q.add(&[Desc::read(NOWHERE, 0)])
        });
        case("more than 64 KiB", &|q, _, _| q.add(&[Desc::read(0x10_0000, 2 << 20)]));
        let dropped = rig.drops(0) - drops;
        assert!(dropped >= count, "{count} broken chains, only {dropped} counted");
    });
}

fn broken_indirect_tables(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        assert!(driver.drain_tx(0, ARRIVAL));
        let table = driver.mem.alloc(65536);
        let direct = |flags, addr, len| Desc { addr, len, flags, next: None };
        let mut case = |what: &str, entry: Desc, inner: &dyn Fn(u64, u32) -> Vec<Desc>| {
            broken_chain(rig, driver, what, |d, at, len| {
                for (i, e) in inner(at, len).iter().enumerate() {
                    d.mem.write(table + 16 * i as u64, &e.bytes());
                }
                d.pairs[0].tx.add(&[entry])
            });
        };
        let good = |at, len| vec![Desc::read(at, len)];
        case("empty table", direct(D_INDIRECT, table, 0), &good);
        case("table of 15 bytes", direct(D_INDIRECT, table, 15), &good);
        case("table of 17 bytes", direct(D_INDIRECT, table, 17), &good);
        case("table nowhere", direct(D_INDIRECT, NOWHERE, 16), &good);
        case("table of 4 GiB", direct(D_INDIRECT, table, 0xffff_fff0), &|at, len| {
            vec![Desc { addr: at, len, flags: D_NEXT, next: Some(65535) }]
        });
        case("nested", direct(D_INDIRECT, table, 32), &|at, len| {
            vec![direct(D_INDIRECT, table + 16, 16), Desc::read(at, len)]
        });
        case("loop inside", direct(D_INDIRECT, table, 16), &|at, len| {
            vec![Desc { addr: at, len, flags: D_NEXT, next: Some(0) }]
        });
        case("next outside the table", direct(D_INDIRECT, table, 16), &|at, len| {
            vec![Desc { addr: at, len, flags: D_NEXT, next: Some(1) }]
        });
        case("data nowhere", direct(D_INDIRECT, table, 16), &|_, len| {
            vec![Desc::read(NOWHERE, len)]
        });
    });
}

/// Odd but legal: these must arrive.
fn odd_but_legal_chains(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        let mut pass = |what: &str, cuts: &[u32]| {
            let tag = fresh_tag();
            let frame = frames::tagged(LAN_MAC, MACS[0], tag, 100);
            let at = driver.mem.alloc(4096);
            driver.mem.write(at, &[&[0u8; 12][..], &frame].concat());
            let mut from = at;
            let chain: Vec<Desc> = cuts
                .iter()
                .map(|&len| {
                    from += u64::from(len);
                    Desc::read(from - u64::from(len), len)
                })
                .collect();
            assert_eq!(from - at, 112, "{what}: the test's own arithmetic");
            let head = driver.pairs[0].tx.add(&chain);
            driver.pairs[0].tx.publish();
            assert_eq!(rig.wire.recv_tag(tag, ARRIVAL), Some(frame), "{what}");
            assert_eq!(driver.pairs[0].tx.wait_returned(head, ARRIVAL), Some(0), "{what}");
        };
        pass("plain", &[112]);
        pass("header in 12 pieces of a byte", &[&[1; 12][..], &[100]].concat());
        pass("header with the frame's first bytes", &[13, 99]);
        pass("header in two", &[5, 107]);
        pass("every byte alone", &[1; 112]);
    });
}

fn broken_receive_buffers(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        driver.allow_empty = true;
        driver.refill = false;
        rig.use_up_rx(driver, 0);
        let at = driver.mem.alloc(4096);
        let cases: [(&str, &[Desc]); 7] = [
            ("read-only", &[Desc::read(at, 2048)]),
            ("writable header, read-only data", &[Desc::write(at, 12), Desc::read(at, 2000)]),
            ("nowhere", &[Desc::write(NOWHERE, 2048)]),
            ("no room for the header", &[Desc::write(at, 11)]),
            ("empty", &[Desc::write(at, 0)]),
            ("wraps", &[Desc::write(u64::MAX - 100, 2048)]),
            ("loop", &[Desc { addr: at, len: 6, flags: D_WRITE | D_NEXT, next: Some(0) }]),
        ];
        for (what, chain) in cases {
            eprintln!("receive buffer: {what}");
            driver.mem.write(at, &[0x77; 2048]);
            let mut chain = chain.to_vec();
            for d in chain.iter_mut().filter(|d| d.next.is_some()) {
                d.next = Some(driver.pairs[0].rx.next_head());
            }
            driver.pairs[0].rx.add(&chain);
            driver.post_rx(0, 4, 2048);
            rig.frame_in(driver, 0, 60);
            if chain.iter().all(|d| d.flags & D_WRITE == 0) {
                assert_eq!(driver.mem.read(at, 2048), [0x77; 2048], "{what}: it was written to");
            }
            rig.use_up_rx(driver, 0);
        }
    });
}

/// Frames that need more merged buffers than are there: taken back, kept or dropped, but never
/// half-given.
fn merged_frame_runs_out_of_buffers(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        driver.refill = false;
        rig.use_up_rx(driver, 0);
        for room in 1..7 {
            driver.post_rx(0, room, 200);
            rig.wire.send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 1400));
            let come = driver.recv(0, SILENCE);
            assert!(come.is_none(), "1400 bytes do not fit into {room} x 200");
            driver.post_rx(0, 8, 200);
            // Kept until now, or dropped: both are right. Then one small frame per buffer that is
            // left.
            driver.recv(0, SILENCE);
            rig.use_up_rx(driver, 0);
        }
        driver.post_rx(0, 64, 2048);
        rig.both_ways(driver, 0);
    });
}

fn available_ring_out_of_its_mind(ports: PortType) {
    for (what, jump) in [("one ring too far", 257), ("32768 ahead", 0x8000), ("backwards", 0xfff0)]
    {
        abuse(ports, |rig, _vmm, driver| {
            eprintln!("available index: {what}");
            assert!(driver.drain_tx(0, ARRIVAL));
            let tx = &mut driver.pairs[0].tx;
            let used = tx.used_idx();
            tx.set_avail_idx(tx.avail_idx().wrapping_add(jump));
            tx.kick();
            std::thread::sleep(SILENCE);
            assert_eq!(tx.used_idx(), used, "{what}: the ring went on");
            rig.unharmed();
        });
    }
    abuse(ports, |rig, _vmm, driver| {
        assert!(driver.drain_tx(0, ARRIVAL));
        let tx = &mut driver.pairs[0].tx;
        for (i, head) in [256u16, 1000, 65535].into_iter().enumerate() {
            let idx = tx.avail_idx();
            tx.set_avail_entry(idx, head);
            tx.set_avail_idx(idx.wrapping_add(1));
            tx.kick();
            std::thread::sleep(SILENCE);
            assert!(rig.backend.alive(), "head {head} (case {i}) killed the back-end");
        }
        rig.unharmed();
    });
}

// --- the guest: frames ---

/// Every header, however absurd, gives its buffer back; the LAN may or may not see a frame.
fn headers(rig: &mut Rig, driver: &mut Driver, all: impl Iterator<Item = (VnetHdr, usize)>) {
    let (a, b) = ends();
    for (i, (hdr, len)) in all.enumerate() {
        let mut frame = frames::udp4(a, b, &vec![0x5a; len.saturating_sub(42)]);
        frame.truncate(len);
        driver.send_with(0, &hdr, &frame);
        if i % 64 == 0 {
            assert!(driver.drain_tx(0, 2 * SECOND), "stuck at {hdr:?}, {len} bytes");
            rig.wire.clear();
        }
    }
    assert!(driver.drain_tx(0, 2 * SECOND), "stuck after the last header");
    rig.wire.clear();
    rig.frame_out(driver, 0, 0, 60);
    rig.unharmed();
}

fn ends() -> (frames::End, frames::End) {
    (
        frames::End { mac: MACS[0], ip: [10, 9, 0, 1], port: 1111 },
        frames::End { mac: LAN_MAC, ip: [10, 9, 0, 9], port: 2222 },
    )
}

/// gso_size 0 divides by zero in naive code; unknown types must not reach the kernel as something
/// else.
fn gso_header_sweep(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        let all = (0..=255u8).flat_map(|gso_type| {
            [0, 1, 65535].into_iter().flat_map(move |gso_size| {
                [0, 54, 65535].into_iter().flat_map(move |hdr_len| {
                    [0, frames::NEEDS_CSUM].into_iter().map(move |flags| {
                        let place = if flags == 0 { (0, 0) } else { (34, 6) };
                        let hdr = VnetHdr {
                            flags,
                            gso_type,
                            hdr_len,
                            gso_size,
                            csum_start: place.0,
                            csum_offset: place.1,
                            num_buffers: 0,
                        };
                        (hdr, 1000)
                    })
                })
            })
        });
        headers(rig, driver, all);
    });
}

/// CVE-2024-11614: a checksum field outside the frame.
fn cve_2024_11614_checksum_place_sweep(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        let starts = (0..64).chain([99, 100, 101, 1512, 1513, 1514, 1515, 32767, 65534, 65535]);
        let all = starts.flat_map(|csum_start| {
            [0, 6, 16, 1480, 65535].into_iter().flat_map(move |csum_offset| {
                [14, 15, 60, 100, 1514].into_iter().map(move |len| {
                    let flags = frames::NEEDS_CSUM;
                    (VnetHdr { flags, csum_start, csum_offset, ..VnetHdr::default() }, len)
                })
            })
        });
        headers(rig, driver, all);
    });
}

/// CVE-2024-41090, CVE-2024-41091: a tap device that is given less than an Ethernet header.
fn cve_2024_41090_short_frames_are_never_written(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        assert!(driver.drain_tx(0, ARRIVAL));
        let before = rig.drops(0);
        rig.wire.clear();
        let whole = frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60);
        for len in 0..14 {
            driver.send(0, &[&whole[..len]]);
        }
        assert!(driver.drain_tx(0, ARRIVAL), "short frames are not given back");
        let of_ours = |f: &[u8]| f.len() >= 6 && f[..6] == LAN_MAC;
        assert_eq!(rig.wire.recv_where(SILENCE, of_ours), None, "a short frame got out, padded");
        assert!(rig.drops(0) >= before + 14, "short frames are not counted");
        rig.both_ways(driver, 0);
    });
}

fn spoofed_source_is_dropped_and_counted(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        let before = rig.drops(0);
        let others = [MACS[1], LAN_MAC, [2, 0, 0, 0, 0, 1], frames::BROADCAST, [0; 6]];
        for src in others {
            let tag = fresh_tag();
            driver.send(0, &[frames::tagged(frames::BROADCAST, src, tag, 60)]);
            assert_eq!(rig.wire.recv_tag(tag, SILENCE), None, "source {src:02x?} got out");
        }
        assert!(rig.drops(0) >= before + others.len() as u64, "spoofed frames are not counted");
        rig.both_ways(driver, 0);
    });
}

/// CVE-2020-16843 (Firecracker): tap queue full and ring empty at once, and reception never came
/// back.
fn cve_2020_16843_rx_resumes(ports: PortType) {
    abuse(ports, |rig, _vmm, driver| {
        driver.refill = false;
        rig.use_up_rx(driver, 0);
        for round in 0..5 {
            for _ in 0..3000 {
                rig.wire.send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 60));
            }
            // The queue of a device holds some hundred: one buffer at a time, each one filled
            // without delay. Our own switch holds none: there it is the next frame that fills it.
            for i in 0..100 {
                driver.post_rx(0, 1, 2048);
                if ports == Macvlan {
                    rig.wire.send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 60));
                }
                let came = driver.recv(0, Duration::from_millis(200));
                assert!(came.is_some(), "round {round}: nothing in 200 ms for buffer {i}");
            }
            driver.post_rx(0, 200, 2048);
            while driver.recv(0, SILENCE).is_some() {
                let missing = 200 - driver.pairs[0].rx.outstanding();
                driver.post_rx(0, missing, 2048);
            }
            rig.frame_in(driver, 0, 1514);
            rig.use_up_rx(driver, 0);
        }
    });
}
