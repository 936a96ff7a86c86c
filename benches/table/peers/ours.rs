//! This program with its default settings.
//!
//! It has ports of `type=macvlan` on one end of a veth pair, whose other end stands for the wire.
//! The program is the one that cargo has built for this run, or the one that `VUM_BINARY` names.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use tempfile::TempDir;

use super::process::Process;
use super::{Backend, await_sockets};
use crate::Result;
use crate::generator::frame::mac;
use testkit::frames::mac_text;
use testkit::netns::Netns;

thread_local! {
    /// The program of [`with_program`], while that runs.
    static OTHER: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The program's path.
pub fn program() -> String {
    let other = OTHER.with_borrow(Clone::clone);
    other.unwrap_or_else(|| testkit::backend::program().display().to_string())
}

/// Measures another build of the program in place of this one.
pub fn with_program<R>(path: &str, measure: impl FnOnce() -> R) -> R {
    OTHER.set(Some(path.to_owned()));
    // Taken back also when the measurement panics: that is a failure of one sample only.
    let result = catch_unwind(AssertUnwindSafe(measure));
    OTHER.set(None);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Whether the program knows this flag.
pub fn has_flag(flag: &str) -> bool {
    let help = std::process::Command::new(program()).arg("--help").output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains(flag))
}

/// A parent and the other end of its cable, without IPv6, so neither end sends frames by itself.
pub struct Wire {
    /// Where back-ends run; the parent is `eth0`.
    pub host: Netns,
    /// The other end, `w0`; it exists in every case.
    #[allow(dead_code)]
    pub far: Netns,
}

impl Wire {
    /// A veth pair with this MTU.
    pub fn new(mtu: u32) -> Wire {
        let (host, far) = (Netns::new("host"), Netns::new("wire"));
        for netns in [&host, &far] {
            netns.set_ipv6("default", false);
            netns.set_ipv6("all", false);
        }
        let far_name = far.name();
        host.ip(&format!(
            "link add eth0 mtu {mtu} type veth peer name w0 mtu {mtu} netns {far_name}"
        ));
        far.ip("link set w0 up");
        host.ip("link set eth0 up");
        Wire { host, far }
    }
}

/// The settings of a start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Ports, with the addresses `frame::mac(0)` and so on.
    pub ports: usize,
    /// Queue pairs of each port.
    pub pairs: usize,
    /// Threads; they use the processors from number 1 on.
    pub workers: usize,
    /// Other flags.
    pub extra: Vec<String>,
    /// The kind of port.
    pub kind: &'static str,
    /// Its processors, in the form of `taskset`.
    pub processors: String,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            ports: 2,
            pairs: 1,
            workers: 1,
            extra: Vec::new(),
            kind: "macvlan",
            processors: crate::host::BACKEND.to_string(),
        }
    }
}

/// The running program.
pub struct Ours {
    process: Process,
    sockets: Vec<PathBuf>,
    _dir: TempDir,
}

impl Ours {
    /// Starts it and waits for its sockets.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(wire: &Wire, setup: &Setup) -> Result<Ours> {
        let dir = tempfile::Builder::new().prefix("vum-bench-").tempdir()?;
        let (workers, pairs) = (setup.workers.to_string(), setup.pairs.to_string());
        let mut words: Vec<String> = ["--log-level", "warn", "--parent", "eth0", "--type"]
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        words.extend([setup.kind.to_owned(), "--workers".into(), workers]);
        words.extend(["--queue-pairs".to_owned(), pairs]);
        words.extend(setup.extra.iter().cloned());
        let mut sockets = Vec::new();
        for port in 0..setup.ports {
            let socket = dir.path().join(format!("{port}"));
            let (at, mac) = (socket.display(), mac_text(mac(port)));
            words.extend(["--port".to_owned(), format!("socket={at},name=b{port},mac={mac}")]);
            sockets.push(socket);
        }
        let mut process = Process::start(&program(), &words, &setup.processors, Some(&wire.host))?;
        await_sockets(&sockets, &mut process)?;
        Ok(Ours { process, sockets, _dir: dir })
    }
}

impl Backend for Ours {
    fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }
}
