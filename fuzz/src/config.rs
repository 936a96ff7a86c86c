//! The configuration: a command line, or a file's text.
//!
//! Input: the text. One that begins with `P` holds `--port` values, a line each; one that begins
//! with `A` holds the words of a command line; any other is a file.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost_user_macvtap::cli::typing;
use vhost_user_macvtap::config::{Config, MAX_QUEUE_PAIRS, resolve};

/// Errors are lines without control characters; ports that are accepted have values in their
/// ranges.
pub fn target(data: &[u8]) {
    let (kind, text) = data.split_first().map_or((0, data), |(kind, text)| (*kind, text));
    match kind {
        b'P' | b'A' => {
            let text = String::from_utf8_lossy(text);
            let port = |line| ["--port".to_owned(), line];
            let words = text.lines().map(str::to_owned);
            judge(if kind == b'P' { words.flat_map(port).collect() } else { words.collect() });
        }
        _ => with_file(data, |path| judge(vec!["--config".to_owned(), path])),
    }
}

fn judge(words: Vec<String>) {
    let program = ["vhost-user-macvtap".to_owned()];
    let words = program.into_iter().chain(words).map(OsString::from);
    // For text that is no command line, the parser of flags makes the message.
    let Ok(args) = typing::parse(words) else { return };
    match resolve(&args.input()) {
        Ok(Config { ports, .. }) => {
            assert!(!ports.is_empty());
            for port in ports {
                assert!((1..=MAX_QUEUE_PAIRS).contains(&port.queue_pairs));
                assert!(port.mtu.is_none_or(|mtu| (68..=65535).contains(&mtu)));
                assert!(!port.parent.is_empty());
            }
        }
        Err(error) => {
            let text = error.to_string();
            let shown = |line: &str| !line.is_empty() && !line.contains(|c: char| c.is_control());
            assert!(text.lines().all(shown), "{text:?}");
        }
    }
}

/// A file in memory that has this text, one for each thread.
fn with_file(text: &[u8], run: impl FnOnce(String)) {
    thread_local! {
        static FILE: RefCell<Option<File>> =
            RefCell::new(memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).ok().map(File::from));
    }
    FILE.with_borrow_mut(|file| {
        let Some(file) = file else { return };
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text));
        if written.is_ok() {
            run(format!("/proc/self/fd/{}", file.as_raw_fd()));
        }
    });
}

/// A file with most keys, one with errors, ports and flags as users type them.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = r#"[defaults]
parent = "eth0"
mode = "bridge"
memory-limit = "64G"

[[port]]
socket = "/run/vm1.sock"
mac = "52:54:00:12:34:56"
mtu = 1400
queue-pairs = 4
name = "vm1"

[[port]]
socket = "/run/vm2.sock"
type = "macvlan"
mode = "source"
source = "02:00:00:00:00:01+02:00:00:00:00:02"
nodst = "on"
compat = "on"
guard = "off"
socket-owner = "root"
socket-mode = "0660"
"#;
    let wrong =
        "[default]\nmodee = \"brigde\"\n[[ports]]\nsocket = 7\nmtu = 1\nmac = \"ff:ff\"\n[[port]\n";
    let ports = "Psocket=/run/a,parent=eth0,mac=auto\nsocket=/run/b,parent=eth0,type=switch,mode=vepa\n\
                 parent=eth9,socket=/run/c,mode=passthru,queue-pairs=9,client=on\nsocket=,=,x";
    let words = "A--socket-path\n/run/a\n--parent=eth0\n--modee\nvepa\n--mtu=9000\n--workers\n2";
    [whole, wrong, ports, words].map(|text| text.as_bytes().to_vec()).to_vec()
}
