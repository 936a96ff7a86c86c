//! The guest's memory regions as the front-end describes them, checked before anything maps them.
//!
//! vm-memory maps what it is given: a region that is longer than its file maps well and then kills the
//! process with SIGBUS at the first touch. So the file's length is asked first, and the mapping tried
//! out, which tells an unmappable descriptor with its reason. What cannot be checked is that the file
//! stays as long as it is; see docs/architecture.md, "What is trusted".

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::stat::{SFlag, fstat};

use crate::server::message::numbers;

/// One memory region, as in SET_MEM_TABLE and ADD_MEM_REG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Guest-physical address.
    pub guest: u64,
    /// Length in bytes.
    pub size: u64,
    /// The address by which the front-end names ring parts.
    pub user: u64,
    /// Where the region begins in its file, in bytes.
    pub offset: u64,
}

impl Region {
    fn parse(bytes: &[u8]) -> Option<Region> {
        let [guest, size, user, offset] = numbers::<8, 4>(bytes)?.map(u64::from_ne_bytes);
        Some(Region { guest, size, user, offset })
    }

    /// The payload of SET_MEM_TABLE: a count, padding, and that many regions.
    pub fn parse_table(payload: &[u8]) -> Option<Vec<Region>> {
        let (head, regions) = payload.split_first_chunk::<8>()?;
        let count = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (chunks, rest) = regions.as_chunks::<32>();
        if chunks.len() != count || !rest.is_empty() || count == 0 {
            return None;
        }
        chunks.iter().map(|chunk| Region::parse(chunk)).collect()
    }

    /// The inverse of [`Region::parse_table`].
    pub fn table(regions: &[Region]) -> Vec<u8> {
        let mut payload = (regions.len() as u32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; 4]);
        for Region { guest, size, user, offset } in regions {
            payload.extend([guest, size, user, offset].iter().flat_map(|n| n.to_ne_bytes()));
        }
        payload
    }

    /// The payload of ADD_MEM_REG and REM_MEM_REG: padding and one region.
    pub fn parse_single(payload: &[u8]) -> Option<Region> {
        let (_, region) = payload.split_first_chunk::<8>()?;
        Region::parse(region)
    }

    /// True when both cover some guest-physical address.
    pub fn overlaps(&self, other: &Region) -> bool {
        let last = |region: &Region| region.guest.saturating_add(region.size.saturating_sub(1));
        self.guest <= last(other) && other.guest <= last(self)
    }

    /// True when both mean the same memory, wherever it is in the file.
    pub fn same_place(&self, other: &Region) -> bool {
        (self.guest, self.size) == (other.guest, other.size)
    }

    /// True when the front-end's address `user` lies in this region.
    pub fn holds_user(&self, user: u64) -> bool {
        user.checked_sub(self.user).is_some_and(|offset| offset < self.size)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes at {:#x}, file offset {:#x}", self.size, self.guest, self.offset)
    }
}

/// Whether this region of this file can be used as guest memory.
///
/// # Errors
/// The reason, in words.
pub fn check_region(region: &Region, fd: &OwnedFd) -> Result<(), String> {
    if region.size == 0 {
        return Err("it is empty".into());
    }
    if region.guest.checked_add(region.size - 1).is_none()
        || region.user.checked_add(region.size - 1).is_none()
    {
        return Err("it wraps around the end of the address space".into());
    }
    let end = region.offset.checked_add(region.size).filter(|&end| i64::try_from(end).is_ok());
    let Some(end) = end else {
        return Err("it ends beyond any file".into());
    };
    let stat = fstat(fd).map_err(|errno| format!("its descriptor: {errno}"))?;
    let regular = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    if regular && u64::try_from(stat.st_size).unwrap_or(0) < end {
        return Err(format!(
            "its file is truncated: it has {:#x} bytes, the region needs {end:#x}; give the VMM a \
             larger one, or less memory",
            stat.st_size
        ));
    }
    try_mapping(region, fd)
}

/// Maps the region and unmaps it at once, to learn whether that works; nothing is touched.
fn try_mapping(region: &Region, fd: &OwnedFd) -> Result<(), String> {
    let cannot = |reason: String| {
        format!("it cannot be mapped: {reason}; the VMM must share a memfd or a plain file")
    };
    let size = usize::try_from(region.size).map_err(|error| cannot(error.to_string()))?;
    let offset = i64::try_from(region.offset).map_err(|error| cannot(error.to_string()))?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice; nothing is read or written.
    let address = unsafe {
        libc::mmap(std::ptr::null_mut(), size, protection, flags, fd.as_raw_fd(), offset)
    };
    if address == libc::MAP_FAILED {
        return Err(cannot(std::io::Error::last_os_error().to_string()));
    }
    // SAFETY: exactly the mapping made above, which nobody else knows.
    unsafe { libc::munmap(address, size) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, size: u64) -> Region {
        Region { guest, size, user: 0x7000_0000, offset: 0 }
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
    fn a_truncated_file_and_a_pipe_are_refused_with_their_reason() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        let fd = OwnedFd::from(file);
        assert_eq!(check_region(&region(0, 0x1000), &fd), Ok(()));
        let reason = check_region(&region(0, 0x2000), &fd).unwrap_err();
        assert!(reason.contains("truncated") && reason.contains("0x1000"), "{reason}");
        let (pipe, _) = nix::unistd::pipe().unwrap();
        let reason = check_region(&region(0, 0x1000), &pipe).unwrap_err();
        assert!(reason.contains("cannot be mapped"), "{reason}");
        assert!(check_region(&region(0, 0), &fd).unwrap_err().contains("empty"));
        assert!(check_region(&region(u64::MAX, 2), &fd).unwrap_err().contains("wraps"));
        let far = Region { offset: u64::MAX, ..region(0, 0x1000) };
        assert!(check_region(&far, &fd).unwrap_err().contains("beyond"));
    }

    #[test]
    fn parses_exact_payloads_only() {
        let one = [[0u8; 8].as_slice(), &[7; 32]].concat();
        assert!(Region::parse_single(&one).is_some());
        assert!(Region::parse_single(&one[..39]).is_none());
        let mut table = one.clone();
        table[0] = 1;
        let regions = Region::parse_table(&table).unwrap();
        assert_eq!(regions.len(), 1);
        assert_eq!(Region::table(&regions), table);
        table[0] = 2;
        assert!(Region::parse_table(&table).is_none());
        table[0] = 0;
        assert!(Region::parse_table(&table[..8]).is_none(), "no region at all");
    }
}
