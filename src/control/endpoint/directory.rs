//! A directory that sockets are in, opened once.
//!
//! Every later step goes through the descriptor, so renames above the directory do no harm. Two
//! paths may lead to one directory, so directories are compared by device and inode.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

/// A directory that sockets are in.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
    /// Device and inode.
    pub(crate) id: (u64, u64),
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// It does not exist, is no directory, or may not be passed.
    pub(crate) fn open(path: &Path) -> io::Result<Directory> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Directory { fd, path: path.to_owned(), id: (stat.st_dev, stat.st_ino) })
    }
}
