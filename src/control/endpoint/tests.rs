//! Reserving, publishing and leaving a path.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn reserve(path: &Path) -> Result<Reserved> {
    Reserved::make(&mut Locations::default(), path, &SocketAccess::default())
}

fn listen_at(path: &Path) -> Result<SocketFile> {
    reserve(path)?.publish()
}

fn message(path: &Path) -> String {
    reserve(path).unwrap_err().to_string()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_living_owner_is_named_a_dead_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.sock");
    let first = listen_at(&path).unwrap();
    let text = message(&path);
    assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
    drop(first);
    assert!(!path.exists(), "removed at the end");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind by std");
    let second = listen_at(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    assert!(second.accept().unwrap().is_some());
    assert!(second.accept().unwrap().is_none());
    assert_eq!(names(dir.path()), ["vm.sock"]);
}

#[test]
fn nothing_appears_before_it_is_published_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.sock");
    let reserved = reserve(&path).unwrap();
    assert!(!path.exists());
    // Another process takes the path meanwhile.
    let other = UnixListener::bind(&path).unwrap();
    let text = reserved.publish().unwrap_err().to_string();
    assert!(text.contains("in use by process"), "{text}");
    assert_eq!(names(dir.path()), ["vm.sock"]);
    drop(other);
    fs::remove_file(&path).unwrap();
    drop(reserve(&path).unwrap());
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
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
    assert!(message(&path.join("vm.sock")).contains("is not a directory"));
    let path = dir.path().join("replaced.sock");
    let ours = listen_at(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(ours);
    assert!(path.exists(), "another's file was removed");
}

#[test]
fn a_path_of_the_greatest_length_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x".repeat(106 - dir.path().as_os_str().len()));
    assert_eq!(path.as_os_str().len(), 107);
    let socket = listen_at(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    assert!(socket.accept().unwrap().is_some());
}

#[test]
fn one_place_by_two_names_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut places = Locations::default();
    let mut make = |path: &Path| Reserved::make(&mut places, path, &SocketAccess::default());
    let _first = make(&real.join("vm.sock")).unwrap();
    let error = make(&link.join("vm.sock")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("two names of one path"), "{error}");
    let _second = make(&link.join("vm2.sock")).unwrap();
}

#[test]
fn the_mode_is_set_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.sock");
    let access = SocketAccess { mode: Some(0o666), ..SocketAccess::default() };
    let reserved = Reserved::make(&mut Locations::default(), &path, &access).unwrap();
    assert_eq!(reserved.reported().audience, "every user");
    let _socket = reserved.publish().unwrap();
    let meta = fs::symlink_metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o666);
    assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());
}
