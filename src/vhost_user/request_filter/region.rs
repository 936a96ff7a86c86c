//! A memory region as the front-end describes it, and the check of its four numbers alone.
//!
//! No real front-end is refused for its alignment. QEMU rounds every region to the pages of its
//! memory back-end (`vhost_region_add_section`), cloud-hypervisor and DPDK map whole pages, and so
//! does a guest page table: 4096 bytes are the smallest page of every machine that this program
//! runs on.
//!
//! Two regions may have the same user addresses or the same part of a file: QEMU's malta machine
//! has its memory at two guest addresses. A ring address then means the first of them, which
//! confuses no guest but that one.

use std::fmt;

use crate::vhost_user::message::numbers;
use crate::virtqueue::mapping::PAGE;

/// One memory region, as in SET_MEM_TABLE and ADD_MEM_REG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionRequest {
    /// Guest-physical address.
    pub guest: u64,
    /// Length in bytes.
    pub size: u64,
    /// The address by which the front-end names ring parts.
    pub user: u64,
    /// Where the region begins in its file, in bytes.
    pub offset: u64,
}

impl RegionRequest {
    fn parse(bytes: &[u8]) -> Option<RegionRequest> {
        let [guest, size, user, offset] = numbers::<8, 4>(bytes)?.map(u64::from_ne_bytes);
        Some(RegionRequest { guest, size, user, offset })
    }

    /// The payload of SET_MEM_TABLE: a count, padding, and that many regions.
    pub fn parse_table(payload: &[u8]) -> Option<Vec<RegionRequest>> {
        let (head, regions) = payload.split_first_chunk::<8>()?;
        let count = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (chunks, rest) = regions.as_chunks::<32>();
        if chunks.len() != count || !rest.is_empty() || count == 0 {
            return None;
        }
        chunks.iter().map(|chunk| RegionRequest::parse(chunk)).collect()
    }

    /// The inverse of [`RegionRequest::parse_table`].
    pub fn table(regions: &[RegionRequest]) -> Vec<u8> {
        let mut payload = (regions.len() as u32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; 4]);
        for RegionRequest { guest, size, user, offset } in regions {
            payload.extend([guest, size, user, offset].iter().flat_map(|n| n.to_ne_bytes()));
        }
        payload
    }

    /// The payload of ADD_MEM_REG and REM_MEM_REG: padding and one region.
    pub fn parse_single(payload: &[u8]) -> Option<RegionRequest> {
        let (_, region) = payload.split_first_chunk::<8>()?;
        RegionRequest::parse(region)
    }

    /// True when both cover some guest-physical address.
    pub fn overlaps(&self, other: &RegionRequest) -> bool {
        let last =
            |region: &RegionRequest| region.guest.saturating_add(region.size.saturating_sub(1));
        self.guest <= last(other) && other.guest <= last(self)
    }

    /// True when both mean the same memory, wherever it is in the file.
    pub fn same_place(&self, other: &RegionRequest) -> bool {
        (self.guest, self.size) == (other.guest, other.size)
    }

    /// True when the front-end's address `user` lies in this region.
    pub fn holds_user(&self, user: u64) -> bool {
        user.checked_sub(self.user).is_some_and(|offset| offset < self.size)
    }
}

impl fmt::Display for RegionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes at {:#x}, file offset {:#x}", self.size, self.guest, self.offset)
    }
}

impl RegionRequest {
    /// Judges the four numbers alone.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn judge(&self) -> Result<(), String> {
        if self.size == 0 {
            return Err("it is empty".into());
        }
        // The sums are with the end, not with the last byte: the crate adds so, too.
        if self.guest.checked_add(self.size).is_none() || self.user.checked_add(self.size).is_none()
        {
            return Err("it wraps around the end of the address space".into());
        }
        if self.end().is_none() {
            return Err("it ends beyond any file".into());
        }
        let numbers = [
            ("guest address", self.guest),
            ("user address", self.user),
            ("size", self.size),
            ("file offset", self.offset),
        ];
        match numbers.iter().find(|(_, number)| !number.is_multiple_of(PAGE)) {
            Some((name, number)) => {
                Err(format!("its {name} {number:#x} is not a multiple of {PAGE} bytes"))
            }
            None => Ok(()),
        }
    }

    /// Where it ends in its file, in bytes; `None` beyond any file.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.size).filter(|&end| i64::try_from(end).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, size: u64) -> RegionRequest {
        RegionRequest { guest, size, user: 0x7000_0000, offset: 0 }
    }

    #[test]
    fn overlap_is_symmetric_and_exact() {
        let a = region(0x1000, 0x1000);
        for (other, overlaps) in [
            (region(0, 0x1000), false),
            (region(0, 0x1001), true),
            (region(0x1fff, 1), true),
            (region(0x2000, 0x1000), false),
            (region(0, u64::MAX), true),
        ] {
            assert_eq!(a.overlaps(&other), overlaps, "{other}");
            assert_eq!(other.overlaps(&a), overlaps, "{other}");
        }
    }

    #[test]
    fn parses_exact_payloads_only() {
        let one = [[0u8; 8].as_slice(), &[7; 32]].concat();
        assert!(RegionRequest::parse_single(&one).is_some());
        assert!(RegionRequest::parse_single(&one[..39]).is_none());
        let mut table = one.clone();
        table[0] = 1;
        let regions = RegionRequest::parse_table(&table).unwrap();
        assert_eq!(regions.len(), 1);
        assert_eq!(RegionRequest::table(&regions), table);
        table[0] = 2;
        assert!(RegionRequest::parse_table(&table).is_none());
        table[0] = 0;
        assert!(RegionRequest::parse_table(&table[..8]).is_none(), "no region at all");
    }
}
