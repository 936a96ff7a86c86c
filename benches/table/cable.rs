//! The far end of the parent's cable: it counts what arrives, and sends what the LAN sends.
//!
//! ```text
//!   host                      far
//!   eth0 (the parent) ------- w0
//!   macvtaps, taps, br0       the LAN's machine: sender or receiver
//! ```
//!
//! The cable is a veth pair ([`Wire`]), not a bridge with a switch behind it as in the tests. Every
//! further device would cost each contender the same time, and so hide the differences. `w0`'s own
//! counter counts the frames that leave the parent. The kernel raises it only for frames that were
//! delivered.
//!
//! What can go wrong: a program finds `/dev/tapN` by the index alone, and two namespaces may have
//! devices with the same index. So macvtaps get indices that no other device has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::peers::ours::Wire;
use testkit::frames::{Mac, mac_text};
use testkit::netns::Netns;

/// The parent's name.
pub const PARENT: &str = "eth0";
/// The parent's far end.
pub const FAR: &str = "w0";
/// An address on the LAN that no machine has.
pub const NOBODY: Mac = [0x02, 0, 0, 0xee, 0, 1];

/// How many macvtaps this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Makes a macvtap on the parent, sets it up, and returns the path of its character device.
pub fn macvtap(wire: &Wire, name: &str, mac: Mac) -> String {
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let index = 400_000 + std::process::id() % 60_000 * 16 + made % 16;
    wire.host.ip(&format!(
        "link add link {PARENT} name {name} index {index} address {} type macvtap mode bridge",
        mac_text(mac)
    ));
    wire.host.ip(&format!("link set {name} arp off up"));
    format!("/dev/tap{index}")
}

/// Makes a kernel bridge with the parent as a port.
pub fn bridge(wire: &Wire) {
    wire.host.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
    wire.host.ip(&format!("link set {PARENT} master br0"));
    wire.host.ip("link set br0 up");
}

/// Moves the calling thread into a namespace; only for threads that stay there.
pub fn enter(netns: &str) -> io::Result<()> {
    let file = File::open(Path::new("/run/netns").join(netns))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// Runs a closure in a namespace, in a thread of its own.
pub fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let done =
        std::thread::scope(|scope| scope.spawn(|| enter(netns.name()).map(|()| work())).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What a device has received so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Frames; a super-frame counts once.
    pub frames: u64,
    /// Bytes, Ethernet headers included.
    pub bytes: u64,
}

/// A device's own counter, which can be read from any namespace.
#[derive(Debug)]
pub struct Counter {
    /// `/proc/net/dev` of the namespace: the open decides which namespace it shows.
    table: File,
    row: String,
}

impl Counter {
    /// The counter of a link.
    pub fn new(netns: &Netns, link: &str) -> io::Result<Counter> {
        let table = inside(netns, || File::open("/proc/thread-self/net/dev"))??;
        let counter = Counter { table, row: format!("{link}:") };
        counter.received()?;
        Ok(counter)
    }

    /// What the link has received until now.
    pub fn received(&self) -> io::Result<Traffic> {
        let mut buffer = [0; 4096];
        let mut size = 0;
        loop {
            match self.table.read_at(&mut buffer[size..], size as u64)? {
                0 => break,
                more => size += more,
            }
        }
        let text = String::from_utf8_lossy(&buffer[..size]);
        let mut words = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&self.row))
            .ok_or_else(|| io::Error::other(format!("{} no such link to count at", self.row)))?
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(0));
        Ok(Traffic { bytes: words.next().unwrap_or(0), frames: words.next().unwrap_or(0) })
    }
}
