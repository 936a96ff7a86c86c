//! A port's listening socket, from its reservation to its end.
//!
//! | file | idea |
//! | --- | --- |
//! | [`directory`] | the directory that a socket is in |
//! | [`location`] | a path: its directory, and what is there already |
//! | [`private`] | a directory of our own beside it, where the socket is made ready |
//! | [`reach`] | may the user or group that is to connect pass the directories? |
//!
//! A socket must not appear before it can be served, and must have its owner, group and mode before
//! any front-end can connect. So it is made in two steps. `Reserved::make` runs before any device
//! is made: it binds the socket in a private directory beside the path, gives it to its owner and
//! listens. Every reason why the path cannot be served shows there: a missing directory, a missing
//! right, a living process. `Reserved::publish` runs last of all: it renames the socket to its
//! path, which is one step for every observer.
//!
//! A path that exists is one of three things: the socket of a living process, which is refused with
//! its process id; the socket of a dead one, which is replaced; or no socket at all, which is left
//! alone. One listener lives as long as its port: a front-end that comes back always finds it. At
//! the end the path is removed, but only if it is still the socket that was made here.
//!
//! What can go wrong: `ss -xl` shows the name under which a socket was bound, so ours show the
//! private directory. The directory may belong to the VMM's user, who can rename files in it at any
//! moment: therefore owner and mode are set inside the private directory only, through its
//! descriptor.

pub(crate) mod directory;
pub(crate) mod location;
pub(crate) mod private;
pub(crate) mod reach;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat, renameat2};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::config::SocketAccess;
use crate::control::endpoint::location::{Location, Locations, Occupant};
use crate::control::endpoint::private::{Draft, Private};
use crate::control::endpoint::reach::Obstacle;
use crate::error::{Error, Result};

/// A socket that is ready, but not at its path yet.
#[derive(Debug)]
pub(crate) struct Reserved {
    listener: UnixListener,
    place: Location,
    draft: Draft,
    /// Device and inode of its file.
    made: (u64, u64),
    reported: Reported,
}

/// The log's facts of a socket when it is published.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    /// The users who may connect, in words.
    audience: String,
    /// The audience was left to the umask, and is one user.
    unasked: bool,
    /// The obstacle on the named user's or group's way to the socket.
    obstacle: Option<Obstacle>,
}

impl Reported {
    /// Logs that the port listens, and which users may connect.
    pub(crate) fn log(&self, port: &str, path: &Path) {
        let Reported { audience, unasked, obstacle } = self;
        let hint = if *unasked { "; --socket-owner lets another user's VMM in" } else { "" };
        info!("port {port}: listens at {}, for {audience}{hint}", path.display());
        if let Some(obstacle) = obstacle {
            warn!("port {port}: {}: {obstacle}", path.display());
        }
    }
}

impl Reserved {
    /// Makes the socket for `path` ready, in a private directory.
    ///
    /// # Errors
    /// The path is in use or not a socket; its directory is missing or closed to us; the owner, group
    /// or mode is not ours to give.
    pub(crate) fn make(
        places: &mut Locations,
        path: &Path,
        access: &SocketAccess,
    ) -> Result<Reserved> {
        let place = places.find(path)?;
        place.occupant()?;
        let draft = places.draft(&place)?;
        let (private, name) = (&draft.private, draft.name.as_os_str());
        let failed = |error: io::Error| crate::control::endpoint::location::explain(path, &error);
        let fd = bound(private, name).map_err(failed)?;
        private.admit(name, access).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => not_given(path, access, &error),
            _ => failed(error),
        })?;
        listen(&fd, Backlog::MAXCONN).map_err(|errno| failed(errno.into()))?;
        let made = private.look(name).map_err(failed)?;
        Ok(Reserved {
            listener: UnixListener::from(fd),
            reported: Reported {
                audience: places.audience(&made),
                unasked: *access == SocketAccess::default() && made.st_mode & 0o022 == 0,
                obstacle: crate::control::endpoint::reach::obstacle(path, access),
            },
            made: (made.st_dev, made.st_ino),
            place,
            draft,
        })
    }

    /// The facts for the log.
    pub(crate) fn reported(&self) -> Reported {
        self.reported.clone()
    }

    /// Puts the socket at its path.
    ///
    /// # Errors
    /// Another file has come to the path since the reservation.
    pub(crate) fn publish(self) -> Result<SocketFile> {
        publish(&self.place, &self.draft)?;
        Ok(SocketFile { listener: self.listener, place: self.place, made: self.made })
    }
}

/// The rename replaces only the socket of a dead process.
fn publish(place: &Location, draft: &Draft) -> Result<()> {
    let (from, to) = (&draft.private.fd, &place.directory.fd);
    let (old, new) = (draft.name.as_os_str(), place.name.as_os_str());
    let failed =
        |errno: Errno| crate::control::endpoint::location::explain(&place.path, &errno.into());
    match renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => return Ok(()),
        // EINVAL: a file system that cannot be told not to replace.
        Err(Errno::EEXIST | Errno::EINVAL | Errno::ENOSYS) => {}
        Err(errno) => return Err(failed(errno)),
    }
    if place.occupant()? == Occupant::Stale {
        info!("{}: replacing the socket of a process that has ended", place.object());
    }
    renameat(from, old, to, new).map_err(failed)
}

/// A socket bound in the private directory.
fn bound(private: &Private, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The path through the descriptor is short; the whole path might not fit into an address.
    let address = UnixAddr::new(&private.path.join(name)).or_else(|_| {
        let short = format!("/proc/self/fd/{}", private.fd.as_raw_fd());
        UnixAddr::new(&Path::new(&short).join(name))
    })?;
    bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

fn not_given(path: &Path, access: &SocketAccess, error: &io::Error) -> Error {
    let to = |what: &str, account: &Option<crate::config::Account>| {
        account.as_ref().map(|account| format!("{what} {}", account.name))
    };
    let to = [to("user", &access.owner), to("group", &access.group)];
    let to: Vec<String> = to.into_iter().flatten().collect();
    Error::permission(
        crate::control::endpoint::location::object(path),
        format!("it cannot be given to {}: {error}", to.join(" and ")),
        "run as root or with CAP_CHOWN; without it, only a group that you are in can be given \
         (--socket-group)",
    )
}

/// The way in which front-ends reach a port.
#[derive(Debug)]
pub enum Endpoint {
    /// Front-ends connect to our socket.
    Listening(SocketFile),
    /// We connect to the front-end; the next attempt is due at this time.
    Connecting(Instant),
    /// There was one inherited connection.
    Inherited,
}

/// A listening socket at its path.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    place: Location,
    made: (u64, u64),
}

impl SocketFile {
    /// Takes a connection that has come in, if one has.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl AsRawFd for SocketFile {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.place.remove(self.made);
    }
}

#[cfg(test)]
mod tests;
