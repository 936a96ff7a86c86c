//! A port's listening socket.
//!
//! One listener lives as long as its port: a front-end that comes back always finds it. (A listener
//! that is unlinked and bound again for each connection has a gap in which it is not there.)
//!
//! A path that exists is one of three things: the socket of a living process, which is refused with its
//! process id; the socket of a dead one, which is taken over; or no socket at all, which is left alone.
//! At the end the path is removed, but only if it is still the socket that was made here.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use log::info;

use super::peer_pid;
use crate::error::{Error, Result};

/// A listening socket with its path.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    made: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The path is in use, too long, not a socket, or its directory is missing or closed to us.
    pub fn listen(path: &Path) -> Result<SocketFile> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)
            }
            other => other,
        }
        .map_err(|error| explain(path, &error))?;
        let made = fs::symlink_metadata(path)
            .and_then(|meta| listener.set_nonblocking(true).map(|()| (meta.dev(), meta.ino())))
            .map_err(|error| explain(path, &error))?;
        Ok(SocketFile { listener, path: path.to_owned(), made })
    }

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
        let still = fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        if still.is_ok_and(|still| still == self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn object(path: &Path) -> String {
    format!("socket {}", path.display())
}

fn remove_stale(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path).map_err(|error| explain(path, &error))?;
    if !meta.file_type().is_socket() {
        return Err(Error::failed(
            object(path),
            "something that is not a socket is in its place",
            "remove it or choose another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!("{}: taking over from a process that has gone", object(path));
            fs::remove_file(path).map_err(|error| explain(path, &error))
        }
        Ok(stream) => Err(Error::failed(
            object(path),
            format!("in use by process {}", peer_pid(&stream)),
            "end that process or choose another path",
        )),
        // Its queue is full, or we may not connect: alive either way.
        Err(error) => Err(Error::failed(
            object(path),
            format!("in use by a living process ({error})"),
            "end that process or choose another path",
        )),
    }
}

fn explain(path: &Path, error: &io::Error) -> Error {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match error.kind() {
        io::ErrorKind::NotFound => Error::failed(
            object(path),
            format!("there is no directory {}", directory.display()),
            "create it (mkdir -p) or choose another path",
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::failed(
            object(path),
            format!("no permission to create it in {}: {error}", directory.display()),
            "run as a user who may write there or choose another path",
        ),
        io::ErrorKind::InvalidInput => Error::failed(
            object(path),
            format!("the path has {} bytes, 107 is the limit", path.as_os_str().len()),
            "choose a shorter one",
        ),
        _ => Error::failed(object(path), error, "choose another path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path) -> String {
        match SocketFile::listen(path) {
            Err(Error::Failed(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_living_owner_is_named_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.sock");
        let first = SocketFile::listen(&path).unwrap();
        let text = message(&path);
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(first);
        assert!(!path.exists(), "removed at the end");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind by std");
        let second = SocketFile::listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(second.accept().unwrap().is_some());
        assert!(second.accept().unwrap().is_none());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "data").unwrap();
        assert!(message(&path).contains("not a socket"));
        assert_eq!(fs::read(&path).unwrap(), b"data");
        let missing = dir.path().join("no/such/vm.sock");
        assert!(message(&missing).contains("there is no directory"));
        let long = dir.path().join("x".repeat(120));
        assert!(message(&long).contains("107 is the limit"));
        let path = dir.path().join("replaced.sock");
        let ours = SocketFile::listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(ours);
        assert!(path.exists(), "another's file was removed");
    }
}
