//! Descriptor chains: virtio 1.2, sections 2.7.5 and 2.7.5.3.
//!
//! A chain is a list of buffers, linked through the descriptor table or listed in an indirect table of
//! its own. The driver can write to both while we read, so every descriptor is copied once and only the
//! copy is looked at; and it can write anything, so the walk is bounded by the ring's size and every
//! address is checked against the guest's memory. A chain that cannot be right yields no buffers at all:
//! a corrupt chain must not look like a shorter, valid one.

use super::memory::{GuestMap, Region};

/// Descriptor flags.
pub(super) const DESC_F_NEXT: u16 = 1;
pub(super) const DESC_F_WRITE: u16 = 2;
pub(super) const DESC_F_INDIRECT: u16 = 4;

/// Who may write into the buffers of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Buffers that we read: the guest's transmit ring.
    Readable,
    /// Buffers that we write: the guest's receive ring.
    Writable,
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

    /// Follows the chain at `head` and appends its buffers to `pieces`. Returns its bytes, or `None` when
    /// it cannot be right: too long, an index or address outside, the wrong access, a bad indirect table.
    /// What was appended by then is the caller's to remove.
    pub fn walk(
        &self,
        head: u16,
        access: Access,
        map: &GuestMap,
        hint: &mut usize,
        pieces: &mut Vec<libc::iovec>,
    ) -> Option<usize> {
        let mut table = *self;
        let mut index = head;
        let mut indirect = false;
        let mut bytes = 0usize;
        // No chain may be longer than the ring, indirect or not (2.7.5.3.1): bounds loops.
        for _ in 0..=self.entries {
            let desc = table.read(index)?;
            if desc.flags & DESC_F_INDIRECT != 0 {
                // Plain descriptors may come first, but nothing may follow (2.7.5.3.2).
                if indirect || desc.flags & DESC_F_NEXT != 0 {
                    return None;
                }
                (table, index) = (self.indirect(desc, map, hint)?, 0);
                indirect = true;
                continue;
            }
            let writable = desc.flags & DESC_F_WRITE != 0;
            if writable != (access == Access::Writable) {
                return None;
            }
            // The list was made large enough for every sane chain; it must not grow here.
            if pieces.len() >= pieces.capacity() {
                return None;
            }
            bytes = bytes.checked_add(desc.len as usize)?;
            if !map.scatter(desc.addr, u64::from(desc.len), hint, pieces) {
                return None;
            }
            if desc.flags & DESC_F_NEXT == 0 {
                return Some(bytes);
            }
            index = desc.next;
        }
        None
    }
}
