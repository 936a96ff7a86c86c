//! A neighbour and its counted stream.
//!
//! A stream sends sixteen frames, waits until they have all arrived in their order, and goes on. A
//! frame that does not arrive within ten seconds is lost: a machine may stand still for some of
//! that, but a frame that a back-end forgot never comes. The rings never overflow, so a single lost
//! frame shows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::driver::Driver;
use testkit::frames::{self, Mac};
use testkit::rig::{ARRIVAL, LAN_MAC, SILENCE, fresh_tag};
use testkit::vmm::{QemuOptions, Vmm};
use testkit::wire::Wire;

const WINDOW: usize = 16;

/// A guest that means well.
pub struct Neighbour {
    driver: Driver,
    _vmm: Vmm,
    mac: Mac,
}

impl Neighbour {
    pub fn at(socket: &Path, mac: Mac) -> Neighbour {
        let mut vmm = Vmm::connect(socket);
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        driver.post_rx(0, 200, 2048);
        Neighbour { driver, _vmm: vmm, mac }
    }
}

/// The other end of a stream.
enum End {
    Guest(Box<Neighbour>),
    Lan(Wire),
}

impl End {
    fn mac(&self) -> Mac {
        match self {
            End::Guest(guest) => guest.mac,
            End::Lan(_) => LAN_MAC,
        }
    }

    fn next(&mut self, timeout: Duration, tags: &[u64]) -> Option<Vec<u8>> {
        let ours = |f: &[u8]| frames::tag_of(f).is_some_and(|tag| tags.contains(&tag));
        match self {
            End::Guest(guest) => guest.driver.recv_where(0, timeout, ours).map(|frame| frame.bytes),
            End::Lan(wire) => wire.recv_where(timeout, ours),
        }
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    lost: AtomicU64,
}

/// A stream that runs.
pub struct Stream {
    what: String,
    shared: Arc<Shared>,
    thread: JoinHandle<Duration>,
}

impl Stream {
    pub fn between(from: Neighbour, to: Neighbour) -> Stream {
        Stream::start(from, End::Guest(Box::new(to)))
    }

    pub fn to_lan(from: Neighbour, wire: Wire) -> Stream {
        Stream::start(from, End::Lan(wire))
    }

    fn start(mut from: Neighbour, mut to: End) -> Stream {
        let what = format!("{} to {}", frames::mac_text(from.mac), frames::mac_text(to.mac()));
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        link_up(&mut from, &mut to);
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !own.stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let lost = window(&mut from, &mut to, ARRIVAL);
                own.lost.fetch_add(lost, Ordering::Relaxed);
                own.sent.fetch_add(WINDOW as u64, Ordering::Relaxed);
                longest = longest.max(start.elapsed());
                if lost > 0 {
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        Stream { what, shared, thread }
    }

    /// Nothing was lost so far.
    pub fn goes_on(&self) -> bool {
        self.shared.lost.load(Ordering::Relaxed) == 0 && !self.thread.is_finished()
    }

    /// Ends it; nothing may have been lost.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let longest =
            self.thread.join().unwrap_or_else(|_| panic!("{}: its guest broke", self.what));
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (sent, lost) = (count(&self.shared.sent), count(&self.shared.lost));
        println!("{}: {sent} frames, {lost} lost, longest window {longest:?}", self.what);
        assert_eq!(lost, 0, "{}: of {sent} frames", self.what);
        assert!(sent > 100, "{}: hardly a stream: {sent} frames", self.what);
    }
}

/// A port takes frames shortly after the handshake: the first window is repeated until it arrives.
fn link_up(from: &mut Neighbour, to: &mut End) {
    let end = Instant::now() + ARRIVAL;
    while window(from, to, SILENCE) > 0 {
        assert!(Instant::now() < end, "no link from {:?}", from.mac);
    }
}

/// Sends a window and takes it at the other end. Returns how many frames did not come.
fn window(from: &mut Neighbour, to: &mut End, timeout: Duration) -> u64 {
    let tags: Vec<u64> = (0..WINDOW).map(|_| fresh_tag()).collect();
    let frame = |(n, &tag): (usize, &u64)| frames::tagged(to.mac(), from.mac, tag, 60 + 90 * n);
    let batch: Vec<_> = tags.iter().enumerate().map(frame).collect();
    from.driver.send(0, &batch);
    let end = Instant::now() + timeout;
    for (index, frame) in batch.iter().enumerate() {
        match to.next(end.saturating_duration_since(Instant::now()), &tags) {
            Some(found) => assert!(found == *frame, "another frame than the next one"),
            None => return (WINDOW - index) as u64,
        }
    }
    0
}
