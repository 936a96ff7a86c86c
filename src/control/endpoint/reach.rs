//! May the user or group that is to connect pass the directories on the way?
//!
//! The right to write to a socket is worth nothing behind a directory that is closed. QEMU then
//! waits, or prints "Permission denied", and the back-end notices nothing. So if an owner or a
//! group is named, each directory from the root on is checked, and the first one that keeps them
//! out is reported.
//!
//! What can go wrong: access control lists, SELinux and the VMM's own sandbox are not checked. It
//! is therefore a warning and not an error.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, getgrouplist};

use crate::config::{Account, SocketAccess};

/// A directory that keeps a user or group out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    account: String,
    directory: PathBuf,
    mode: u32,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Obstacle { account, directory, mode } = self;
        let directory = directory.display();
        write!(
            f,
            "{account} cannot reach it: the directory {directory} (mode {mode:04o}) is closed to them; \
             open it (chmod o+x {directory}) or choose another path"
        )
    }
}

/// A directory's owner, group and permission bits.
#[derive(Clone, Copy)]
struct Lock {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Lock {
    /// Whether a user (if one is known) with these groups may pass: the kernel takes the first
    /// class that fits, and no other.
    fn lets(self, uid: Option<u32>, groups: &[u32]) -> bool {
        if uid == Some(0) {
            return true;
        }
        if uid == Some(self.uid) {
            return self.mode & 0o100 != 0;
        }
        if groups.contains(&self.gid) {
            return self.mode & 0o010 != 0;
        }
        self.mode & 0o001 != 0
    }
}

/// The first directory above `path` that keeps the named user out; without a user, the group.
pub(crate) fn obstacle(path: &Path, access: &SocketAccess) -> Option<Obstacle> {
    let (account, uid, groups) = match (&access.owner, &access.group) {
        (Some(owner), _) => (format!("user {}", owner.name), Some(owner.id), groups_of(owner)),
        (None, Some(group)) => (format!("group {}", group.name), None, vec![group.id]),
        (None, None) => return None,
    };
    let whole = std::fs::canonicalize(path.parent().filter(|p| !p.as_os_str().is_empty())?).ok()?;
    let mut above: Vec<&Path> = whole.ancestors().collect();
    above.reverse();
    for directory in above {
        let meta = std::fs::metadata(directory).ok()?;
        let lock = Lock { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 };
        if !lock.lets(uid, &groups) {
            return Some(Obstacle { account, directory: directory.to_owned(), mode: lock.mode });
        }
    }
    None
}

/// All groups of a user; none for a number without a name.
fn groups_of(owner: &Account) -> Vec<u32> {
    let user = User::from_uid(Uid::from_raw(owner.id)).ok().flatten();
    let groups = user.and_then(|user| {
        let name = std::ffi::CString::new(user.name).ok()?;
        getgrouplist(&name, user.gid).ok()
    });
    groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let lock = |mode| Lock { uid: 1, gid: 10, mode };
        assert!(lock(0o700).lets(Some(1), &[]) && !lock(0o700).lets(Some(2), &[10]));
        assert!(lock(0o710).lets(Some(2), &[10]) && !lock(0o710).lets(Some(2), &[11]));
        assert!(!lock(0o677).lets(Some(1), &[10]), "the owner's own bits, and no others");
        assert!(!lock(0o701).lets(None, &[10]) && lock(0o701).lets(None, &[11]));
        assert!(lock(0).lets(Some(0), &[]), "root passes");
    }

    #[test]
    fn the_closed_directory_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let owner = Some(Account { name: "4242".into(), id: 4242 });
        let access = SocketAccess { owner, ..SocketAccess::default() };
        let found = obstacle(&inner.join("vm.sock"), &access).unwrap();
        assert_eq!(found.directory, std::fs::canonicalize(dir.path()).unwrap());
        assert!(found.to_string().contains("user 4242 cannot reach it"), "{found}");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(obstacle(&inner.join("vm.sock"), &access), None);
        assert_eq!(obstacle(&inner.join("vm.sock"), &SocketAccess::default()), None);
    }
}
