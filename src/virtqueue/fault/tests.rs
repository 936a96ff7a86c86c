//! The SIGBUS handler and its table.

use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A shared mapping of a file of that length.
fn mapped(len: usize) -> (std::fs::File, *mut u8) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len as u64).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let (null, fd) = (std::ptr::null_mut(), file.as_raw_fd());
    // SAFETY: a fresh mapping of our own file.
    let host = unsafe { libc::mmap(null, len, protection, libc::MAP_SHARED, fd, 0) };
    assert_ne!(host, libc::MAP_FAILED);
    (file, host.cast())
}

#[test]
fn truncated_memory_reads_as_zeros_and_is_marked() {
    install().unwrap();
    let len = 4 * 4096;
    let (file, host) = mapped(len);
    // SAFETY: the whole mapping; it is unmapped below, after the watch.
    let watch = unsafe { Watch::new(host, len, 4096) };
    // SAFETY: inside the mapping.
    unsafe { host.add(5000).write_volatile(7) };
    file.set_len(0).unwrap();
    assert!(!watch.lost());
    // SAFETY: inside the mapping, whose file was shortened: the handler makes this 0.
    assert_eq!(unsafe { host.add(5000).read_volatile() }, 0);
    assert!(watch.lost());
    drop(watch);
    // SAFETY: our mapping, by now anonymous.
    unsafe { libc::munmap(host.cast(), len) };
}

/// Seen before: beyond 4096 regions memory was used unwatched, and the next truncation ended the
/// process.
#[test]
fn bug_f6_every_mapping_is_watched_however_many_there_are() {
    install().unwrap();
    let maps: Vec<_> = (0..5 * BLOCK)
        .map(|_| {
            let (file, host) = mapped(4096);
            // SAFETY: the whole mapping; it is unmapped below, after the watch.
            (file, host, unsafe { Watch::new(host, 4096, 4096) })
        })
        .collect();
    for (file, host, watch) in maps {
        file.set_len(0).unwrap();
        // SAFETY: inside the mapping.
        assert_eq!(unsafe { host.read_volatile() }, 0);
        assert!(watch.lost());
        drop(watch);
        // SAFETY: our mapping.
        unsafe { libc::munmap(host.cast(), 4096) };
    }
}

/// Seen before (read only): the handler loaded the end of one mapping and the start of the next one
/// in a slot that was used again, and would have covered all that lies between. Here ranges follow
/// each other in one slot as fast as they can, each with `end` and `page` derived from `start`.
#[test]
fn bug_f18_a_range_is_never_read_torn() {
    static SLOT: WatchSlot = WatchSlot::free();
    static SEEN: AtomicU64 = AtomicU64::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    let range = |start: usize| Range { start, end: start.rotate_left(7), page: !start };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !OVER.load(Ordering::Relaxed) {
                    if let Some(seen) = SLOT.get() {
                        assert_eq!(seen, range(seen.start));
                        SEEN.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(10);
        let (mut start, mut rounds) = (1usize, 0u64);
        while (SEEN.load(Ordering::Relaxed) < 100_000 || rounds < 1_000_000)
            && Instant::now() < until
        {
            start = start.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            SLOT.set(range(start));
            // A free slot holds no mapping, whichever numbers are in it.
            SLOT.clear();
            assert_eq!(SLOT.get(), None);
            SLOT.set(range(start));
            std::hint::spin_loop();
            SLOT.clear();
            rounds += 1;
        }
        OVER.store(true, Ordering::Relaxed);
    });
    assert!(SEEN.load(Ordering::Relaxed) > 0, "nothing was read in all that time");
}

proptest! {
    /// Each range that the kernel may take is whole pages of this mapping, with the address among
    /// them.
    #[test]
    fn attempts_shrink_to_the_page_and_stay_inside(
        pages in 1usize..10_000, shift in 12u32..31, at in any::<prop::sample::Index>(),
    ) {
        let page = 1 << shift;
        let start = 64usize << 30;
        let range = Range { start, end: start + pages * page, page };
        let address = start + at.index(pages * page);
        let attempts: Vec<_> = range.attempts(address).collect();
        prop_assert_eq!(attempts[0], (range.start, range.end));
        for &(from, to) in &attempts {
            prop_assert!(from <= address && address < to && to <= range.end && from >= start);
            prop_assert!((from - start).is_multiple_of(page) && (to - from).is_multiple_of(page));
        }
        let (from, to) = attempts[attempts.len() - 1];
        prop_assert_eq!(to - from, page);
        prop_assert!(attempts.len() <= 16);
    }
}
