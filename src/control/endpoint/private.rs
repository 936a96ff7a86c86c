//! A directory of our own, where sockets are made ready.
//!
//! It lies beside the sockets' paths, so that a rename brings a socket there, and only this
//! process's user can enter it. The directory above may belong to another user, who can rename or
//! replace it: every step that matters goes through the descriptor. A socket that was bound
//! elsewhere by such a trick is not found here afterwards, and the start fails.
//!
//! What can go wrong: a process that is killed during its start leaves the directory behind. It is
//! harmless, and its name contains the process id.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid, unlinkat};

use crate::config::SocketAccess;
use crate::control::endpoint::directory::Directory;

/// How many names are tried: one may be left from a killed process with our process id.
const ATTEMPTS: u32 = 100;

/// A directory that only our user can enter.
#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
    above: Arc<Directory>,
    name: String,
}

impl Private {
    /// Makes one in `above`.
    pub(crate) fn make(above: &Arc<Directory>) -> io::Result<Private> {
        for number in 0..ATTEMPTS {
            let name = format!(".vhost-user-macvtap-{}-{number}", std::process::id());
            match mkdirat(&above.fd, name.as_str(), Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(&above.fd, name.as_str(), flags, Mode::empty())?;
            let stat = fstat(&fd)?;
            let open = Mode::from_bits_truncate(stat.st_mode) & (Mode::S_IRWXG | Mode::S_IRWXO);
            if stat.st_uid != geteuid().as_raw() || !open.is_empty() {
                return Err(io::Error::other("another process changes the directory meanwhile"));
            }
            let path = above.path.join(&name);
            return Ok(Private { fd, path, above: Arc::clone(above), name });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives the socket `name` its mode, owner and group. The mode first: a file that is given away
    /// is no longer ours to change.
    pub(crate) fn admit(&self, name: &OsStr, access: &SocketAccess) -> io::Result<()> {
        if let Some(bits) = access.bits() {
            let mode = Mode::from_bits_truncate(bits);
            fchmodat(self.fd.as_fd(), name, mode, FchmodatFlags::FollowSymlink)?;
        }
        let owner = access.owner.as_ref().map(|account| Uid::from_raw(account.id));
        let group = access.group.as_ref().map(|account| Gid::from_raw(account.id));
        if owner.is_some() || group.is_some() {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(self.fd.as_fd(), name, owner, group, flags)?;
        }
        Ok(())
    }

    /// The file of the socket `name`.
    pub(crate) fn look(&self, name: &OsStr) -> io::Result<FileStat> {
        let stat = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFSOCK => Ok(stat),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Removes the file `name`, which may be there.
    pub(crate) fn remove(&self, name: &OsStr) {
        let _ = unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir);
    }
}

/// A socket's file while it is in the private directory. Removing it after a rename finds nothing.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) private: Arc<Private>,
    pub(crate) name: OsString,
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.private.remove(&self.name);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let removed = unlinkat(&self.above.fd, self.name.as_str(), UnlinkatFlags::RemoveDir);
        if let Err(errno) = removed {
            log::debug!("{}: stays behind: {errno}", self.path.display());
        }
    }
}
