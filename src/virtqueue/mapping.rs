//! One region of guest memory, mapped and watched.
//!
//! A [`Mapping`] is the only way by which this program touches guest memory. It is counted before
//! it is made (`address_space.rs`), watched for SIGBUS before any access (`fault.rs`), and shared:
//! a map that replaces another one takes over the mappings of the regions that stay. Each holder
//! has it by an `Arc`. When the last holder drops it, no access is possible any more; then the
//! watch ends, and the region is unmapped. (The vhost crate maps each region once more, for itself;
//! that mapping is never touched.)
//!
//! Two problems cannot arise, because a region that is not made of whole pages of its file is
//! refused. A part of a huge page cannot be unmapped, and the handler could not put zeros in its
//! place.
//!
//! Unmapping cannot fail for want of a mapping: the kernel needs one more only when it splits one,
//! and the guests may have three quarters of its limit. Should it fail, the mapping stays counted
//! and its connection can map no more.
//!
//! Pages that we touch first are charged to our control group, not to the VMM's, and count in our
//! resident size. A shared mapping cannot be charged to another: the kernel charges the group of
//! the thread that faults a page in, and keeps to that. Only the VMM can change it, by touching all
//! pages first (`prealloc=on`); see docs/operations.md, "Who pays for guest memory".

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use log::error;
use nix::sys::statfs::{FsType, fstatfs};

use crate::virtqueue::address_space::MappedAccount;
use crate::virtqueue::fault::Watch;

/// Size of an ordinary page in bytes: guest addresses and sizes are multiples of it. Machines with
/// larger pages refuse a region that does not fit when it is mapped.
pub const PAGE: u64 = 4096;

/// The file system of huge pages (`linux/magic.h`).
const HUGETLBFS: FsType = FsType(libc::HUGETLBFS_MAGIC as _);

/// The size of the pages that a mapping of this file is made of, in bytes. Asks the file system:
/// only for files of which it is known that they answer at once.
///
/// # Errors
/// The file system does not report it.
pub fn page_size(file: impl AsFd) -> io::Result<u64> {
    let stat = fstatfs(file)?;
    Ok(if stat.filesystem_type() == HUGETLBFS { stat.block_size() as u64 } else { PAGE })
}

/// A mapped and watched region.
#[derive(Debug)]
pub struct Mapping {
    host: *mut u8,
    len: usize,
    watch: Option<Watch>,
    account: Arc<MappedAccount>,
}

// SAFETY: the pointer is into a shared mapping without thread affinity, which lives as long as this
// does. Code that dereferences it justifies the access.
unsafe impl Send for Mapping {}
// SAFETY: as above; a mapping does not change after it was made.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset` on.
    ///
    /// # Errors
    /// The region is not made of whole pages, there is no address space left for it, or the kernel
    /// refuses to map it.
    pub fn new(
        file: impl AsFd,
        offset: u64,
        len: u64,
        account: &Arc<MappedAccount>,
    ) -> io::Result<Arc<Mapping>> {
        let page = page_size(&file)?;
        let wrong = |_| io::Error::from(io::ErrorKind::InvalidInput);
        if len == 0 || !len.is_multiple_of(page) || !offset.is_multiple_of(page) {
            return Err(io::Error::other(format!("it is not made of whole pages of {page} bytes")));
        }
        let page = usize::try_from(page).map_err(wrong)?;
        let size = usize::try_from(len).map_err(wrong)?;
        let start = libc::off_t::try_from(offset).map_err(wrong)?;
        account.take(len).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // No reserve, as every back-end does: the VMM decides whether its huge pages are reserved.
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let (null, fd) = (std::ptr::null_mut(), file.as_fd().as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let host = unsafe { libc::mmap(null, size, protection, flags, fd, start) };
        if host == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            account.give_back(len);
            return Err(error);
        }
        let host = host.cast();
        // SAFETY: exactly the mapping made above, in pages of this size. `Drop` ends the watch
        // before it unmaps, when no holder is left that could touch it. `Mapping::host` says that
        // any byte may change at any time.
        let watch = unsafe { Watch::new(host, size, page) };
        Ok(Arc::new(Mapping { host, len: size, watch: Some(watch), account: Arc::clone(account) }))
    }

    /// Where it is mapped. The guest may write to it at any time, and its pages may become zeros.
    pub fn host(&self) -> *mut u8 {
        self.host
    }

    /// True when pages of it were missing and it has been replaced by zeros.
    pub fn lost(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::lost)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.watch = None;
        // SAFETY: exactly what `new` mapped, and the last holder is here.
        if unsafe { libc::munmap(self.host.cast(), self.len) } == 0 {
            self.account.give_back(self.len as u64);
        } else if self.account.condemn() {
            let error = io::Error::last_os_error();
            error!("guest memory cannot be unmapped: {error}; its connection can map no more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn a_mapping_is_watched_from_its_first_moment_on() {
        crate::virtqueue::fault::install().unwrap();
        let file = file(8 * PAGE);
        let account = Arc::default();
        let mapping = Mapping::new(&file, PAGE, 7 * PAGE, &account).unwrap();
        file.set_len(0).unwrap();
        // SAFETY: inside the mapping, which is watched.
        assert_eq!(unsafe { mapping.host().add(100).read_volatile() }, 0);
        assert!(mapping.lost());
    }

    #[test]
    fn what_is_not_made_of_whole_pages_is_not_mapped() {
        let file = file(8 * PAGE);
        for (offset, len) in [(0, 0), (0, 100), (100, PAGE), (0, PAGE + 1), (u64::MAX - 4095, PAGE)]
        {
            assert!(Mapping::new(&file, offset, len, &Arc::default()).is_err(), "{offset} {len}");
        }
    }

    /// Seen before: 128 KiB of a huge page were mapped. They could neither be covered nor unmapped,
    /// and mappings piled up until no thread could start. No huge page is needed for this test.
    #[test]
    fn bug_f5_a_part_of_a_huge_page_is_not_mapped() {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let flags = MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
        let Ok(huge) = memfd_create("guest-ram", flags).map(File::from) else {
            panic!("this kernel has no huge pages of 2 MiB");
        };
        huge.set_len(4 << 20).unwrap();
        assert_eq!(page_size(&huge).unwrap(), 2 << 20);
        for (offset, len) in [(0, 128 << 10), (PAGE, 2 << 20), (2 << 20, PAGE), (0, 3 << 20)] {
            let outcome = Mapping::new(&huge, offset, len, &Arc::default());
            assert!(
                outcome.is_err_and(|error| error.to_string().contains("whole pages of 2097152"))
            );
        }
    }
}
