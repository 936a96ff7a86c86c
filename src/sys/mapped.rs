//! Memory of the process that is mapped for as long as a value lives.
//!
//! The kernel chooses the address, so a new mapping replaces nothing. [`Mapped`] gives out a raw
//! pointer only: who may touch the memory, and when, is for the code that dereferences it. Guest
//! memory is not mapped here but by `virtqueue/mapping.rs`, which counts and watches it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr::{self, NonNull};

use libc::{c_int, off_t};
use nix::errno::Errno;

const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// A mapping. Dropping it unmaps it.
#[derive(Debug)]
pub(crate) struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread. Only a raw pointer to it is given out.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps `len` bytes of a file or a socket, from `offset` on, shared with the kernel and other
    /// processes.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(crate) fn shared(file: impl AsFd, offset: off_t, len: usize) -> io::Result<Mapped> {
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        Self::new(len, READ_WRITE, flags, file.as_fd().as_raw_fd(), offset)
    }

    /// Takes `len` bytes of address space, without access to them.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(crate) fn inaccessible(len: usize) -> io::Result<Mapped> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::new(len, libc::PROT_NONE, flags, -1, 0)
    }

    fn new(len: usize, access: c_int, flags: c_int, fd: RawFd, at: off_t) -> io::Result<Mapped> {
        // SAFETY: a new mapping at an address of the kernel's choice (no caller above gives
        // MAP_FIXED), so no memory in use changes.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, at) };
        match NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED) {
            Some(start) => Ok(Mapped { start, len }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// Where it begins: at the border of a page.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Allows access to `len` bytes, from `at` on: whole pages.
    ///
    /// # Errors
    /// EINVAL for what is not inside; those of mprotect(2).
    pub(crate) fn allow_access(&self, at: usize, len: usize) -> io::Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Errno::EINVAL.into());
        }
        let start = self.start().wrapping_add(at);
        // SAFETY: inside this mapping, as was just checked, and no access is taken away.
        Errno::result(unsafe { libc::mprotect(start.cast(), len, READ_WRITE) })?;
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped. Code that dereferences the pointer keeps this value
        // meanwhile.
        unsafe { libc::munmap(self.start().cast(), self.len) };
    }
}
