//! `qemu-args` prints options that the QEMU at hand accepts (row U9).
//!
//! The QEMUs here are scripts that answer `--version` and `-chardev socket,help` as QEMU 7.2.22,
//! 10.0.13 and 11.1.3 were recorded to do, and some that misbehave. The installed QEMU is asked
//! too, and must then take its own line; `tests/qemu_newest.rs` boots a guest with it.
//!
//! What can go wrong: the last two tests need root (they say so): only root can see which
//! privileges the printer gives up before it runs QEMU.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use testkit::backend::program;
use testkit::netns::require;

const PORT: &str = "--parent eth0 --socket-path /run/vm1.sock --mac 52:54:00:12:34:56";

const OLD: &str = "case $* in --version) echo 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)';;\n\
     '-chardev socket,help') printf 'chardev options:\\n  path=<str>\\n  reconnect=<num>\\n';; esac";
const BOTH: &str = "case $* in --version) echo 'QEMU emulator version 10.0.13 (Debian 1:10.0.13)';;\n\
     '-chardev socket,help') printf '  reconnect=<num>\\n  reconnect-ms=<num>\\n';; esac";
const NEW: &str = "case $* in --version) echo 'QEMU emulator version 11.1.3 (Debian 1:11.1.3)';;\n\
     '-chardev socket,help') printf '  path=<str>\\n  reconnect-ms=<num>\\n';; esac";

/// A directory with a program that is called as QEMU is.
struct Fake {
    dir: TempDir,
}

impl Fake {
    fn new(script: &str) -> Fake {
        let fake = Fake { dir: tempfile::tempdir().unwrap() };
        fs::write(fake.path(), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(fake.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fake
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(format!("qemu-system-{}", std::env::consts::ARCH))
    }

    /// What the program prints for this QEMU, named by `--qemu`.
    fn printed(&self) -> Printed {
        print(&format!("qemu-args --qemu {} {PORT}", self.path().display()), None)
    }
}

struct Printed {
    text: String,
    note: String,
}

/// Runs the printer, with a `PATH` of its own where one is given. It must succeed.
fn print(line: &str, path: Option<&Path>) -> Printed {
    let mut command = Command::new(program());
    command.args(line.split(' ')).stdin(Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    let note = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{line}: {note}");
    Printed { text: String::from_utf8(output.stdout).unwrap(), note }
}

/// `reconnect=1` was printed for every QEMU; from 10.2 on that is `Invalid parameter 'reconnect'`.
#[test]
fn bug_u9_each_qemu_gets_the_word_that_it_takes() {
    let rows = [(OLD, ",reconnect=1 ", "7.2.22"), (BOTH, ",reconnect-ms=1000 ", "10.0.13")];
    for (script, word, version) in rows.into_iter().chain([(NEW, ",reconnect-ms=1000 ", "11.1.3")])
    {
        let fake = Fake::new(script);
        let named = fake.printed();
        assert!(named.text.contains(word), "{version}: {}", named.text);
        assert!(named.note.contains(&format!("for QEMU {version} (")), "{}", named.note);
        // The same without `--qemu`, where it is the one in PATH.
        let found = print(&format!("qemu-args {PORT}"), Some(fake.dir.path()));
        assert_eq!((found.text, found.note), (named.text, named.note), "{version}");
        // QEMU listens: it has nothing to reconnect to.
        let listens = print(&format!("qemu-args {PORT} --client"), Some(fake.dir.path()));
        assert!(listens.text.contains(",server=on,wait=off "), "{}", listens.text);
        assert!(!listens.text.contains("reconnect"), "{}", listens.text);
    }
}

/// The size stood in two places, `-m` and `size=`, and a guest was refused when they differed.
#[test]
fn bug_u9_memory_has_one_size() {
    let fake = Fake::new(OLD);
    let printed = |more: &str| print(&format!("qemu-args {PORT}{more}"), Some(fake.dir.path()));
    let example = printed("");
    assert!(example.note.contains("--memory"), "{}", example.note);
    for (more, size) in [("", "1G"), (" --memory 512", "512M"), (" --memory 4g", "4G")] {
        let text = printed(more).text;
        let memory = format!(
            "-object memory-backend-memfd,id=vhu-mem,size={size},share=on \\\n\
             -machine memory-backend=vhu-mem \\\n"
        );
        assert!(text.starts_with(&memory), "{text}");
        assert!(!text.contains("-m ") && !text.contains("-numa"), "{text}");
    }
    assert!(!printed(" --memory 2G").note.contains("example"));
    let line = format!("qemu-args {PORT} --mtu 1 --memory 1x");
    let output = Command::new(program()).args(line.split(' ')).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 2), "{stderr}");
    assert!(stderr.contains("--memory 1x: ") && stderr.contains("--mtu 1: "), "{stderr}");
}

/// Without a QEMU the form that fits most versions is printed, and stderr says so with the reason.
#[test]
fn bug_u9_without_an_answer_a_form_for_most_is_printed() {
    let nothing = tempfile::tempdir().unwrap();
    let unsure = |printed: Printed, reason: &str| {
        assert!(printed.text.contains(",reconnect=1 "), "{}", printed.text);
        assert!(printed.note.contains(reason), "{reason}: {}", printed.note);
        assert!(printed.note.contains("need reconnect-ms=1000"), "{}", printed.note);
    };
    if !Path::new("/usr/libexec/qemu-kvm").exists() {
        let none = print(&format!("qemu-args {PORT}"), Some(nothing.path()));
        unsure(none, &format!("no qemu-system-{} in PATH", std::env::consts::ARCH));
    }
    let gone = |name: &str| print(&format!("qemu-args {PORT} --qemu {name}"), Some(nothing.path()));
    unsure(gone("my-qemu"), "my-qemu: no such program in PATH");
    unsure(gone("/nonexistent/qemu"), "/nonexistent/qemu: no such program)");
    unsure(gone("/etc"), "/etc: no such program)");
    unsure(Fake::new("echo hello").printed(), "does not answer --version as QEMU does");
    unsure(Fake::new("exit 1").printed(), "does not answer --version as QEMU does");
    let version = "case $* in --version) echo QEMU emulator version 3.0.0;; esac";
    unsure(Fake::new(version).printed(), "it lists no option to connect again");
}

/// A program that hangs, floods, or leaves a child behind that holds its output: the printer does
/// not wait for it.
#[test]
fn bug_u9_a_qemu_that_misbehaves_is_not_waited_for() {
    let mark = tempfile::tempdir().unwrap();
    let mark = mark.path().join("mark");
    let late = format!("sleep 7; : >{}", mark.display());
    let start = Instant::now();
    let hangs = Fake::new(&format!("({late}) & echo waits; {late}")).printed();
    assert!(hangs.note.contains("no answer within 5 s"), "{}", hangs.note);
    assert!(start.elapsed() < Duration::from_millis(6500), "{:?}", start.elapsed());
    let floods = Fake::new("cat /dev/zero").printed();
    assert!(floods.text.contains(",reconnect=1 ") && !floods.note.contains('\0'));
    std::thread::sleep(Duration::from_secs(8).saturating_sub(start.elapsed()));
    assert!(!mark.exists(), "what it had started was left running");
}

/// The QEMU of this machine takes the words that were printed for it.
#[test]
fn bug_u9_the_installed_qemu_takes_its_line() {
    require(&[("qemu-system-x86_64", "qemu-system-x86")]);
    let qemu = std::env::var("VUM_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    let text = print(&format!("qemu-args --memory 64M --qemu {qemu} {PORT}"), None).text;
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "\\").collect();
    let before_the_network = words.iter().position(|word| *word == "-netdev").unwrap();
    // QEMU makes its character devices in turn, and stops at the first one that it cannot make.
    let output = Command::new(qemu)
        .args(["-accel", "tcg", "-nodefaults", "-display", "none", "-S"])
        .args(&words[..before_the_network])
        .args(["-chardev", "no-such-kind,id=last"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("'no-such-kind' is not a valid char driver"), "{text}{stderr}");
}

/// As root, the program that is asked has no capability; another user's program runs as that user.
#[test]
fn bug_u9_a_qemu_is_asked_without_privilege() {
    require(&[]);
    let seen = |owner: u32| {
        let fake = Fake::new("cat /proc/self/status >\"${0%/*}/status\"");
        fs::set_permissions(fake.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for path in [fake.path(), fake.dir.path().to_owned()] {
            chown(path, Some(owner), None).unwrap();
        }
        fake.printed();
        fs::read_to_string(fake.dir.path().join("status")).unwrap()
    };
    let none = "0000000000000000";
    for (owner, groups) in [(0, None), (4711, Some("Groups:\t \n"))] {
        let status = seen(owner);
        for line in ["CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{line}:\t{none}\n")), "{owner}: {line}: {status}");
        }
        assert!(
            status.contains(&format!("Uid:\t{owner}\t{owner}\t{owner}\t{owner}\n")),
            "{status}"
        );
        assert!(status.contains("NoNewPrivs:\t1\n"), "{owner}: {status}");
        assert!(groups.is_none_or(|groups| status.contains(groups)), "{owner}: {status}");
    }
}
