//! A split ring in memory that the driver writes to at any time.
//!
//! Input: one byte of features, then steps: a byte that says which, and its numbers. The guest has
//! two pieces of memory with a hole between them; the ring is in the first.

use std::collections::VecDeque;
use std::sync::Arc;

use vhost_user_macvtap::net::feature;
use vhost_user_macvtap::virtqueue::chain::{ChainId, Popped};
use vhost_user_macvtap::virtqueue::guest_map::{GuestMap, SharedMemory};
use vhost_user_macvtap::virtqueue::guest_slice::{ChainSlice, GuestSlice, GuestSliceMut};
use vhost_user_macvtap::virtqueue::ring::{Queue, Ring};
use vhost_user_macvtap::virtqueue::ring_setup::RingSetup;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

use crate::input::Input;

const SIZE: u16 = 16;
const DESC: u64 = 0;
const AVAIL: u64 = 0x400;
const USED: u64 = 0x800;
/// What a step may write to: ring and indirect tables.
const RING_BYTES: usize = 0x1000;
const REGION: usize = 0x4000;
const SECOND: u64 = 0x6000;

thread_local! {
    /// Mapping memory takes longer than all steps together.
    static GUEST: Option<Guest> = Guest::new();
}

struct Guest {
    memory: SharedMemory,
    map: Arc<GuestMap>,
    /// Where the two pieces are in this process.
    hosts: [usize; 2],
}

impl Guest {
    fn new() -> Option<Guest> {
        let ranges = [(GuestAddress(0), REGION), (GuestAddress(SECOND), REGION)];
        let memory = SharedMemory::new(GuestMemoryMmap::from_ranges(&ranges).ok()?);
        let map = GuestMap::new(&memory);
        let host = |address| {
            let slice = [map.translate(address, 1, &mut 0)?];
            Some(GuestSliceMut::as_iovecs(&slice).first()?.iov_base as usize)
        };
        let hosts = [host(0)?, host(SECOND)?];
        Some(Guest { memory, map, hosts })
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        // The driver cannot write outside of its memory.
        let _ = self.memory.memory().write_slice(bytes, GuestAddress(address));
    }

    /// Whether these bytes are the guest's.
    fn has(&self, piece: &libc::iovec) -> bool {
        let (address, length) = (piece.iov_base as usize, piece.iov_len);
        self.hosts
            .iter()
            .any(|host| address >= *host && length <= REGION && address - host <= REGION - length)
    }
}

/// For every content of the rings: a buffer is inside the guest's memory, a chain has the bytes of
/// its pieces, and no more chains are popped than the ring is long.
pub fn target(data: &[u8]) {
    GUEST.with(|guest| guest.as_ref().map(|guest| steps(guest, data)));
}

fn steps(guest: &Guest, data: &[u8]) {
    guest.write(0, &[0; RING_BYTES]);
    let mut input = Input::new(data);
    let kind = input.u8();
    let writable = kind & 1 != 0;
    let features = u64::from(kind >> 1 & 1) << feature::VIRTIO_RING_F_EVENT_IDX;
    guest.write(USED + 2, &u16::to_le_bytes(if kind & 4 == 0 { 0 } else { 0xfffe }));
    guest.write(AVAIL + 2, &u16::to_le_bytes(if kind & 4 == 0 { 0 } else { 0xfffe }));
    let map = Arc::clone(&guest.map);
    let setup = RingSetup { size: SIZE, desc: DESC, avail: AVAIL, used: USED, features, map };
    let Ok(mut ring) = Ring::start(&setup) else { panic!("a good ring is refused") };
    let mut popped = VecDeque::new();
    let mut avail = if kind & 4 == 0 { 0u16 } else { 0xfffe };
    while !input.is_empty() {
        match input.u8() % 12 {
            0 => {
                let (at, count) = (u64::from(input.u16()) % RING_BYTES as u64, input.u8() % 33);
                guest.write(at, input.bytes(count.into()));
            }
            1 => {
                let index = u64::from(input.u8() % 32);
                let address = u64::from(input.u16());
                let (length, flags, next) = (input.u16(), input.u8() & 7, input.u8() % 20);
                let rest = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
                guest.write(
                    DESC + 16 * index,
                    &[address.to_le_bytes(), rest.to_le_bytes()].concat(),
                );
            }
            2 => {
                let slot = u64::from(avail % SIZE);
                guest.write(AVAIL + 4 + 2 * slot, &u16::from(input.u8() % 18).to_le_bytes());
                avail = avail.wrapping_add(1);
                guest.write(AVAIL + 2, &avail.to_le_bytes());
            }
            3..=5 => {
                let (least, most) = (usize::from(input.u8()).max(1), u32::from(input.u8()));
                let mut queue = ring.queue();
                let found = if writable {
                    pop(guest, &mut queue, least, most, GuestSliceMut::as_iovecs)
                } else {
                    pop(guest, &mut queue, least, most, GuestSlice::as_iovecs)
                };
                match found {
                    Popped::Chain(chain) => popped.push_back(chain.id),
                    Popped::Bad(id) => popped.push_back(id),
                    Popped::Empty | Popped::Costly => {}
                    Popped::Broken(_) => return,
                }
                assert!(popped.len() <= SIZE.into(), "more chains than descriptors");
            }
            6 => {
                let most = usize::from(input.u8() % 20);
                let mut queue = ring.queue();
                if writable {
                    pop_single(guest, &mut queue, most, GuestSliceMut::as_iovecs, &mut popped);
                } else {
                    pop_single(guest, &mut queue, most, GuestSlice::as_iovecs, &mut popped);
                }
                assert!(popped.len() <= SIZE.into(), "more chains than descriptors");
            }
            7 | 8 => {
                let length = u32::from(input.u16());
                if let Some(id) = popped.pop_front() {
                    ring.queue().add_used(id, length);
                }
            }
            9 => {
                let _ = ring.publish();
            }
            10 => {
                if ring.enable_notification().is_err() || ring.enable_notification_at().is_err() {
                    return;
                }
                ring.disable_notification();
            }
            _ => {
                let count = usize::from(input.u8()) % (popped.len() + 1);
                popped.truncate(popped.len() - count);
                ring.queue().undo_pop(count as u16);
            }
        }
    }
}

/// Pops the next chain and looks at its pieces.
fn pop<'r, S: ChainSlice<'r>>(
    guest: &Guest,
    queue: &mut Queue<'r>,
    least: usize,
    most: u32,
    iovecs: fn(&[S]) -> &[libc::iovec],
) -> Popped {
    let mut pieces = Vec::with_capacity(64);
    let before = queue.read_since(0);
    let found = queue.pop(least, most, &mut pieces);
    // A chain that is read and cannot be used costs budget, too.
    assert!(queue.read_since(before) <= most.max(64), "{found:?}");
    if let Popped::Chain(chain) = &found {
        assert_eq!(chain.pieces, pieces.len());
        assert_eq!(chain.bytes, iovecs(&pieces).iter().map(|piece| piece.iov_len).sum::<usize>());
        assert!(chain.bytes >= least);
        for piece in iovecs(&pieces) {
            assert!(guest.has(piece), "{piece:?}");
        }
    } else {
        assert!(pieces.is_empty());
    }
    found
}

/// Pops chains of one buffer, at most so many.
fn pop_single<'r, S: ChainSlice<'r>>(
    guest: &Guest,
    queue: &mut Queue<'r>,
    most: usize,
    iovecs: fn(&[S]) -> &[libc::iovec],
    popped: &mut VecDeque<ChainId>,
) {
    let end = popped.len() + most;
    queue.pop_single(|id, piece: S| {
        let takes = popped.len() < end;
        if takes {
            let piece = [piece];
            assert!(guest.has(&iovecs(&piece)[0]), "a buffer outside");
            popped.push_back(id);
        }
        takes
    });
}

/// A driver that does what Linux does: single buffers, chains, indirect tables.
pub fn seeds() -> Vec<Vec<u8>> {
    let desc = |index: u8, address: u16, length: u16, flags: u8, next: u8| {
        [&[1, index][..], &address.to_le_bytes(), &length.to_le_bytes(), &[flags, next]].concat()
    };
    let offer = |head: u8| vec![2, head];
    let pop = vec![3, 1, 40];
    let done = [&[7][..], &100u16.to_le_bytes(), &[9, 10]].concat();
    let mut seeds = Vec::new();
    for kind in 0..8u8 {
        let write = (kind & 1) * 2;
        let single =
            [desc(0, 0x1000, 1526, write, 0), offer(0), pop.clone(), done.clone()].concat();
        let chain = [
            desc(3, 0x2000, 12, write | 1, 4),
            desc(4, 0x3ff0, 16, write | 1, 5),
            desc(5, 0x6000, 1500, write, 0),
            offer(3),
            pop.clone(),
            done.clone(),
        ]
        .concat();
        // Entries 16 to 18 of the "table" lie behind it: an indirect one.
        let indirect = [
            desc(16, 0x7000, 12, write | 1, 1),
            desc(17, 0x7100, 1500, write, 0),
            desc(7, 0x100, 32, 4, 0),
            offer(7),
            pop.clone(),
            vec![11, 1],
            pop.clone(),
            done.clone(),
        ]
        .concat();
        let many: Vec<u8> = (0..16)
            .flat_map(|index| [desc(index, 0x1000, 64, write, 0), offer(index)].concat())
            .chain([6, 19])
            .chain((0..16).flat_map(|_| done.clone()))
            .collect();
        for steps in [single, chain, indirect, many] {
            seeds.push([&[kind][..], &steps].concat());
        }
    }
    seeds
}
