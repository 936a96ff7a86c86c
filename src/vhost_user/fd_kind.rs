//! The kind of a front-end's descriptor, found out without a call to the object behind it.
//!
//! A front-end may send any descriptor in the place of memory or of an eventfd. The object itself
//! answers most questions about a descriptor: `fstat` and `fstatfs` of a file on FUSE go to a
//! server, which may be the front-end's own and may never answer; `poll` runs the object's code;
//! even `close` waits for a FUSE server, uninterruptibly, so that not even SIGKILL ends the
//! process. Therefore the first questions go only to the kernel's own records:
//!
//! | question | answered from |
//! | --- | --- |
//! | readlink of `/proc/self/fd/N` | the name: `anon_inode:[eventfd]`, `pipe:[7]`, `socket:[7]`, or a path |
//! | `F_GET_SEALS` | the type of the address space: only shared memory (memfd, tmpfs, hugetlbfs) has seals |
//! | `mnt_id` in `/proc/self/fdinfo/N` | the open file; its mount is in `/proc/self/mountinfo` or not |
//! | `statx` with `AT_STATX_DONT_SYNC` | the cached inode: the device number, for a mount that is not ours |
//!
//! `fstat` may then be used on a path whose file system is one of ours (a local disk, say). Every
//! other descriptor is [`FdKind::Foreign`]: neither queried nor closed (`received_fd.rs`).
//!
//! Names cannot be forged: a path begins with `/`, and the kernel gives the names without one. A
//! VMM in a mount namespace of its own (libvirt's) has mounts with ids that are not in our list;
//! the file system behind them is found by its device number, if we have it mounted as well.
//!
//! What can go wrong: without `/proc` every descriptor is foreign. Network file systems, overlayfs
//! and FUSE are refused as guest memory on purpose: another party decides when a page of theirs
//! comes.

use std::fmt;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::{SFlag, fstat, major};

/// File systems whose files are taken as guest memory; memfd, tmpfs and hugetlbfs are known by
/// their seals.
pub const MEMORY_FILE_SYSTEMS: [&str; 9] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "ramfs"];
/// More file systems of the kernel's own: queries and closing wait for no other party.
const LOCAL_FILE_SYSTEMS: [&str; 10] = [
    "tmpfs",
    "hugetlbfs",
    "devtmpfs",
    "proc",
    "sysfs",
    "cgroup2",
    "squashfs",
    "erofs",
    "vfat",
    "iso9660",
];
/// Anonymous objects whose closing is short. The others (a KVM machine, a VFIO device) may take
/// their time.
const SIMPLE_OBJECTS: [&str; 3] = ["[eventpoll]", "[timerfd]", "[signalfd]"];
/// Device number of `/dev/null` and its kin: closing them has no effect.
const MEMORY_DEVICES: u64 = 1;
/// Longest part of a name that is repeated in a message, in characters.
const SHOWN: usize = 80;

/// The kind of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdKind {
    /// An eventfd.
    EventFd,
    /// A memfd, or a file on tmpfs or hugetlbfs.
    SharedMemory,
    /// A plain file on a file system of [`MEMORY_FILE_SYSTEMS`].
    RegularFile {
        /// The file system's type.
        file_system: String,
    },
    /// A pipe.
    Pipe,
    /// A socket, of any family.
    Socket,
    /// An object of another kind whose closing waits for no other party; described.
    Other(String),
    /// An object that must be neither queried nor closed: either may wait for another party;
    /// described.
    Foreign(String),
}

impl FdKind {
    /// The kind of `fd`. Never waits for another party than the kernel.
    pub fn of(fd: BorrowedFd<'_>) -> FdKind {
        let number = fd.as_raw_fd();
        let Ok(name) = fs::read_link(format!("/proc/self/fd/{number}")) else {
            return FdKind::Foreign("a descriptor that /proc does not describe".into());
        };
        let name = name.to_string_lossy();
        if !name.starts_with('/') {
            return FdKind::of_object(&name);
        }
        if fcntl(fd, FcntlArg::F_GET_SEALS).is_ok() {
            return FdKind::SharedMemory;
        }
        let name = shown(&name);
        match file_system(fd) {
            Some(fs) if is_memory(&fs) || LOCAL_FILE_SYSTEMS.contains(&fs.as_str()) => {
                FdKind::of_local_file(fd, fs, &name)
            }
            Some(fs) => FdKind::Foreign(format!("the file {name} on {fs}")),
            None => FdKind::Foreign(format!("the file {name} on an unknown file system")),
        }
    }

    /// An object without a path.
    fn of_object(name: &str) -> FdKind {
        let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
        match (kind, rest) {
            ("anon_inode", "[eventfd]") => FdKind::EventFd,
            ("pipe", _) => FdKind::Pipe,
            ("socket", _) => FdKind::Socket,
            ("anon_inode", object) if SIMPLE_OBJECTS.contains(&object) => {
                FdKind::Other(format!("the object {object}"))
            }
            _ => FdKind::Foreign(format!("the object {}", shown(name))),
        }
    }

    /// A file of a file system that may be asked.
    fn of_local_file(fd: BorrowedFd<'_>, file_system: String, name: &str) -> FdKind {
        let Ok(stat) = fstat(fd) else {
            return FdKind::Other(format!("the file {name}"));
        };
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG if is_memory(&file_system) => FdKind::RegularFile { file_system },
            SFlag::S_IFREG => FdKind::Other(format!("the file {name} on {file_system}")),
            SFlag::S_IFDIR => FdKind::Other(format!("the directory {name}")),
            SFlag::S_IFIFO => FdKind::Pipe,
            SFlag::S_IFCHR if major(stat.st_rdev) == MEMORY_DEVICES => {
                FdKind::Other(format!("the device {name}"))
            }
            // Closing a terminal waits for its output, closing a tape rewinds it.
            SFlag::S_IFCHR | SFlag::S_IFBLK => FdKind::Foreign(format!("the device {name}")),
            _ => FdKind::Other(format!("the file {name}")),
        }
    }

    /// Whether it is a file that can be guest memory. Its size, block size and seals may be asked
    /// for then, without waiting for another party.
    pub fn is_memory(&self) -> bool {
        matches!(self, FdKind::SharedMemory | FdKind::RegularFile { .. })
    }

    /// Whether closing it may wait for another party, so that it must not be closed.
    pub fn is_foreign(&self) -> bool {
        matches!(self, FdKind::Foreign(_))
    }
}

impl fmt::Display for FdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FdKind::EventFd => f.write_str("an eventfd"),
            FdKind::SharedMemory => f.write_str("shared memory"),
            FdKind::RegularFile { file_system } => write!(f, "a plain file on {file_system}"),
            FdKind::Pipe => f.write_str("a pipe"),
            FdKind::Socket => f.write_str("a socket"),
            FdKind::Other(text) | FdKind::Foreign(text) => f.write_str(text),
        }
    }
}

/// The accepted kinds of guest memory, for the message of a refusal.
pub fn memory_kinds() -> String {
    format!("memfd, hugetlbfs, tmpfs, or a plain file on {}", MEMORY_FILE_SYSTEMS.join(", "))
}

fn is_memory(file_system: &str) -> bool {
    MEMORY_FILE_SYSTEMS.contains(&file_system)
}

/// A name that another party chose, made fit for the log.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

/// The type of the file system that holds an open file, if a mount of ours shows it.
fn file_system(fd: BorrowedFd<'_>) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().filter_map(Mount::parse).find(|entry| entry.id == mount).map_or_else(
        || {
            let device = cached_device(fd)?;
            let same = |entry: &Mount<'_>| entry.device == device;
            mounts.lines().filter_map(Mount::parse).find(same).map(|entry| entry.kind.to_owned())
        },
        |entry| Some(entry.kind.to_owned()),
    )
}

/// One line of `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
struct Mount<'a> {
    id: &'a str,
    device: &'a str,
    kind: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        // A field never holds a space: the kernel writes \040.
        let (place, source) = line.split_once(" - ")?;
        let mut place = place.split(' ');
        let (id, device) = (place.next()?, place.nth(1)?);
        Some(Mount { id, device, kind: source.split(' ').next()? })
    }
}

/// The device number of a file, as mountinfo writes it, from the inode as the kernel has it.
fn cached_device(fd: BorrowedFd<'_>) -> Option<String> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is an empty C string and the buffer a statx, which is numbers: all zero is a
    // valid one, and so is what the kernel writes. The mask is 0, so the kernel gives only
    // cached fields: no file system asks its server then (Linux 4.20 and later).
    let (outcome, stat) = unsafe {
        let path = c"".as_ptr();
        (libc::statx(fd.as_raw_fd(), path, flags, 0, stat.as_mut_ptr()), stat.assume_init())
    };
    (outcome == 0).then(|| format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    use nix::sys::eventfd::EventFd;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    #[test]
    fn names_what_front_ends_send() {
        let memfd = memfd_create(c"anon_inode:[eventfd]", MFdFlags::empty()).unwrap();
        assert_eq!(FdKind::of(memfd.as_fd()), FdKind::SharedMemory);
        assert_eq!(FdKind::of(EventFd::new().unwrap().as_fd()), FdKind::EventFd);
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(FdKind::of(reader.as_fd()), FdKind::Pipe);
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(FdKind::of(one.as_fd()), FdKind::Socket);
        let epoll: OwnedFd = Epoll::new(EpollCreateFlags::empty()).unwrap().0;
        assert_eq!(FdKind::of(epoll.as_fd()), FdKind::Other("the object [eventpoll]".into()));
    }

    #[test]
    fn only_shared_memory_and_plain_files_are_memory() {
        for (path, memory) in [("/dev/zero", false), ("/dev/null", false), ("/", false)] {
            let kind = FdKind::of(File::open(path).unwrap().as_fd());
            assert_eq!(kind.is_memory(), memory, "{path}: {kind}");
        }
        let proc = FdKind::of(File::open("/proc/self/maps").unwrap().as_fd());
        assert!(!proc.is_memory() && !proc.is_foreign(), "{proc}");
        let null = FdKind::of(File::open("/dev/null").unwrap().as_fd());
        assert!(!null.is_foreign(), "{null}");
        let shm = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(FdKind::of(shm.as_fd()), FdKind::SharedMemory);
    }

    #[test]
    fn a_device_that_may_wait_is_not_closed() {
        let fuse = FdKind::of_object("anon_inode:kvm-vm");
        assert!(fuse.is_foreign());
        let Ok(terminal) = File::open("/dev/ptmx") else { return };
        let kind = FdKind::of(terminal.as_fd());
        assert!(kind.is_foreign() && !kind.is_memory(), "{kind}");
    }

    #[test]
    fn reads_mountinfo() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.device, mount.kind), ("36", "98:0", "ext3"));
        let line = "66 35 0:44 / /mnt ro - fuse.sshfs host:/ rw";
        assert_eq!(Mount::parse(line).unwrap().kind, "fuse.sshfs");
        assert!(Mount::parse("36 35").is_none());
        assert!(Mount::parse("").is_none());
    }

    #[test]
    fn a_name_of_another_party_cannot_write_lines_of_the_log() {
        assert_eq!(shown("/a\nb\u{1b}"), "/a\\nb\\u{1b}");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN);
    }
}
