//! Descriptor chains: virtio 1.2, sections 2.7.5 and 2.7.5.3.
//!
//! A chain is a list of buffers, linked through the descriptor table or listed in an indirect table of
//! its own. The driver can write to both while we read, so every descriptor is copied once and only the
//! copy is looked at; and it can write anything, so the walk is bounded by the ring's size and every
//! address is checked against the guest's memory. A chain that cannot be right yields no buffers at all:
//! a corrupt chain must not look like a shorter, valid one.

use crate::virtqueue::guest_map::{GuestMap, Region};

/// Descriptor flags.
pub(crate) const DESC_F_NEXT: u16 = 1;
pub(crate) const DESC_F_WRITE: u16 = 2;
pub(crate) const DESC_F_INDIRECT: u16 = 4;

/// Who may write into the buffers of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Buffers that we read: the guest's transmit ring.
    Readable,
    /// Buffers that we write: the guest's receive ring.
    Writable,
}

/// Why a chain yields no buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be right.
    Bad,
    /// It has more descriptors than may be read now.
    Costly,
}

/// One descriptor chain, popped: its buffers stand in the caller's piece list.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// The chain's id for the used ring.
    pub head: u16,
    /// How many pieces it has in the caller's list.
    pub pieces: usize,
    /// Total bytes of its pieces.
    pub bytes: usize,
}

/// One descriptor, copied.
#[derive(Clone, Copy)]
struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A descriptor table in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    base: *const [u64; 2],
    entries: u16,
}

impl Table {
    /// A table of `entries` descriptors at `base`.
    ///
    /// # Safety
    /// `base` must be aligned to 8 bytes and point to 16 bytes per entry that stay mapped for as long as
    /// the table is used.
    pub unsafe fn new(base: *const u8, entries: u16) -> Table {
        Table { base: base.cast(), entries }
    }

    /// Reads a descriptor once; `None` when there is no such.
    #[inline]
    fn read(&self, index: u16) -> Option<Desc> {
        if index >= self.entries {
            return None;
        }
        // SAFETY: inside the table, by the promise made to `new`; volatile because the driver may write
        // at the same time.
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
    fn indirect(&self, desc: Desc, map: &GuestMap, hint: &mut usize) -> Option<Table> {
        let len = u64::from(desc.len);
        let entries = u16::try_from(len / 16).ok()?;
        if entries == 0 || !len.is_multiple_of(16) || entries > self.entries {
            return None;
        }
        let base = map.translate(desc.addr, len, hint)?;
        // Unaligned tables are legal, but no driver makes them; reading one here would be undefined
        // behaviour, so it is a bad chain.
        if !(base as usize).is_multiple_of(8) {
            return None;
        }
        // SAFETY: aligned, `translate` found `len` bytes there, and the map outlives the walk.
        Some(unsafe { Table::new(base, entries) })
    }

    /// The one buffer of the chain at `head`, when the chain is a single descriptor and the buffer lies in
    /// `near`, as nearly always. `None` says nothing: [`Table::walk`] does.
    #[inline]
    pub fn plain(&self, head: u16, access: Access, near: &Region) -> Option<libc::iovec> {
        let desc = self.read(head)?;
        let alone = match access {
            Access::Readable => desc.flags == 0,
            Access::Writable => desc.flags == DESC_F_WRITE,
        };
        let host = near.holds(desc.addr, desc.len).filter(|_| alone)?;
        Some(libc::iovec { iov_base: host.cast(), iov_len: desc.len as usize })
    }

    /// Follows the chain at `head` and appends its buffers to `pieces`, but no more than these have room for:
    /// the list never grows. Takes the descriptors that it reads from `left`. Returns the chain's bytes.
    /// What was appended before a refusal is the caller's to remove.
    ///
    /// # Errors
    /// The chain cannot be right: too long, an index or address outside, the wrong access, a bad indirect
    /// table. Or `left` is used up.
    pub fn walk(
        &self,
        head: u16,
        access: Access,
        map: &GuestMap,
        hint: &mut usize,
        pieces: &mut Vec<libc::iovec>,
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
                // Plain descriptors may come first, but nothing may follow (2.7.5.3.2).
                if indirect || desc.flags & DESC_F_NEXT != 0 {
                    return Err(Refused::Bad);
                }
                (table, index) = (self.indirect(desc, map, hint).ok_or(Refused::Bad)?, 0);
                indirect = true;
                continue;
            }
            let writable = desc.flags & DESC_F_WRITE != 0;
            if writable != (access == Access::Writable) {
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
    use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

    /// The list doubled as often as a guest with many regions wished: tens of MiB for each worker, for good.
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
        let base = map.translate(0, 64 * 16, &mut hint).unwrap();
        // SAFETY: 64 descriptors were found there, page-aligned, and the map outlives the table.
        let table = unsafe { Table::new(base, 64) };
        let mut pieces = Vec::with_capacity(2048);
        let room = pieces.capacity();
        let (mut hint, mut left) = (0, u32::MAX);
        let walked = table.walk(0, Access::Readable, &map, &mut hint, &mut pieces, &mut left);
        assert_eq!(walked, Err(Refused::Bad));
        assert_eq!(pieces.capacity(), room);
    }
}
