//! A socket's path: its directory, and the file that is there already.
//!
//! The directory is opened once and every later step goes through the descriptor. So the socket is
//! made, published and removed in one and the same directory, even if the names above it change.
//! Two paths may lead to one place (a symbolic link, `/var/run` and `/run`), so places are compared
//! by directory and name, not by their spelling.
//!
//! What can go wrong: to find out whether a socket's process lives, we must connect to it, and that
//! process sees the connection begin and end. The connection does not wait: a full backlog is a
//! living process too.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::UnixAddr;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::{Gid, Group, Uid, UnlinkatFlags, User, unlinkat};

use crate::control::endpoint::directory::Directory;
use crate::control::endpoint::private::{Draft, Private};
use crate::error::{Error, Result};
use crate::process::unix_socket::{connect_to, peer_pid};

/// The place for a socket.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) directory: Arc<Directory>,
    pub(crate) name: OsString,
    pub(crate) path: PathBuf,
}

/// The state of a place that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    Nothing,
    /// The socket of a process that has ended.
    Stale,
}

/// The places of all ports, while they are reserved: a private directory that several ports share
/// is made once.
#[derive(Debug, Default)]
pub(crate) struct Locations {
    directories: HashMap<PathBuf, Arc<Directory>>,
    private: HashMap<(u64, u64), Arc<Private>>,
    taken: HashMap<(u64, u64, OsString), PathBuf>,
    audiences: HashMap<(u32, u32, u32), String>,
}

impl Locations {
    /// The place of `path`, which no other port may have.
    pub(crate) fn find(&mut self, path: &Path) -> Result<Location> {
        let failed = |error: io::Error| explain(path, &error);
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let directory = match self.directories.get(above) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(Directory::open(above).map_err(failed)?);
                self.directories.insert(above.to_owned(), Arc::clone(&new));
                new
            }
        };
        let id = (directory.id.0, directory.id.1, name.to_owned());
        if let Some(other) = self.taken.insert(id, path.to_owned()) {
            return Err(Error::duplicate(
                format!("{} and {}", object(&other), object(path)),
                "are two names of one path",
                "give each port its own",
            ));
        }
        Ok(Location { directory, name: name.to_owned(), path: path.to_owned() })
    }

    /// The private directory beside a place.
    fn private(&mut self, place: &Location) -> Result<Arc<Private>> {
        if let Some(known) = self.private.get(&place.directory.id) {
            return Ok(Arc::clone(known));
        }
        let new = Private::make(&place.directory).map_err(|error| explain(&place.path, &error))?;
        let new = Arc::new(new);
        self.private.insert(place.directory.id, Arc::clone(&new));
        Ok(new)
    }

    /// The file in the private directory that will be the socket at a place. It has the same name,
    /// which `ss` shows, unless the whole path would be too long for a socket's address.
    pub(crate) fn draft(&mut self, place: &Location) -> Result<Draft> {
        let private = self.private(place)?;
        let fits = UnixAddr::new(&private.path.join(&place.name)).is_ok();
        let short = || OsString::from(format!(".{}", self.taken.len()));
        let name = if fits { place.name.clone() } else { short() };
        Ok(Draft { private, name })
    }

    /// The users who may connect to a socket with this file, in words; root always may.
    pub(crate) fn audience(&mut self, file: &FileStat) -> String {
        let key = (file.st_uid, file.st_gid, file.st_mode & 0o222);
        self.audiences.entry(key).or_insert_with(|| audience(key)).clone()
    }
}

fn audience((uid, gid, write): (u32, u32, u32)) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let user = format!("user {}", user.map_or_else(|| uid.to_string(), |user| user.name));
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    let group = format!("group {}", group.map_or_else(|| gid.to_string(), |group| group.name));
    match (write & 0o200 != 0, write & 0o020 != 0, write & 0o002 != 0) {
        (_, _, true) => "every user".to_owned(),
        (true, true, _) => format!("{user} and {group}"),
        (false, true, _) => group,
        _ => user,
    }
}

impl Location {
    /// The socket in the words of a message.
    pub(crate) fn object(&self) -> String {
        object(&self.path)
    }

    fn look(&self) -> nix::Result<FileStat> {
        fstatat(&self.directory.fd, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The file that is there, if a socket of ours may take its place.
    ///
    /// # Errors
    /// A living process's socket is there, or a file that is no socket.
    pub(crate) fn occupant(&self) -> Result<Occupant> {
        let stat = match self.look() {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(Occupant::Nothing),
            Err(errno) => return Err(explain(&self.path, &errno.into())),
        };
        if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFSOCK {
            return Err(Error::socket_path(
                self.object(),
                "its path exists and is not a socket",
                "remove it or choose another path",
            ));
        }
        let remedy = "end that process or choose another path";
        match connect_to(&self.path) {
            Ok(stream) => Err(Error::in_use(
                self.object(),
                format!("in use by process {}", peer_pid(&stream)),
                remedy,
            )),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Occupant::Stale),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nothing),
            // Its queue is full, or it is of another kind, or we may not connect: alive in any
            // case.
            Err(error) => {
                let reason = format!("in use by a running process ({error})");
                Err(Error::in_use(self.object(), reason, remedy))
            }
        }
    }

    /// Removes the file if it is this one (device and inode).
    pub(crate) fn remove(&self, made: (u64, u64)) {
        let still = self.look().is_ok_and(|stat| (stat.st_dev, stat.st_ino) == made);
        if still {
            // Another program may have removed it; at the end of a port that does not matter.
            let _ = unlinkat(&self.directory.fd, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// A socket in the words of a message.
pub(crate) fn object(path: &Path) -> String {
    format!("socket {}", path.display())
}

/// The meaning of the system's refusal for a socket at `path`.
pub(crate) fn explain(path: &Path, error: &io::Error) -> Error {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::NotFound => Error::socket_path(
            object(path),
            format!("there is no directory {directory}"),
            "create it (mkdir -p) or choose another path",
        ),
        io::ErrorKind::NotADirectory => Error::socket_path(
            object(path),
            format!("{directory} is not a directory"),
            "choose a path in a directory",
        ),
        io::ErrorKind::IsADirectory => Error::socket_path(
            object(path),
            "it names no file",
            "add the socket's name, as vm1.sock",
        ),
        io::ErrorKind::PermissionDenied => Error::permission(
            object(path),
            format!("no permission to create it in {directory}: {error}"),
            "run as a user who may write there or choose another path",
        ),
        io::ErrorKind::ReadOnlyFilesystem => Error::socket_path(
            object(path),
            format!("it cannot be created in {directory}: {error}"),
            "choose a path that can be written to, in /run for example",
        ),
        io::ErrorKind::InvalidInput => Error::socket_path(
            object(path),
            format!("the path has {} bytes, 107 is the limit", path.as_os_str().len()),
            "choose a shorter one",
        ),
        _ => Error::socket_path(object(path), error, "choose another path"),
    }
}
