//! Files on a FUSE file system whose server falls silent: any user can mount one in a namespace of
//! its own.
//!
//! Every request to such a file (fstat, fstatfs, poll, flush at close, a page fault) waits for the
//! server. Not even SIGKILL ends the wait once the server has read the request. The server here is
//! a thread that implements just enough of the protocol (Linux' `include/uapi/linux/fuse.h`) for a
//! file of 16 MiB to be opened; then it either reads requests without an answer, or does not even
//! read them.
//!
//! The mount is made by a thread with a mount namespace of its own, and vanishes with it; the open
//! file keeps the file system alive.
//!
//! What can go wrong: a process that waits for a silent server cannot be killed, the test's own
//! process included, and a reader of that process's files in /proc may wait, too. Therefore the
//! server is a process of its own that dies with the thread that has opened the file, however that
//! ends: every wait then ends with an error.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

/// Length of the file, in bytes.
pub const SIZE: u64 = 16 << 20;

/// What the server does with a request from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It takes the request and never answers.
    Reads,
    /// It leaves the request where it is.
    Ignores,
}

/// An open file, and its server.
pub struct SilentFile {
    file: Option<File>,
    server: Pid,
}

impl SilentFile {
    /// Opens the file; from now on its server has this manner.
    pub fn open(manner: Manner) -> SilentFile {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("/dev/fuse: load the fuse module");
        let number = device.as_raw_fd();
        let (orders, mut order) = std::io::pipe().unwrap();
        // SAFETY: the child only reads, writes and allocates, which the C library allows after a
        // fork.
        let server = match unsafe { fork() }.expect("a process for the server") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // SAFETY: plain numbers; what else the test has open would stay open by this
                // process.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    for fd in (3..4096).filter(|&fd| fd != number && fd != orders.as_raw_fd()) {
                        libc::close(fd);
                    }
                }
                serve(device, orders);
                // SAFETY: the child ends without the test's destructors.
                unsafe { libc::_exit(0) }
            }
        };
        let file = std::thread::spawn(move || open_in_a_mount_of_its_own(number)).join().unwrap();
        order.write_all(&[u8::from(manner == Manner::Reads)]).unwrap();
        SilentFile { file: Some(file), server }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_ref().expect("open until the end").as_raw_fd()
    }
}

impl Drop for SilentFile {
    fn drop(&mut self) {
        // The server first: closing the file waits for it.
        let _ = kill(self.server, Signal::SIGKILL);
        let _ = waitpid(self.server, None);
        self.file = None;
    }
}

fn open_in_a_mount_of_its_own(device: RawFd) -> File {
    const NOTHING: Option<&str> = None;
    let dir = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("a mount namespace");
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
    let options = format!("fd={device},rootmode=40000,user_id=0,group_id=0");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("silent"), dir.path(), Some("fuse"), flags, Some(options.as_str()))
        .expect("a mount");
    OpenOptions::new().read(true).write(true).open(dir.path().join("memory")).expect("the file")
}

fn serve(mut device: File, mut orders: impl Read + AsFd) {
    let mut request = vec![0u8; 1 << 17];
    let mut silent = false;
    loop {
        let mut fds = [
            PollFd::new(device.as_fd(), PollFlags::POLLIN),
            PollFd::new(orders.as_fd(), PollFlags::POLLIN),
        ];
        // Once silent, there are no more orders.
        let watched = if silent { 1 } else { 2 };
        let _ = poll(&mut fds[..watched], PollTimeout::NONE);
        let ready = |at: usize| fds[at].revents().is_some_and(|events| !events.is_empty());
        let (asked, ordered) = (ready(0), ready(1) && !silent);
        if ordered {
            let mut order = [0];
            let _ = orders.read(&mut order);
            silent = true;
            if order == [0] {
                std::thread::sleep(std::time::Duration::from_secs(600));
            }
        }
        if !asked {
            continue;
        }
        let Ok(length) = device.read(&mut request) else { continue };
        if !silent && let Some(answer) = answer(&request[..length]) {
            let _ = device.write_all(&answer);
        }
    }
}

/// The answer to one request; none where none is due.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let operation = u32::from_ne_bytes(request[4..8].try_into().unwrap());
    let unique = &request[8..16];
    let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
    let body: Vec<u8> = match operation {
        // LOOKUP: node, generation, four words of validity (none: each fstat asks), attributes.
        1 => [numbers(&[2, 0, 0, 0, 0]), attributes(2)].concat(),
        // FORGET
        2 => return None,
        // GETATTR
        3 => [numbers(&[0, 0]), attributes(node)].concat(),
        // OPEN
        14 => vec![0; 16],
        // INIT: version 7.31, no features, buffers of 64 KiB.
        26 => {
            let mut body = [7u32, 31, 0, 0, 0, 65536].map(u32::to_ne_bytes).concat();
            body.resize(64, 0);
            body
        }
        // Not known.
        _ => return Some([&16u32.to_ne_bytes()[..], &(-38i32).to_ne_bytes(), unique].concat()),
    };
    let length = u32::try_from(16 + body.len()).unwrap();
    Some([&length.to_ne_bytes()[..], &[0; 4], unique, &body].concat())
}

/// Node 1 is the root directory, any other one the file.
fn attributes(node: u64) -> Vec<u8> {
    let mode: u32 = if node == 1 { 0o040_755 } else { 0o100_666 };
    let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat();
    [numbers(&[node, SIZE, SIZE / 512, 0, 0, 0]), words].concat()
}

fn numbers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
