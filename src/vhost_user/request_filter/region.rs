//! The guest's memory regions as the front-end describes them, checked before anything maps them.
//!
//! A mapping takes what it is given: a region that is longer than its file maps well and then raises
//! SIGBUS at the first touch; a part of a huge page maps well and can be neither unmapped nor covered
//! with zeros. So three things are judged in turn: the four numbers alone, what kind of file it is, and
//! the numbers against the file's length and pages. Then the mapping is tried out, which tells an
//! unmappable descriptor with its reason. What cannot be checked is that the file stays as long as it
//! is; see docs/architecture.md, "What is trusted".
//!
//! No real front-end is refused for its alignment. QEMU rounds every region to the pages of its memory
//! back-end (`vhost_region_add_section`), cloud-hypervisor and DPDK map whole pages, and so does a guest
//! page table: 4096 bytes are the smallest page of every machine that this program runs on.
//!
//! Two regions may have the same user addresses or the same part of a file: QEMU's malta machine has its
//! memory at two guest addresses. A ring address then means the first of them, and nothing is confused
//! but that guest.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::stat::fstat;

use crate::config::size;
use crate::vhost_user::fd_kind::memory_kinds;
use crate::vhost_user::message::numbers;
use crate::vhost_user::received_fd::ReceivedFd;
use crate::virtqueue::mapping::{PAGE, page_size};

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

/// What is known of the file behind a region.
#[derive(Clone, Copy, Debug)]
struct FileFacts {
    /// Its length in bytes.
    len: u64,
    /// Size of its pages in bytes.
    page: u64,
}

impl RegionRequest {
    /// Judges the four numbers alone.
    fn judge(&self) -> Result<(), String> {
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

    /// Where it ends in its file, in bytes.
    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.size).filter(|&end| i64::try_from(end).is_ok())
    }

    /// Judges the numbers against the file.
    fn judge_in(&self, file: FileFacts) -> Result<(), String> {
        if let Some(end) = self.end().filter(|&end| end > file.len) {
            return Err(format!(
                "its file is truncated: it has {:#x} bytes, the region needs {end:#x}; give the VMM a \
                 larger one, or less memory",
                file.len
            ));
        }
        if !self.size.is_multiple_of(file.page) || !self.offset.is_multiple_of(file.page) {
            return Err(format!(
                "it is a part of a huge page: the pages of its file have {}; give the VMM a memory \
                 size that is a multiple of that",
                size::text(file.page)
            ));
        }
        Ok(())
    }
}

/// How a front-end is made to use a file that is taken.
const REMEDY: &str = "QEMU: memory-backend-memfd,share=on; libvirt: <source type='memfd'/> and \
                      <access mode='shared'/>; cloud-hypervisor: shared=on";

/// Whether this region of this file can be used as guest memory.
///
/// # Errors
/// The reason, in words.
pub fn check_region(region: &RegionRequest, fd: &ReceivedFd) -> Result<(), String> {
    region.judge()?;
    region.judge_in(facts(fd)?)?;
    try_mapping(region, fd)
}

/// Asks a file that can be guest memory, and no other: the answer could be long in coming.
fn facts(fd: &ReceivedFd) -> Result<FileFacts, String> {
    if !fd.kind().is_memory() {
        return Err(format!(
            "its descriptor is {}; guest memory is taken from a {}; {REMEDY}",
            fd.kind(),
            memory_kinds()
        ));
    }
    let cannot = |error: io::Error| format!("its descriptor does not tell its size: {error}");
    let stat = fstat(&**fd).map_err(|errno| cannot(errno.into()))?;
    let page = page_size(&**fd).map_err(cannot)?;
    Ok(FileFacts { len: u64::try_from(stat.st_size).unwrap_or(0), page })
}

/// Maps the region and unmaps it at once, to learn whether that works; nothing is touched.
fn try_mapping(region: &RegionRequest, fd: &ReceivedFd) -> Result<(), String> {
    let cannot = |reason: String| format!("it cannot be mapped: {reason}; {REMEDY}");
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
    use proptest::prelude::*;
    use std::os::fd::OwnedFd;

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

    fn received(fd: impl Into<OwnedFd>) -> ReceivedFd {
        fd.into().into()
    }

    fn refusal(region: &RegionRequest, fd: &ReceivedFd) -> String {
        check_region(region, fd).unwrap_err()
    }

    #[test]
    fn a_truncated_file_and_a_pipe_are_refused_with_their_reason() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        let fd = received(file);
        assert_eq!(check_region(&region(0, 0x1000), &fd), Ok(()));
        let reason = refusal(&region(0, 0x2000), &fd);
        assert!(reason.contains("truncated") && reason.contains("0x1000"), "{reason}");
        let (pipe, _) = nix::unistd::pipe().unwrap();
        let reason = refusal(&region(0, 0x1000), &received(pipe));
        assert!(reason.contains("memfd") && reason.contains("share=on"), "{reason}");
        assert!(refusal(&region(0, 0), &fd).contains("empty"));
        assert!(refusal(&region(u64::MAX - 0xfff, 0x1000), &fd).contains("wraps"));
        let backing = RegionRequest { offset: u64::MAX - 0xfff, ..region(0, 0x1000) };
        assert!(refusal(&backing, &fd).contains("beyond"));
    }

    /// Seen before: /dev/zero was guest memory, of any size.
    #[test]
    fn bug_f23_a_device_is_no_memory() {
        let options = || std::fs::OpenOptions::new().read(true).write(true).clone();
        for device in ["/dev/zero", "/dev/null"] {
            let fd = received(options().open(device).unwrap());
            let reason = refusal(&region(0, 1 << 20), &fd);
            assert!(reason.contains("memfd") && reason.contains("libvirt"), "{reason}");
        }
    }

    /// Seen before: rings ran at odd host addresses, since regions may lie anywhere.
    #[test]
    fn bug_f20_whatever_is_not_at_a_page_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let fd = received(file);
        let good = RegionRequest { guest: 0x1000, size: 0x2000, user: 0x7000_0000, offset: 0x3000 };
        assert_eq!(check_region(&good, &fd), Ok(()));
        for odd in [1, 2, 16, 512, 2048, 4095] {
            for (name, bad) in [
                ("guest address", RegionRequest { guest: good.guest + odd, ..good }),
                ("user address", RegionRequest { user: good.user + odd, ..good }),
                ("size", RegionRequest { size: good.size + odd, ..good }),
                ("file offset", RegionRequest { offset: good.offset + odd, ..good }),
            ] {
                let reason = refusal(&bad, &fd);
                assert!(reason.contains(name) && reason.contains("4096"), "{bad}: {reason}");
            }
        }
    }

    proptest! {
        /// What is taken lies inside its file, is made of whole pages, and none of its sums overflows.
        #[test]
        fn bug_f4_what_is_taken_can_be_covered_and_unmapped(
            numbers in prop::array::uniform4(prop_oneof![
                any::<u64>(),
                (0u64..64).prop_map(|pages| pages * PAGE),
                (0u64..64).prop_map(|pages| (pages * PAGE).wrapping_neg()),
                (0u64..8).prop_map(|pages| pages << 21),
            ]),
            len in (0u64..64).prop_map(|pages| pages * PAGE),
            page in prop_oneof![Just(PAGE), Just(2 << 20), Just(1 << 30)],
        ) {
            let [guest, size, user, offset] = numbers;
            let region = RegionRequest { guest, size, user, offset };
            if region.judge().is_ok() && region.judge_in(FileFacts { len, page }).is_ok() {
                prop_assert!(size > 0 && offset + size <= len);
                prop_assert!(size % page == 0 && offset % page == 0);
                prop_assert!(guest % PAGE == 0 && user % PAGE == 0);
                let _ = (guest + size, user + size);
            }
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
