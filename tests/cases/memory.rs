//! Guest memory that is too much, too many, or not what it seems.
//!
//! A front-end describes its guest's memory by numbers and descriptors, and the back-end maps it
//! accordingly. The address space, the number of mappings and the descriptors belong to the
//! process, and so to the neighbours too. So each test lets one port's front-end ask for more than
//! is right, in every way that the protocol has, beside a neighbour whose frames must all arrive.
//! Afterwards another front-end connects and works.
//!
//! What can go wrong with the tests: that a greedy front-end is refused proves nothing if a modest
//! one is, too. So a good region is taken at the same place.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

use testkit::blind::*;
use testkit::memory::{Backing, make_file};
use testkit::netns::wait_until;
use testkit::rig::*;
use testkit::vmm::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Port 0's front-end does something while port 1's guest talks; then port 0 serves a new guest and
/// port 1 a new front-end.
fn beside_a_talking_neighbour(rig: &mut Rig, deed: impl FnOnce(&Path) + Send) {
    rig.bystander();
    let socket = rig.socket(0);
    std::thread::scope(|scope| {
        let deed = scope.spawn(|| deed(&socket));
        while !deed.is_finished() {
            rig.unharmed();
        }
        if let Err(panic) = deed.join() {
            std::panic::resume_unwind(panic);
        }
    });
    rig.unharmed();
    rig.guest(&QemuOptions::default());
    rig.bystander_reconnects();
    rig.unharmed();
}

/// Huge pages of a size of which the pool has none.
fn huge(len: u64) -> File {
    let flags = MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_1GB;
    let file = File::from(memfd_create("guest-ram", flags).expect("huge pages of 1 GiB"));
    file.set_len(len).expect("size the guest memory file");
    file
}

fn lines(rig: &Rig, file: &str) -> usize {
    let path = format!("/proc/{}/{file}", rig.backend.pid());
    std::fs::read_to_string(path).expect("a file of /proc").lines().count()
}

/// 4097 regions were taken. Those past 4096 were not watched: a truncation ended the process.
#[test]
fn bug_s3_a_connection_has_32_regions_by_any_way() {
    let mut rig = Rig::new(Macvtap);
    beside_a_talking_neighbour(&mut rig, |socket| {
        let file = make_file(&Backing::Memfd, 8192 * 4096);
        let page = |index: u64| Numbers(index << 20, 4096, index * 4096);
        let table: Vec<_> = (0..33).map(page).collect();
        assert!(!Blind::connect(socket).sets(&table, &file));
        let mut front = Blind::connect(socket);
        assert_eq!(front.vmm.get_max_mem_slots(), 32);
        let taken = (0..4200).take_while(|&index| front.adds(page(index), &file)).count();
        assert_eq!(taken, 32);
        // Memory that is given back can be taken again, and no more.
        for index in 0..200 {
            assert!(front.removes(page(index)));
            assert!(front.adds(page(32 + index), &file), "after {index} times");
            assert!(!front.adds(page(8000), &file));
        }
        assert!(front.sets(&table[..8], &file));
        let more = (8..100).take_while(|&index| front.adds(page(index), &file)).count();
        assert_eq!(8 + more, 32);
        file.set_len(0).expect("truncate");
        front.start_rings(0);
        front.kick();
    });
}

/// A region is a part of a huge page, of which the pool had none: the handler could not cover it,
/// and the process ended. Whole pages were covered, and are.
#[test]
fn bug_s4_huge_pages_that_are_not_there_stop_their_own_port() {
    let mut rig = Rig::new(Macvtap);
    beside_a_talking_neighbour(&mut rig, |socket| {
        let file = huge(4 * GIB);
        for (size, offset) in [
            (4096, 0),
            (128 << 10, 0),
            (2 * MIB, 2 * MIB),
            (GIB, 4096),
            (GIB + 4096, 0),
            (4096, GIB - 4096),
            (2 * GIB, 512 * MIB),
        ] {
            let mut front = Blind::connect(socket);
            assert!(!front.adds(Numbers(0, size, offset), &file), "{size:#x} at {offset:#x}");
            front.start_rings(0);
            front.kick();
        }
        for (size, offset) in [(GIB, 0), (GIB, GIB), (3 * GIB, GIB)] {
            let mut front = Blind::connect(socket);
            assert!(front.adds(Numbers(0, size, offset), &file), "{size:#x} at {offset:#x}");
            front.start_rings(0);
            front.vmm.sync();
            front.kick();
            assert!(wait_until(ARRIVAL, || front.broken() > 0), "the rings run in no memory");
            front.stop_rings();
        }
    });
}

/// Mappings of a part of a huge page could not be removed. They piled up, the next thread could not
/// start, and its panic ended the process. 65466 were left after the front-end had gone.
#[test]
fn bug_f5_every_mapping_is_removed_with_its_connection() {
    let mut rig = Rig::new(Macvtap);
    rig.guest(&QemuOptions::default());
    let before = lines(&rig, "maps");
    beside_a_talking_neighbour(&mut rig, |socket| {
        let (plain, huge) = (make_file(&Backing::Memfd, MIB), huge(4 * GIB));
        for round in 0..14u64 {
            let mut front = Blind::connect(socket);
            for index in 0..8 {
                // Neighbours in the file: the kernel makes one mapping of several.
                front.adds(Numbers(index << 32, 128 << 10, index * (128 << 10)), &plain);
                let size = if round % 2 == 0 { GIB } else { 128 << 10 };
                front.adds(Numbers((64 + index) << 32, size, (index % 4) * GIB), &huge);
            }
        }
    });
    let after = lines(&rig, "maps");
    assert!(after < before + 60, "{before} mappings before, {after} after");
}

/// One front-end after the other mapped a sparse file of 16 TiB, in one region, in many, as tables
/// that replace each other, until the address space was used up. Then no front-end could connect:
/// "failed to start daemon".
fn address_space(rig: &mut Rig, most: u64) {
    beside_a_talking_neighbour(rig, move |socket| {
        let file = make_file(&Backing::Memfd, 160 * TIB);
        let piece = |index: u64| Numbers(index << 43, 4 * TIB, (index % 32) * 4 * TIB);
        let mut front = Blind::connect(socket);
        let taken = (0..32).take_while(|&index| front.adds(piece(index), &file)).count();
        assert!(taken as u64 <= most / (4 * TIB), "{taken} pieces of 4 TiB were taken");
        drop(front);
        let mut front = Blind::connect(socket);
        let smaller = |index: u64| Numbers(index << 40, 16 * GIB, index << 40);
        assert!(front.adds(smaller(0), &file), "16 GiB are refused");
        for round in 0..12 {
            // Without waiting for an answer, table after table.
            let table: Vec<_> = (0..8).map(|index| piece(index + round)).collect();
            if !front.give(&table[..1 + round as usize % 8], &file) {
                drop(front);
                front = Blind::connect(socket);
            }
        }
    });
}

#[test]
fn bug_s5_a_sparse_file_of_many_tib_is_refused_by_the_ports_limit() {
    let mut rig = Rig::new(Macvtap);
    address_space(&mut rig, 0);
    let log = rig.backend.log();
    assert!(log.contains("raise that (memory-limit=), or give the guest less"), "the key is named");
}

/// As above with a limit that a user has set far too high.
#[test]
fn bug_f7_without_a_limit_the_neighbours_keep_their_share_of_the_address_space() {
    let mut rig = Rig::with(Macvtap, &["--memory-limit=9000T"]);
    address_space(&mut rig, 100 * TIB);
    rig.backend.wait_for_log("the process has no address space left for it", SECOND);
}

/// A front-end that left right after a request took the reason of its refusal with it: the log said
/// only that it had disconnected.
#[test]
fn bug_the_reason_of_a_refusal_is_logged_although_the_front_end_left_at_once() {
    let mut rig = Rig::with(Macvtap, &["--memory-limit=9000T"]);
    beside_a_talking_neighbour(&mut rig, |socket| {
        let file = make_file(&Backing::Memfd, 160 * TIB);
        let pieces: Vec<_> =
            (0..8).map(|index| Numbers(index << 44, 8 * TIB, index * 8 * TIB)).collect();
        for _ in 0..3 {
            assert!(Blind::connect(socket).give(&pieces, &file));
        }
    });
    let refusals =
        || rig.backend.log().lines().filter(|line| line.contains("no address space left")).count();
    wait_until(SECOND, || refusals() == 3);
    assert_eq!(refusals(), 3, "{}", rig.backend.log());
}

/// The limit is the port's, in bytes, and holds for the sum of its regions.
#[test]
fn bug_s5_the_limit_is_kept_to_the_byte() {
    let mut rig = Rig::with(Macvtap, &["--memory-limit=64M"]);
    beside_a_talking_neighbour(&mut rig, |socket| {
        let file = make_file(&Backing::Memfd, 128 * MIB);
        let mut front = Blind::connect(socket);
        assert!(!front.adds(Numbers(0, 64 * MIB + 4096, 0), &file));
        assert!(front.adds(Numbers(0, 60 * MIB, 0), &file));
        assert!(!front.adds(Numbers(GIB, 4 * MIB + 4096, 60 * MIB), &file));
        assert!(front.adds(Numbers(GIB, 4 * MIB, 60 * MIB), &file));
        assert!(!front.adds(Numbers(2 * GIB, 4096, 0), &file));
        assert!(front.removes(Numbers(GIB, 4 * MIB, 60 * MIB)));
        assert!(front.adds(Numbers(2 * GIB, 4096, 0), &file));
        assert!(!front.sets(&[Numbers(0, 33 * MIB, 0), Numbers(GIB, 32 * MIB, 0)], &file));
        assert!(front.sets(&[Numbers(0, 32 * MIB, 0), Numbers(GIB, 32 * MIB, 0)], &file));
    });
}

/// Guest addresses could be anything: rings ran at odd addresses of ours, which is undefined
/// behaviour, and a signal without end on machines that check.
#[test]
fn bug_f20_memory_lies_at_whole_pages() {
    let mut rig = Rig::new(Macvtap);
    beside_a_talking_neighbour(&mut rig, |socket| {
        let file = make_file(&Backing::Memfd, 4 * MIB);
        write_rings(|at, bytes| file.write_all_at(bytes, at).unwrap(), 0, MACS[0]);
        for odd in [1, 2, 4, 8, 512, 2048, 4095] {
            for region in
                [Numbers(odd, MIB, 0), Numbers(0, MIB + odd, 0), Numbers(0, MIB, 4096 + odd)]
            {
                let mut front = Blind::connect(socket);
                assert!(!front.adds(region, &file), "{region:x?}");
                front.start_rings(0);
                front.kick();
            }
        }
        assert!(Blind::connect(socket).adds(Numbers(0, MIB, 4096), &file));
    });
}

/// /dev/zero was taken as memory, of any size.
#[test]
fn bug_f23_devices_are_no_memory() {
    let mut rig = Rig::new(Macvtap);
    beside_a_talking_neighbour(&mut rig, |socket| {
        for device in ["/dev/zero", "/dev/null", "/dev/full", "/dev/net/tun", "/dev/loop-control"] {
            let Ok(file) = OpenOptions::new().read(true).write(true).open(device) else { continue };
            let mut front = Blind::connect(socket);
            assert!(!front.adds(Numbers(0, MIB, 0), &file), "{device}");
            drop(front);
            assert!(!Blind::connect(socket).sets(&[Numbers(0, MIB, 0)], &file), "{device}");
        }
    });
    let log = rig.backend.log();
    assert!(log.contains("guest memory must be a memfd") && log.contains("libvirt: "), "told");
}
