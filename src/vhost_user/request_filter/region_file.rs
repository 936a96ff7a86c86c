//! The file behind a memory region, checked before anything maps it.
//!
//! A mapping accepts its arguments without a check of the file: a region that is longer than its
//! file is mapped without an error and then raises SIGBUS at the first access; a part of a huge
//! page is mapped without an error and can be neither unmapped nor covered with zeros. So three
//! things are judged in turn: the region's four numbers alone (`region.rs`), the kind of file, and
//! the numbers against the file's length and pages. Then the mapping is tried, which gives the
//! reason for a descriptor that cannot be mapped. No check can ensure that the file keeps its
//! length; see docs/architecture.md, "What is trusted".

use std::io;

use nix::sys::stat::fstat;

use crate::config::size;
use crate::sys::mapped::Mapped;
use crate::vhost_user::fd_kind::memory_kinds;
use crate::vhost_user::received_fd::ReceivedFd;
use crate::vhost_user::request_filter::region::RegionRequest;
use crate::virtqueue::mapping::page_size;

/// The known facts of the file behind a region.
#[derive(Clone, Copy, Debug)]
struct FileFacts {
    /// Its length in bytes.
    len: u64,
    /// Size of its pages in bytes.
    page: u64,
}

/// Judges a region's numbers against its file.
fn judge_in(region: &RegionRequest, file: FileFacts) -> Result<(), String> {
    if let Some(end) = region.end().filter(|&end| end > file.len) {
        return Err(format!(
            "its file is truncated: it has {:#x} bytes, the region needs {end:#x}; give the VMM a \
             larger one, or less memory",
            file.len
        ));
    }
    if !region.size.is_multiple_of(file.page) || !region.offset.is_multiple_of(file.page) {
        return Err(format!(
            "it is a part of a huge page: the pages of its file have {}; give the VMM a memory \
             size that is a multiple of that",
            size::text(file.page)
        ));
    }
    Ok(())
}

/// The way to make a front-end use a file that is accepted.
const REMEDY: &str = "QEMU: memory-backend-memfd,share=on; libvirt: <source type='memfd'/> and \
                      <access mode='shared'/>; cloud-hypervisor: shared=on";

/// Whether this region of this file can be used as guest memory.
///
/// # Errors
/// The reason, in words.
pub fn check_region(region: &RegionRequest, fd: &ReceivedFd) -> Result<(), String> {
    region.judge()?;
    judge_in(region, facts(fd)?)?;
    try_mapping(region, fd)
}

/// Queries length and pages, but only of a file that can be guest memory: another may not answer
/// for long.
fn facts(fd: &ReceivedFd) -> Result<FileFacts, String> {
    if !fd.kind().is_memory() {
        return Err(format!(
            "its descriptor is {}; guest memory must be a {}; {REMEDY}",
            fd.kind(),
            memory_kinds()
        ));
    }
    let cannot = |error: io::Error| format!("its descriptor does not report its size: {error}");
    let stat = fstat(&**fd).map_err(|errno| cannot(errno.into()))?;
    let page = page_size(&**fd).map_err(cannot)?;
    Ok(FileFacts { len: u64::try_from(stat.st_size).unwrap_or(0), page })
}

/// Maps the region and unmaps it at once, to find out whether that works; no byte is touched.
fn try_mapping(region: &RegionRequest, fd: &ReceivedFd) -> Result<(), String> {
    let cannot = |reason: String| format!("it cannot be mapped: {reason}; {REMEDY}");
    let size = usize::try_from(region.size).map_err(|error| cannot(error.to_string()))?;
    let offset = i64::try_from(region.offset).map_err(|error| cannot(error.to_string()))?;
    Mapped::shared(fd, offset, size).map_err(|error| cannot(error.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtqueue::mapping::PAGE;
    use proptest::prelude::*;
    use std::os::fd::OwnedFd;

    fn region(guest: u64, size: u64) -> RegionRequest {
        RegionRequest { guest, size, user: 0x7000_0000, offset: 0 }
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
        /// An accepted region lies inside its file, is made of whole pages, and none of its sums
        /// overflows.
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
            if region.judge().is_ok() && judge_in(&region, FileFacts { len, page }).is_ok() {
                prop_assert!(size > 0 && offset + size <= len);
                prop_assert!(size % page == 0 && offset % page == 0);
                prop_assert!(guest % PAGE == 0 && user % PAGE == 0);
                let _ = (guest + size, user + size);
            }
        }
    }
}
