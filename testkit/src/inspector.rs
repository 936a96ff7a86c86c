//! Frames as they are on the wire, each one's checksums looked at while a test transfers something.
//!
//! A thread of the test listens with a raw socket in a namespace and sums up the TCP and UDP frames
//! that arrive there; `tcpdump -vv` does the same beside it for the first few thousand, as an
//! independent second opinion. This works only on a *real* wire: a veth passes on frames that their
//! sender left unfinished, and then every frame looks broken. So the senders' offloads must be off
//! ([`set_offloads`]).
//!
//! What can go wrong: a busy machine lets the socket overflow, and what was lost was not looked at.
//! So the number of frames inspected is part of the answer, and a test asks for enough of them.
//! tcpdump waits for its number of frames: it is ended with the inspection when they do not come.

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use crate::frames;
use crate::netns::{Netns, die_with_us, require, wait_until};
use crate::wire::Wire;

/// Makes a link send finished frames, no longer than its MTU and with all their checksums (`on`
/// false), or leaves that work to the receiver, as a NIC would do for the next machine (`on` true).
pub fn set_offloads(netns: &Netns, link: &str, on: bool) {
    let word = if on { "on" } else { "off" };
    // The checksum first: segmentation hangs on it.
    netns.sh(&format!("ethtool -K {link} tx {word} && ethtool -K {link} tso {word} gso {word}"));
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// TCP and UDP frames looked at.
    pub frames: u64,
    /// The longest frame, in bytes from the Ethernet header on.
    pub longest: usize,
    /// How many of them had a wrong checksum, or lengths that do not add up.
    pub wrong: u64,
    /// How many checksums tcpdump has found right and wrong.
    pub tcpdump: (usize, usize),
}

/// An inspection under way.
pub struct Inspection {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
    tcpdump: Child,
    dir: TempDir,
}

impl Inspection {
    /// Begins to look at what comes in at `link`. `dumped` frames are also tcpdump's.
    pub fn begin(netns: &Netns, link: &str, dumped: u32) -> Inspection {
        require(&[("tcpdump", "tcpdump")]);
        let dir = tempfile::tempdir().expect("a directory for tcpdump's output");
        let open = |name: &str| File::create(dir.path().join(name)).expect("tcpdump's output");
        let mut command = netns.command("tcpdump");
        command
            .args(["-i", link, "-Q", "in", "-nn", "-vv", "-l", "-c", &dumped.to_string(), "tcp"])
            .args(["or", "udp"])
            .stdin(Stdio::null())
            .stdout(open("out"))
            .stderr(open("err"));
        let tcpdump = die_with_us(&mut command).spawn().expect("tcpdump starts");
        let ready = || read(&dir, "err").contains("listening on");
        assert!(wait_until(Duration::from_secs(10), ready), "tcpdump: {}", read(&dir, "err"));

        let wire = Wire::open(Some(netns.name()), link);
        wire.clear();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || look(&wire, &stopped));
        Inspection { stop, thread, tcpdump, dir }
    }

    /// Ends it.
    pub fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = self.thread.join().expect("the thread that looks at frames");
        wait_until(Duration::from_secs(2), || matches!(self.tcpdump.try_wait(), Ok(Some(_))));
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
        let text = read(&self.dir, "out");
        let wrong =
            ["(incorrect", "bad cksum", "[bad udp cksum"].map(|word| text.matches(word).count());
        seen.tcpdump = (text.matches("(correct)").count(), wrong.iter().sum());
        seen
    }
}

fn read(dir: &TempDir, name: &str) -> String {
    let bytes = fs::read(dir.path().join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn look(wire: &Wire, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = vec![0; 70_000];
    loop {
        let Some(len) = wire.recv_into(&mut buffer, Duration::from_millis(100)) else {
            if stop.load(Ordering::Relaxed) {
                return seen;
            }
            continue;
        };
        let frame = &buffer[..len];
        if !is_tcp_or_udp(frame) {
            continue;
        }
        seen.frames += 1;
        seen.longest = seen.longest.max(len);
        if !frames::segment(frame).is_some_and(|segment| segment.sums_right) {
            seen.wrong += 1;
        }
    }
}

fn is_tcp_or_udp(frame: &[u8]) -> bool {
    let protocol = match frames::ethertype(frame) {
        frames::ETH_IPV4 => frame.get(14 + 9),
        frames::ETH_IPV6 => frame.get(14 + 6),
        _ => None,
    };
    matches!(protocol, Some(6 | 17))
}
