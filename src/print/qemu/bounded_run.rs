//! The output of a program that the user names, read without harm from the program.
//!
//! The printer asks a QEMU, and the user says which one. The printer may run as root, because the
//! back-end does. QEMU only answers a question and needs no privilege. So:
//!
//! * QEMU runs without any capability and cannot gain one. `no_new_privs` also stops a program with
//!   root's set-user-ID bit;
//! * root does not run another user's program as root. If the file or a directory above it belongs
//!   to another user, who can replace it, QEMU runs as that user;
//! * QEMU has no input, and its output is read up to [`MOST`] bytes and for [`LONGEST`]. Then its
//!   whole process group is killed, whether it has finished or not.
//!
//! Capabilities and `no_new_privs` belong to a thread, and a child inherits those of the thread
//! that starts it. So a thread that lives for one question gives them up, and the process keeps its
//! own.
//!
//! What can go wrong: a child that leaves its process group is not killed. It has no privilege, and
//! the printer does not wait for it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

/// How long a program may take. QEMU takes 20 ms, and a second from a cold disk.
const LONGEST: Duration = Duration::from_secs(5);

/// How long an ended program may take to be gone; then it is left to init.
const LEAVING: Duration = Duration::from_millis(500);

/// Bytes of output that are read. QEMU's answers have less than 2 KiB.
const MOST: usize = 64 << 10;

/// The group of a program that runs as another user: the group of `nobody`. The user's own is not
/// known.
const NOGROUP: u32 = 65534;

/// The program's standard output, as far as it is read.
///
/// Errors: the reason why there is none, as text: it cannot be started, or took too long.
pub(super) fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let asker = thread::Builder::new().name("ask-qemu".to_owned());
    let (program, arguments) = (program.to_owned(), arguments.iter().map(|a| (*a).to_owned()));
    let arguments: Vec<String> = arguments.collect();
    let asker = asker.spawn(move || run(&program, &arguments));
    let asker = asker.map_err(|error| format!("no thread to ask it: {error}"))?;
    asker.join().unwrap_or_else(|_| Err("it could not be asked".to_owned()))
}

/// Runs on a thread of its own, whose privileges it gives up.
fn run(program: &Path, arguments: &[String]) -> Result<String, String> {
    let cannot = |error: io::Error| format!("it cannot be started: {error}");
    // The checked file is the executed one: no link can lead elsewhere between the two.
    let file = program.canonicalize().map_err(cannot)?;
    let mut command = Command::new(&file);
    command
        .arg0(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    nix::sys::prctl::set_no_new_privs().map_err(|errno| cannot(errno.into()))?;
    match other_owner(&file).map_err(cannot)? {
        // The change of the user takes the capabilities away, and the groups are dropped with it.
        Some(user) if geteuid().is_root() => {
            command.uid(user).gid(NOGROUP);
        }
        _ => drop_capabilities().map_err(cannot)?,
    }
    let mut child = command.spawn().map_err(cannot)?;
    let text = read(&mut child, Instant::now() + LONGEST);
    end(&mut child);
    text
}

/// The user other than root who can change the file behind this path.
fn other_owner(file: &Path) -> io::Result<Option<u32>> {
    for part in file.ancestors() {
        let owner = part.metadata()?.uid();
        if owner != 0 {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// Takes all capabilities from the calling thread, and with `no_new_privs` from all that it starts.
fn drop_capabilities() -> io::Result<()> {
    /// `struct __user_cap_header_struct`
    #[repr(C)]
    struct CapabilityHeader {
        version: u32,
        pid: i32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`: two sets of effective, permitted and inheritable.
    const VERSION: u32 = 0x2008_0522;
    let header = CapabilityHeader { version: VERSION, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: the kernel reads a header and, for this version, two times three words. Both live on
    // this stack, and the call changes nothing but this thread's capabilities.
    let status = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read(child: &mut Child, deadline: Instant) -> Result<String, String> {
    let failed = |error: io::Error| format!("its output cannot be read: {error}");
    let mut pipe = child.stdout.take().ok_or("it has no output")?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while bytes.len() < MOST {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return Err(format!("no answer within {} s", LONGEST.as_secs())),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
        }
        match pipe.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Ends the program and all that it has started. It is not reaped yet, so its number is still its
/// own.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let deadline = Instant::now() + LEAVING;
    while let Ok(None) = child.try_wait() {
        if Instant::now() > deadline {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<String, String> {
        output(Path::new("/bin/sh"), &["-c", script])
    }

    #[test]
    fn a_program_is_answered_without_privilege_or_input() {
        let text = shell("grep -E '^(CapPrm|CapEff|NoNewPrivs):' /proc/self/status; cat").unwrap();
        let values: Vec<&str> = text.split_whitespace().skip(1).step_by(2).collect();
        assert_eq!(values, ["0000000000000000", "0000000000000000", "1"], "{text}");
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(!own.contains("NoNewPrivs:\t1"), "this thread has given something up: {own}");
    }

    #[test]
    fn a_flood_is_cut_and_ended() {
        let start = Instant::now();
        assert_eq!(shell("yes").unwrap().len() >> 13, MOST >> 13);
        assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
    }

    #[test]
    fn what_cannot_be_started_is_a_reason() {
        for file in ["/nonexistent/qemu", "/", "/etc/passwd"] {
            let reason = output(Path::new(file), &[]).unwrap_err();
            assert!(reason.starts_with("it cannot be started: "), "{file}: {reason}");
        }
    }
}
