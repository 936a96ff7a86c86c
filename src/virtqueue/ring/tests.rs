//! The ring against a driver's memory, without any thread or descriptor.

use super::*;
use proptest::prelude::*;
use testkit::ring::{Desc, Layout, RingMemory};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::virtqueue::chain::Chain;
use crate::virtqueue::guest_map::SharedMemory;
use crate::virtqueue::guest_slice::GuestSlice;
use crate::virtqueue::notification::passed;
use crate::virtqueue::split::parts::AVAIL_F_NO_INTERRUPT;
use crate::virtqueue::split::split_ring::FEW;
use crate::virtqueue::split::table::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};

const DESC: u64 = 0;
const AVAIL: u64 = 0x8000;
const USED: u64 = 0xa000;
const DATA: u64 = 0x1_0000;

/// A driver's side of one ring in 1 MiB of memory.
struct Driver {
    memory: GuestMemoryMmap,
    setup: RingSetup,
    ring: testkit::ring::Ring<GuestMemoryMmap>,
}

impl Driver {
    fn new(size: u16, features: u64) -> Driver {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let map = GuestMap::new(&SharedMemory::new(memory.clone()));
        let setup = RingSetup { size, desc: DESC, avail: AVAIL, used: USED, features, map };
        let layout = Layout { size, desc: DESC, avail: AVAIL, used: USED };
        let ring = testkit::ring::Ring::new(memory.clone(), layout, features);
        Driver { memory, setup, ring }
    }

    fn desc(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        self.ring.write_desc(index, &Desc { addr, len, flags, next: Some(next) });
    }

    fn raw_desc(&self, table: u64, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let bytes = Desc { addr, len, flags, next: Some(next) }.bytes();
        self.memory.write(table + 16 * u64::from(index), &bytes);
    }

    fn offer(&mut self, head: u16) {
        self.ring.offer(head);
        self.ring.publish();
    }

    fn set_avail(&mut self, index: u16) {
        self.ring.set_avail_idx(index);
    }

    fn word(&self, at: u64) -> u16 {
        self.memory.load16(at)
    }

    fn start(&self) -> Ring {
        Ring::start(&self.setup).unwrap()
    }
}

fn pop(ring: &mut Ring) -> (Popped, Vec<usize>) {
    let mut pieces = Vec::<GuestSlice<'_>>::with_capacity(64);
    let popped = ring.queue().pop(1, u32::MAX, &mut pieces);
    (popped, pieces.iter().map(GuestSlice::len).collect())
}

fn is_bad(ring: &mut Ring) -> bool {
    let (popped, pieces) = pop(ring);
    assert!(pieces.is_empty() || !matches!(popped, Popped::Bad(_)));
    matches!(popped, Popped::Bad(_))
}

/// The index looked as one far ahead, and more chains were popped than the ring has descriptors.
#[test]
fn an_available_index_that_moves_back_breaks_the_ring() {
    let mut driver = Driver::new(8, 0);
    let mut ring = driver.start();
    (0..5).for_each(|head| {
        driver.desc(head, DATA, 64, 0, 0);
        driver.offer(head);
    });
    let mut popped = 0;
    let mut queue = ring.queue();
    queue.pop_single(|_, _: GuestSlice<'_>| {
        popped += 1;
        true
    });
    assert_eq!(popped, 5);
    driver.set_avail(3);
    queue.pop_single(|_, _: GuestSlice<'_>| panic!("popped from behind"));
    let found = queue.pop::<GuestSlice<'_>>(1, 8, &mut Vec::with_capacity(8));
    assert!(matches!(found, Popped::Broken(Fault::AvailIndex)), "{found:?}");
}

#[test]
fn chains_come_out_in_order_and_are_published_once() {
    let mut driver = Driver::new(8, 0);
    driver.desc(0, DATA, 100, DESC_F_NEXT, 5);
    driver.desc(5, DATA + 100, 50, 0, 0);
    driver.desc(1, DATA + 200, 60, 0, 0);
    let mut ring = driver.start();
    assert!(matches!(pop(&mut ring).0, Popped::Empty));
    driver.offer(0);
    driver.offer(1);
    let (first, pieces) = pop(&mut ring);
    assert!(
        matches!(first, Popped::Chain(Chain { id: ChainId(0), pieces: 2, bytes: 150 })),
        "{first:?}"
    );
    assert_eq!(pieces, [100, 50]);
    assert!(matches!(pop(&mut ring).0, Popped::Chain(Chain { id: ChainId(1), .. })));
    ring.queue().add_used(ChainId(0), 7);
    ring.queue().add_used(ChainId(1), 0);
    assert_eq!(driver.word(USED + 2), 0, "nothing is visible before it is published");
    assert!(ring.publish());
    assert_eq!(driver.word(USED + 2), 2);
    assert_eq!((driver.word(USED + 4), driver.word(USED + 8)), (0, 7));
    assert_eq!(driver.word(USED + 12), 1);
    assert!(!ring.publish(), "nothing new, no call");
    assert_eq!(ring.position(), 2);
}

#[test]
fn a_ring_starts_at_its_used_index() {
    let mut driver = Driver::new(8, 0);
    driver.memory.store16(USED + 2, 65535);
    driver.set_avail(65535);
    driver.desc(3, DATA, 10, 0, 0);
    let mut ring = driver.start();
    assert!(matches!(pop(&mut ring).0, Popped::Empty));
    driver.offer(3);
    assert!(
        matches!(pop(&mut ring).0, Popped::Chain(Chain { id: ChainId(3), .. })),
        "across the wrap"
    );
    ring.queue().add_used(ChainId(3), 0);
    ring.publish();
    assert_eq!(driver.word(USED + 2), 0);
}

#[test]
fn what_was_popped_can_be_put_back() {
    let mut driver = Driver::new(4, 0);
    for head in 0..4 {
        driver.desc(head, DATA, 10, 0, 0);
        driver.offer(head);
    }
    let mut ring = driver.start();
    for _ in 0..4 {
        pop(&mut ring);
    }
    assert!(ring.queue().all_popped());
    ring.queue().undo_pop(1);
    assert!(matches!(pop(&mut ring).0, Popped::Chain(Chain { id: ChainId(3), .. })));
    ring.queue().add_used(ChainId(0), 0);
    ring.queue().undo_all();
    assert!(matches!(pop(&mut ring).0, Popped::Chain(Chain { id: ChainId(1), .. })));
}

#[test]
fn an_index_out_of_bounds_breaks_the_ring() {
    for jump in [9, 32768, 65535] {
        let mut driver = Driver::new(8, 0);
        driver.set_avail(jump);
        assert!(matches!(pop(&mut driver.start()).0, Popped::Broken(Fault::AvailIndex)), "{jump}");
    }
    let mut driver = Driver::new(8, 0);
    driver.offer(8);
    assert!(matches!(pop(&mut driver.start()).0, Popped::Broken(Fault::Head(8))));
}

#[test]
fn bad_chains_are_told_from_good_ones() {
    let mut driver = Driver::new(4, 0);
    // A loop; a next index outside; an address outside; a writable buffer.
    driver.desc(0, DATA, 10, DESC_F_NEXT, 0);
    driver.desc(1, DATA, 10, DESC_F_NEXT, 4);
    driver.desc(2, 1 << 20, 10, 0, 0);
    driver.desc(3, DATA, 10, DESC_F_WRITE, 0);
    for head in 0..4 {
        driver.offer(head);
    }
    let mut ring = driver.start();
    for head in 0..4 {
        assert!(is_bad(&mut ring), "{head}");
        ring.queue().add_used(ChainId(head), 0);
    }
    ring.publish();
    // As long as the ring is legal; zero bytes are legal too, at any address.
    driver.desc(0, DATA, 10, DESC_F_NEXT, 1);
    driver.desc(1, u64::MAX, 0, DESC_F_NEXT, 2);
    driver.desc(2, DATA, 10, DESC_F_NEXT, 3);
    driver.desc(3, DATA, 10, 0, 0);
    driver.offer(0);
    let (popped, pieces) = pop(&mut ring);
    assert!(matches!(popped, Popped::Chain(Chain { bytes: 30, .. })), "{popped:?}");
    assert_eq!(pieces.len(), 3);
}

#[test]
fn indirect_tables() {
    let table = DATA + 0x1000;
    let mut driver = Driver::new(4, 0);
    driver.raw_desc(table, 0, DATA, 12, DESC_F_NEXT, 1);
    driver.raw_desc(table, 1, DATA + 12, 60, 0, 0);
    let cases: [(u64, u32, u16, bool); 8] = [
        (table, 32, DESC_F_INDIRECT, true),
        (table, 0, DESC_F_INDIRECT, false),
        (table, 17, DESC_F_INDIRECT, false),
        (table, 16, DESC_F_INDIRECT, false),
        (table, 80, DESC_F_INDIRECT, false),
        (table, 32, DESC_F_INDIRECT | DESC_F_NEXT, false),
        (1 << 20, 32, DESC_F_INDIRECT, false),
        (table + 4, 32, DESC_F_INDIRECT, false),
    ];
    let mut ring = driver.start();
    for (addr, len, flags, good) in cases {
        driver.desc(0, addr, len, flags, 0);
        driver.offer(0);
        assert_eq!(!is_bad(&mut ring), good, "{addr:#x} {len} {flags}");
        ring.queue().add_used(ChainId(0), 0);
        ring.publish();
    }
    // Behind plain descriptors an indirect one is legal, inside a table it is not.
    driver.desc(0, DATA, 8, DESC_F_NEXT, 1);
    driver.desc(1, table, 32, DESC_F_INDIRECT, 0);
    driver.offer(0);
    assert!(matches!(pop(&mut ring).0, Popped::Chain(Chain { bytes: 80, .. })));
    ring.queue().add_used(ChainId(0), 0);
    driver.raw_desc(table, 1, table, 32, DESC_F_INDIRECT, 0);
    driver.offer(0);
    assert!(is_bad(&mut ring));
}

#[test]
fn a_ring_outside_memory_does_not_start() {
    let driver = Driver::new(8, 0);
    let start = |change: &dyn Fn(&mut RingSetup)| {
        let mut setup = driver.setup.clone();
        change(&mut setup);
        Ring::start(&setup).map(|_| ())
    };
    assert_eq!(start(&|_| {}), Ok(()));
    assert_eq!(start(&|s| s.desc = (1 << 20) - 64), Err(Fault::Address));
    assert_eq!(start(&|s| s.used = (1 << 20) - 64), Err(Fault::Address));
    assert_eq!(start(&|s| s.avail = u64::MAX - 1), Err(Fault::Address));
    assert_eq!(start(&|s| s.desc = 8), Err(Fault::Address));
    for size in [0, 3, 2048] {
        assert_eq!(start(&|s| s.size = size), Err(Fault::Size(size)));
    }
}

#[test]
fn calls_follow_the_drivers_wish() {
    let mut driver = Driver::new(8, 0);
    driver.desc(0, DATA, 10, 0, 0);
    let mut ring = driver.start();
    let round = |driver: &mut Driver, ring: &mut Ring| {
        driver.offer(0);
        pop(ring);
        ring.queue().add_used(ChainId(0), 0);
        ring.publish()
    };
    assert!(round(&mut driver, &mut ring));
    driver.memory.store16(AVAIL, AVAIL_F_NO_INTERRUPT);
    assert!(!round(&mut driver, &mut ring));

    let mut driver = Driver::new(8, 1 << 29);
    driver.desc(0, DATA, 10, 0, 0);
    let mut ring = driver.start();
    let event = AVAIL + 4 + 16;
    assert!(round(&mut driver, &mut ring), "the first time always");
    driver.memory.store16(event, 3);
    assert!(!round(&mut driver, &mut ring), "1 to 2 does not pass 3");
    assert!(!round(&mut driver, &mut ring), "2 to 3 does not either: 3 is the next one");
    assert!(round(&mut driver, &mut ring), "3 to 4 does");
    assert!(!ring.enable_notification().unwrap());
    assert_eq!(driver.word(USED + 4 + 64), 4, "kick for the next one");
}

#[test]
fn a_chain_that_comes_while_asking_is_not_missed() {
    for features in [0, 1 << 29] {
        let mut driver = Driver::new(8, features);
        driver.desc(0, DATA, 10, 0, 0);
        let mut ring = driver.start();
        ring.disable_notification();
        assert!(matches!(pop(&mut ring).0, Popped::Empty));
        driver.offer(0);
        assert!(ring.enable_notification().unwrap());
    }
}

proptest! {
    /// For any bytes in the descriptor table: no chain has more pieces or bytes than it may, all
    /// pieces are inside the memory, and the ring goes on.
    #[test]
    fn any_descriptor_table_is_survived(
        table in proptest::collection::vec((0u64..0x20_0000, 0u32..0x1_0000, 0u16..8, 0u16..20), 16),
        heads in proptest::collection::vec(0u16..16, 1..16),
    ) {
        let mut driver = Driver::new(16, 0);
        for (index, &(addr, len, flags, next)) in table.iter().enumerate() {
            driver.desc(index as u16, addr, len, flags, next);
        }
        for &head in &heads {
            driver.offer(head);
        }
        let mut ring = driver.start();
        for &head in &heads {
            let mut pieces = Vec::<GuestSlice<'_>>::with_capacity(1024);
            match ring.queue().pop(1, u32::MAX, &mut pieces) {
                Popped::Chain(chain) => {
                    prop_assert_eq!(chain.id, ChainId(head));
                    prop_assert_eq!(chain.pieces, pieces.len());
                    prop_assert!(pieces.len() <= 16);
                    let host = driver.memory.get_host_address(GuestAddress(0)).unwrap() as usize;
                    for piece in &pieces {
                        let at = piece.start() as usize;
                        prop_assert!(at >= host && at + piece.len() <= host + (1 << 20));
                    }
                }
                Popped::Bad(ChainId(bad)) => {
                    prop_assert_eq!(bad, head);
                    prop_assert!(pieces.is_empty());
                }
                other => prop_assert!(false, "{:?}", other),
            }
            ring.queue().add_used(ChainId(head), 0);
        }
        ring.publish();
        prop_assert_eq!(driver.word(USED + 2), heads.len() as u16);
    }

    /// `passed` against its definition: an index is passed when counting from old to new meets
    /// event+1.
    #[test]
    fn passed_is_counting(event: u16, old: u16, steps in 0u16..200) {
        let new = old.wrapping_add(steps);
        let met = (0..steps).any(|step| old.wrapping_add(step) == event);
        prop_assert_eq!(passed(event, old, new), met);
    }
}

/// A ring of eight chains, each of `len` descriptors with a byte in each.
fn chains(len: u16) -> Driver {
    let mut driver = Driver::new(8, 0);
    for index in 0..8 {
        let more = (index + 1) % len != 0;
        driver.desc(index, 0x8000, 1, if more { 1 } else { 0 }, index + 1);
    }
    (0..8).step_by(usize::from(len)).for_each(|head| driver.offer(head));
    driver
}

#[test]
fn a_chain_that_costs_too_much_stays_where_it_is() {
    let driver = chains(4);
    let mut ring = driver.start();
    let (mut queue, mut pieces) = (ring.queue(), Vec::<GuestSlice<'_>>::with_capacity(64));
    let popped = queue.pop(1, 3, &mut pieces);
    assert!(matches!(popped, Popped::Costly) && pieces.is_empty());
    assert_eq!(queue.read_since(0), 3, "what was read is counted all the same");
    let popped = queue.pop(1, 4, &mut pieces);
    assert!(matches!(popped, Popped::Chain(Chain { id: ChainId(0), bytes: 4, .. })));
    assert_eq!(queue.read_since(3), 4);
}

#[test]
fn a_chain_of_no_bytes_or_too_few_cannot_be_used() {
    let driver = chains(4);
    let mut ring = driver.start();
    let mut pieces = Vec::<GuestSlice<'_>>::with_capacity(64);
    let popped = ring.queue().pop(5, u32::MAX, &mut pieces);
    assert!(matches!(popped, Popped::Bad(ChainId(0))) && pieces.is_empty());
    driver.desc(4, 0x8000, 0, 0, 0);
    assert!(is_bad(&mut ring), "no bytes at all");
}

/// A guest that made such chains available as fast as they came back held its worker indefinitely.
#[test]
fn bug_s1_more_bad_chains_in_a_row_than_the_ring_is_long_break_it() {
    let mut driver = Driver::new(8, 0);
    driver.desc(0, 0x8000, 10, 0, 0);
    driver.desc(1, 0x8000, 0, 0, 0);
    let mut ring = driver.start();
    let mut pop_one = |head| {
        driver.offer(head);
        let popped = pop(&mut ring).0;
        ring.queue().add_used(ChainId(head), 0);
        ring.publish();
        popped
    };
    for _ in 0..3 {
        for _ in 0..FEW {
            assert!(matches!(pop_one(1), Popped::Bad(ChainId(1))));
        }
        assert!(matches!(pop_one(0), Popped::Chain(_)), "a good one in between");
    }
    for _ in 0..FEW {
        assert!(matches!(pop_one(1), Popped::Bad(ChainId(1))));
    }
    assert!(matches!(pop_one(1), Popped::Broken(Fault::Unusable)));
}
