//! The descriptor table and the chains in it: virtio 1.2, sections 2.7.5 and 2.7.5.3.
//!
//! A chain is a list of buffers, linked through the descriptor table or listed in an indirect table
//! of its own. The driver can write to both while we read, so every descriptor is copied once and
//! only the copy is used. The driver can write anything, so the walk is bounded by the ring's size
//! and every address is checked against the guest's memory. A chain that cannot be right yields no
//! buffers at all: a corrupt chain must not look like a shorter, valid one.

use std::marker::PhantomData;

use crate::virtqueue::guest_map::{GuestMap, Near};
use crate::virtqueue::guest_slice::{ChainSlice, GuestSliceMut};

/// Descriptor flags.
pub(crate) const DESC_F_NEXT: u16 = 1;
pub(crate) const DESC_F_WRITE: u16 = 2;
pub(crate) const DESC_F_INDIRECT: u16 = 4;

/// Why a chain yields no buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be right.
    Bad,
    /// It has more descriptors than may be read now.
    Costly,
}

/// One descriptor, copied.
#[derive(Clone, Copy)]
struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A descriptor table in guest memory, which is mapped during `'t`.
#[derive(Clone, Copy, Debug)]
pub struct DescriptorTable<'t> {
    base: *const [u64; 2],
    entries: u16,
    memory: PhantomData<GuestSliceMut<'t>>,
}

impl<'t> DescriptorTable<'t> {
    /// The table that fills `memory`. `None` when that has no whole number of descriptors, or none,
    /// or too many, or is not aligned to 8 bytes. Unaligned indirect tables are legal, but no
    /// driver makes them, and to read one would be undefined behaviour.
    pub fn new(memory: GuestSliceMut<'t>) -> Option<DescriptorTable<'t>> {
        let entries = u16::try_from(memory.len() / 16).ok().filter(|&entries| entries > 0)?;
        let base = memory.start();
        let fits = memory.len().is_multiple_of(16) && (base as usize).is_multiple_of(8);
        fits.then_some(DescriptorTable { base: base.cast(), entries, memory: PhantomData })
    }

    /// Reads a descriptor once; `None` when there is no such.
    #[inline]
    fn read(&self, index: u16) -> Option<Desc> {
        if index >= self.entries {
            return None;
        }
        // SAFETY: inside the table, which is mapped during 't and aligned (`new`). Volatile, so
        // that each descriptor is read once: the driver may write at the same time.
        let [addr, rest] = unsafe { self.base.add(usize::from(index)).read_volatile() };
        let rest = u64::from_le(rest);
        Some(Desc {
            addr: u64::from_le(addr),
            len: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        })
    }

    /// The indirect table that a descriptor names: not empty, not longer than the ring, inside the
    /// guest's memory.
    fn indirect<'m>(
        &self,
        desc: Desc,
        map: &'m GuestMap,
        hint: &mut usize,
    ) -> Option<DescriptorTable<'m>> {
        if desc.len > 16 * u32::from(self.entries) {
            return None;
        }
        DescriptorTable::new(map.translate(desc.addr, u64::from(desc.len), hint)?)
    }

    /// The one buffer of the chain at `head`, when the chain is a single descriptor and the buffer
    /// lies in `near`, as nearly always. `None` does not mean an error:
    /// [`DescriptorTable::walk`] finds out.
    #[inline]
    pub fn plain<'n, S: ChainSlice<'n>>(
        &self,
        head: u16,
        near: &Near<'n>,
    ) -> Option<GuestSliceMut<'n>> {
        let desc = self.read(head)?;
        let alone = desc.flags == if S::WRITABLE { DESC_F_WRITE } else { 0 };
        near.holds(desc.addr, desc.len).filter(|_| alone)
    }

    /// Follows the chain at `head` and appends its buffers to `pieces`, but no more than these have
    /// room for: the list never grows. Takes the descriptors that it reads from `left`. Returns the
    /// chain's bytes. The caller removes the pieces that were appended before a refusal.
    ///
    /// # Errors
    /// The chain cannot be right: too long, an index or address outside, the wrong access, a bad indirect
    /// table. Or `left` is used up.
    pub fn walk<'m, S: ChainSlice<'m>>(
        &self,
        head: u16,
        map: &'m GuestMap,
        hint: &mut usize,
        pieces: &mut Vec<S>,
        left: &mut u32,
    ) -> Result<usize, Refused> {
        let mut table = *self;
        let mut index = head;
        let mut indirect = false;
        let mut bytes = 0usize;
        // No chain may be longer than the ring, indirect or not (2.7.5.3.1): bounds loops.
        for _ in 0..=self.entries {
            let Some(less) = left.checked_sub(1) else { return Err(Refused::Costly) };
            *left = less;
            let desc = table.read(index).ok_or(Refused::Bad)?;
            if desc.flags & DESC_F_INDIRECT != 0 {
                // Plain descriptors may come first, but none may follow (2.7.5.3.2).
                if indirect || desc.flags & DESC_F_NEXT != 0 {
                    return Err(Refused::Bad);
                }
                (table, index) = (self.indirect(desc, map, hint).ok_or(Refused::Bad)?, 0);
                indirect = true;
                continue;
            }
            let writable = desc.flags & DESC_F_WRITE != 0;
            if writable != S::WRITABLE {
                return Err(Refused::Bad);
            }
            bytes = bytes.checked_add(desc.len as usize).ok_or(Refused::Bad)?;
            if !map.scatter(desc.addr, u64::from(desc.len), hint, pieces) {
                return Err(Refused::Bad);
            }
            if desc.flags & DESC_F_NEXT == 0 {
                return Ok(bytes);
            }
            index = desc.next;
        }
        Err(Refused::Bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtqueue::guest_map::SharedMemory;
    use crate::virtqueue::guest_slice::GuestSlice;
    use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

    /// The list doubled each time that a guest with many regions needed more: tens of MiB for each
    /// worker, permanently.
    #[test]
    fn bug_f22_a_chain_over_many_regions_does_not_make_the_list_grow() {
        let regions: Vec<_> = (0..1000).map(|n| (GuestAddress(n << 12), 1usize << 12)).collect();
        let memory = SharedMemory::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
        let map = GuestMap::new(&memory);
        let guest = memory.memory();
        for index in 0..64u64 {
            guest.write_obj(0x1000u64, GuestAddress(16 * index)).unwrap();
            guest.write_obj(900u32 << 12, GuestAddress(16 * index + 8)).unwrap();
            let next = [if index < 63 { DESC_F_NEXT } else { 0 }, index as u16 + 1];
            guest.write_obj(next, GuestAddress(16 * index + 12)).unwrap();
        }
        let mut hint = 0;
        let table = DescriptorTable::new(map.translate(0, 64 * 16, &mut hint).unwrap()).unwrap();
        let mut pieces = Vec::<GuestSlice<'_>>::with_capacity(2048);
        let room = pieces.capacity();
        let (mut hint, mut left) = (0, u32::MAX);
        let walked = table.walk(0, &map, &mut hint, &mut pieces, &mut left);
        assert_eq!(walked, Err(Refused::Bad));
        assert_eq!(pieces.capacity(), room);
    }
}
