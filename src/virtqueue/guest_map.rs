//! The guest's memory as the data path sees it.
//!
//! A front-end hands over a few regions (memfd, file or huge pages); vm-memory maps them. Looking
//! an address up through the crate costs a guard and a search per access, so a [`GuestMap`] keeps
//! the regions in a small sorted array with plain host pointers, and the caller keeps the index of
//! the region it hit last.
//!
//! Why this is safe: a `GuestMap` holds the [`Mapping`]s that its pointers lead into, and never
//! changes. Every translation is a [`GuestSliceMut`] that borrows the map, so memory cannot be
//! unmapped while a piece of it is in use. A ring holds the map, and so keeps the memory mapped and
//! watched. A new memory table takes effect ring by ring: an old mapping goes when the last ring
//! has released it.
//!
//! What can go wrong: the front-end may send wrong addresses, so every translation is checked
//! against the regions and reads no memory. A buffer may cross from one region into an adjacent one
//! (CVE-2018-1059), so buffers are translated piece by piece. The front-end may shrink the file at
//! any time, which no check can prevent (`fault.rs`).

use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use crate::virtqueue::address_space::MappedAccount;
use crate::virtqueue::guest_slice::{ChainSlice, GuestSliceMut};
use crate::virtqueue::mapping::Mapping;
use vm_memory::{
    Address, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap,
    GuestMemoryRegion, MmapRegion,
};

/// The crate's swappable memory map, as vhost-user-backend hands it out.
pub type SharedMemory = GuestMemoryAtomic<GuestMemoryMmap>;

/// One region: guest-physical addresses `start..=last` are at `host` in this process, readable and
/// writable for as long as the map that has the region.
#[derive(Clone, Copy, Debug)]
struct Region {
    start: u64,
    last: u64,
    host: *mut u8,
}

/// A region of a map, by which addresses near the last one are translated without a search.
#[derive(Clone, Copy, Debug)]
pub struct Near<'m> {
    region: Region,
    map: PhantomData<&'m GuestMap>,
}

impl<'m> Near<'m> {
    /// `len` bytes at guest address `addr`, when this region holds all of them, and at least one.
    #[inline]
    pub fn holds(&self, addr: u64, len: u32) -> Option<GuestSliceMut<'m>> {
        let Region { start, last, host } = self.region;
        // An address before the region wraps to one far behind it; so does a length of 0.
        let offset = addr.wrapping_sub(start);
        let behind = (last - start).checked_sub(offset)?;
        let inside = u64::from(len).wrapping_sub(1) <= behind;
        // SAFETY: `offset + len` is inside the region, which the map keeps mapped during 'm.
        inside.then(|| unsafe {
            GuestSliceMut::new(host.wrapping_add(offset as usize), len as usize)
        })
    }
}

/// A region of the crate's map, and our mapping of the same part of the same file.
#[derive(Clone, Debug)]
struct RegionPair {
    theirs: Weak<MmapRegion>,
    ours: Arc<Mapping>,
}

/// A snapshot of the guest's memory regions, sorted by guest-physical address.
#[derive(Debug)]
pub struct GuestMap {
    regions: Vec<Region>,
    mapped: Vec<RegionPair>,
    /// Memory without a file behind it.
    _anonymous: Option<Arc<GuestMemoryMmap>>,
}

// SAFETY: the pointers lead into mappings that `mapped` or `_anonymous` keeps alive, and that
// belong to no thread.
unsafe impl Send for GuestMap {}
// SAFETY: as above, and a map is never changed after it was made.
unsafe impl Sync for GuestMap {}

impl GuestMap {
    /// Maps the regions that the crate has mapped by now. Regions that `before` has are taken over
    /// from there.
    ///
    /// # Errors
    /// A region cannot be mapped; `before` is as it was.
    pub fn follow(
        memory: &SharedMemory,
        before: Option<&GuestMap>,
        account: &Arc<MappedAccount>,
    ) -> io::Result<Arc<GuestMap>> {
        let mut map = GuestMap { regions: Vec::new(), mapped: Vec::new(), _anonymous: None };
        for region in memory.memory().iter() {
            let theirs = Arc::downgrade(&region.get_mmap());
            let known = before
                .and_then(|before| before.mapped.iter().find(|m| m.theirs.ptr_eq(&theirs)))
                .map(|mapped| Arc::clone(&mapped.ours));
            let ours = match (known, region.file_offset()) {
                (Some(ours), _) => ours,
                (None, Some(at)) => Mapping::new(at.file(), at.start(), region.len(), account)?,
                (None, None) => return Err(io::ErrorKind::InvalidInput.into()),
            };
            map.regions.push(Region {
                start: region.start_addr().raw_value(),
                last: region.last_addr().raw_value(),
                host: ours.host(),
            });
            map.mapped.push(RegionPair { theirs, ours });
        }
        map.regions.sort_by_key(|region| region.start);
        Ok(Arc::new(map))
    }

    /// A map of anonymous memory, which no other process can shorten and which needs no watch: for
    /// tests and measurements, which play the guest in this process.
    pub fn new(memory: &SharedMemory) -> Arc<GuestMap> {
        let memory = memory.memory().into_inner();
        let mut regions: Vec<Region> = memory
            .iter()
            .map(|region| Region {
                start: region.start_addr().raw_value(),
                last: region.last_addr().raw_value(),
                host: region.as_ptr(),
            })
            .collect();
        regions.sort_by_key(|region| region.start);
        Arc::new(GuestMap { regions, mapped: Vec::new(), _anonymous: Some(memory) })
    }

    /// True when the front-end has truncated a region under the map.
    pub fn lost(&self) -> bool {
        self.mapped.iter().any(|mapped| mapped.ours.lost())
    }

    /// True when the front-end has handed over no memory.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// The host address of guest address `addr` and how many bytes follow it in the same region.
    /// `hint` is the caller's memory of the last hit.
    fn find(&self, addr: u64, hint: &mut usize) -> Option<(*mut u8, u64)> {
        let hit = |region: &Region| region.start <= addr && addr <= region.last;
        let index = match self.regions.get(*hint) {
            Some(region) if hit(region) => *hint,
            _ => self.regions.partition_point(|region| region.last < addr),
        };
        let region = self.regions.get(index).filter(|region| hit(region))?;
        *hint = index;
        let offset = addr - region.start;
        // A region of 2^64 bytes cannot be mapped, so the sum cannot overflow.
        let room = region.last - addr + 1;
        Some((region.host.wrapping_add(usize::try_from(offset).ok()?), room))
    }

    /// The region that was hit last.
    #[inline]
    pub fn near(&self, hint: usize) -> Option<Near<'_>> {
        self.regions.get(hint).map(|region| Near { region: *region, map: PhantomData })
    }

    /// `len` bytes at guest address `addr`, when one region holds all of them.
    pub fn translate(&self, addr: u64, len: u64, hint: &mut usize) -> Option<GuestSliceMut<'_>> {
        let (host, room) = self.find(addr, hint)?;
        // SAFETY: so many bytes follow in the same region, which this map keeps mapped for as long
        // as it is borrowed.
        (len <= room).then(|| unsafe { GuestSliceMut::new(host, len as usize) })
    }

    /// Appends the pieces of the `len` bytes at guest address `addr` to `pieces`: one, or one for
    /// every region that the buffer reaches into. On failure none is appended. The list never
    /// grows: a guest chooses how many regions its buffers reach into.
    pub fn scatter<'m, S: ChainSlice<'m>>(
        &'m self,
        mut addr: u64,
        mut len: u64,
        hint: &mut usize,
        pieces: &mut Vec<S>,
    ) -> bool {
        let before = pieces.len();
        while len > 0 {
            let Some((host, room)) = self.find(addr, hint) else {
                pieces.truncate(before);
                return false;
            };
            let here = len.min(room);
            if pieces.len() == pieces.capacity() {
                pieces.truncate(before);
                return false;
            }
            // SAFETY: as in `translate`.
            pieces.push(S::from(unsafe { GuestSliceMut::new(host, here as usize) }));
            len -= here;
            match addr.checked_add(here) {
                Some(next) => addr = next,
                None if len == 0 => {}
                None => {
                    pieces.truncate(before);
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn map(ranges: &[(u64, usize)]) -> Arc<GuestMap> {
        let ranges: Vec<_> = ranges.iter().map(|&(a, l)| (GuestAddress(a), l)).collect();
        GuestMap::new(&SharedMemory::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()))
    }

    #[test]
    fn finds_the_right_region_with_any_hint() {
        let map = map(&[(0, 0x2000), (0x10_0000, 0x1000), (0x20_0000, 0x3000)]);
        for mut hint in 0..5 {
            assert!(map.translate(0x10_0fff, 1, &mut hint).is_some());
            assert!(map.translate(0x10_0fff, 2, &mut hint).is_none());
            assert!(map.translate(0x10_1000, 1, &mut hint).is_none());
            assert!(map.translate(0x1fff, 1, &mut hint).is_some());
            assert!(map.translate(0x20_2fff, 1, &mut hint).is_some());
            assert!(map.translate(u64::MAX, 1, &mut hint).is_none());
            assert!(map.translate(u64::MAX, u64::MAX, &mut hint).is_none());
        }
    }

    #[test]
    fn splits_a_buffer_at_a_region_border_and_refuses_a_hole() {
        let map = map(&[(0, 0x1000), (0x1000, 0x1000), (0x4000, 0x1000)]);
        let (mut hint, mut pieces) = (0, Vec::<GuestSliceMut<'_>>::with_capacity(8));
        assert!(map.scatter(0xf00, 0x200, &mut hint, &mut pieces));
        let lens: Vec<_> = pieces.iter().map(|p| p.len()).collect();
        assert_eq!(lens, [0x100, 0x100]);
        assert!(!map.scatter(0x1f00, 0x200, &mut hint, &mut pieces), "reaches into the hole");
        assert!(!map.scatter(u64::MAX - 1, 8, &mut hint, &mut pieces), "wraps around");
        assert_eq!(pieces.len(), 2, "a refused buffer leaves nothing behind");
        assert!(map.scatter(0x9999_9999, 0, &mut hint, &mut pieces), "nothing is nowhere");
    }
}
