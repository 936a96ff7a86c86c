//! Finding and opening a tap's character device, and never another one's.
//!
//! The node that udev users know, /dev/tapINDEX, is named after the interface index. Indices repeat
//! between network namespaces, /dev does not know namespaces, and opening does not check them: with
//! equal indices /dev/tap7 is *the other VM's* tap, and merely opening it adds a queue there and
//! takes a share of its frames. So:
//!
//! 1. the device number comes from a sysfs proven to be ours (`sysfs.rs`);
//! 2. /dev/tapINDEX is inspected without opening it (O_PATH) and opened only when it has that
//!    number, through the same descriptor, so that it cannot be swapped in between;
//! 3. otherwise a private node with that number is made in a directory only we can enter, opened, and
//!    removed. This also covers a node that does not exist (yet): /dev may be a container's tmpfs;
//! 4. the opened descriptor is asked for its name and address, which must be the device's.
//!
//! What can go wrong: node permissions (0600 root unless a udev rule says otherwise), missing
//! CAP_MKNOD, a user namespace (`rootless.rs`), a device cgroup that forbids the open, and file
//! systems mounted `nodev`, on which a node cannot be opened: several directories are tried.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, major, minor, mknod};
use nix::unistd::mkdtemp;

use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::{rootless, sysfs, tap_setup};

/// Where a private node may be made: /dev first, since /run and /tmp are often mounted nodev.
const PLACES: [&str; 3] = ["/dev", "/run", "/tmp"];

/// The character device of one macvtap.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    link: &'a LinkInfo,
    number: libc::dev_t,
}

impl<'a> Node<'a> {
    /// Finds the device number of `link`'s tap.
    pub(crate) fn find(link: &'a LinkInfo) -> Result<Node<'a>> {
        Ok(Node { link, number: sysfs::tap_device_number(link)? })
    }

    /// Opens one more queue and proves that it is this device's.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let public = open_public(&self.public_path(), self.number);
        let opened = match public {
            Ok(fd) => Ok(fd),
            Err(public) => open_private(self.number).map_err(|private| (public, private)),
        };
        let fd = opened.map_err(|(public, private)| self.explain(&public, &private))?;
        tap_setup::set_up(&fd).map_err(|error| self.failed(&error))?;
        let name = tap_setup::device_name(&fd).map_err(|error| self.failed(&error))?;
        let mac = tap_setup::device_mac(&fd).map_err(|error| self.failed(&error))?;
        if name != self.link.name || mac != self.link.mac {
            return Err(Error::system(
                self.object(),
                format!("opening it gave the tap of {name} ({mac}) instead"),
                "devices are being renamed or moved between namespaces: retry",
            ));
        }
        Ok(fd)
    }

    fn public_path(&self) -> String {
        format!("/dev/tap{}", self.link.index)
    }

    fn object(&self) -> String {
        let (name, number) = (&self.link.name, self.number);
        format!("macvtap {name}, character device {}:{}", major(number), minor(number))
    }

    fn failed(&self, error: &io::Error) -> Error {
        let remedy = "check that the device still exists: ip link";
        Error::system(self.object(), format!("cannot be set up: {error}"), remedy)
    }

    fn explain(&self, public: &io::Error, private: &io::Error) -> Error {
        let path = self.public_path();
        let errors = [public.raw_os_error(), private.raw_os_error()];
        if errors.contains(&Some(libc::EBUSY)) {
            return Error::limit(
                self.object(),
                "all 256 queues that the kernel allows are open",
                "use fewer queue pairs",
            );
        }
        let denied =
            |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
        let reason = format!("cannot be opened ({path}: {public}; a private node: {private})");
        if rootless::is_rootless() {
            Error::permission(self.object(), reason, rootless::REMEDY)
        } else if denied(public) {
            Error::permission(
                self.object(),
                reason,
                format!(
                    "give this user read and write permission on {path} (a udev rule), or run with \
                     CAP_DAC_OVERRIDE; in a container allow the device in its device cgroup"
                ),
            )
        } else if denied(private) {
            Error::permission(
                self.object(),
                reason,
                "grant CAP_MKNOD, and in a container allow the device in its device cgroup",
            )
        } else {
            Error::system(self.object(), reason, "check that the device still exists: ip link")
        }
    }
}

fn reading_and_writing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Opens the well-known node, if it is the one with that number; ENXIO if it is another's.
fn open_public(path: &str, number: libc::dev_t) -> io::Result<OwnedFd> {
    let look =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    if !is_device(&look, number)? {
        return Err(io::Error::from_raw_os_error(libc::ENXIO));
    }
    let same = format!("/proc/self/fd/{}", look.as_raw_fd());
    Ok(reading_and_writing().open(same)?.into())
}

fn is_device(file: &File, number: libc::dev_t) -> io::Result<bool> {
    let found = file.metadata()?;
    Ok(found.file_type().is_char_device() && found.rdev() == number)
}

/// Opens a node of our own making; the first refusal counts when no place works.
fn open_private(number: libc::dev_t) -> io::Result<OwnedFd> {
    let mut first = None;
    for place in PLACES {
        match open_private_in(place, number) {
            Ok(fd) => return Ok(fd),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

fn open_private_in(place: &str, number: libc::dev_t) -> io::Result<OwnedFd> {
    // mkdtemp makes it mode 0700 under a name that could not be prepared.
    let directory = mkdtemp(&Path::new(place).join(".vhost-user-macvtap-XXXXXX"))?;
    let node = directory.join("tap");
    let opened = mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, number)
        .map_err(io::Error::from)
        .and_then(|()| reading_and_writing().open(&node));
    // Both fail only if there is nothing to remove.
    let _ = fs::remove_file(&node);
    let _ = fs::remove_dir(&directory);
    Ok(opened?.into())
}
