//! A counted stream between two siblings, and the processor time of the process.
//!
//! A stream sends sixteen frames, waits until they have all arrived in their order, and goes on. A
//! frame that does not arrive within two seconds is lost, and counted. So a ring never overflows,
//! and a single lost frame shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::frames;
use testkit::netns::wait_until;
use testkit::rig::{SECOND, fresh_tag};
use testkit::userspace::Guest;

const WINDOW: usize = 16;

/// The frames that a stream has moved.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    pub sent: u64,
    pub lost: u64,
    /// The longest that a window was under way.
    pub longest: Duration,
}

/// A stream that runs.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<(Guest, Guest, Tally)>,
}

impl Stream {
    /// From one guest to another, until it is stopped.
    pub fn start(mut from: Guest, mut to: Guest) -> Stream {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let mut tally = Tally { sent: 0, lost: 0, longest: Duration::ZERO };
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                tally.lost += window(&mut from, &mut to);
                tally.sent += WINDOW as u64;
                tally.longest = tally.longest.max(start.elapsed());
                count.store(tally.sent, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
            (from, to, tally)
        });
        Stream { stop, sent, thread }
    }

    /// Lets it move this many frames more.
    pub fn runs_on(&self, frames: u64) {
        let goal = self.sent.load(Ordering::Relaxed) + frames;
        let moved = wait_until(10 * SECOND, || self.sent.load(Ordering::Relaxed) >= goal);
        assert!(moved, "the stream does not move on");
    }

    /// Ends it; nothing may have been lost.
    pub fn stop(self) -> (Guest, Guest) {
        self.stop.store(true, Ordering::Relaxed);
        let (from, to, tally) = self.thread.join().expect("the stream");
        println!("{tally:?}");
        assert!(tally.sent > 100, "{tally:?}: hardly a stream");
        assert_eq!(tally.lost, 0, "{tally:?}");
        (from, to)
    }
}

/// Sends a window and takes it at the other end. Returns how many frames did not come.
fn window(from: &mut Guest, to: &mut Guest) -> u64 {
    let tags: Vec<u64> = (0..WINDOW).map(|_| fresh_tag()).collect();
    let batch: Vec<_> =
        tags.iter().map(|&tag| frames::tagged(to.mac, from.mac, tag, 200)).collect();
    from.driver.send(0, &batch);
    let end = Instant::now() + 2 * SECOND;
    for (index, frame) in batch.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let ours = |f: &[u8]| frames::tag_of(f).is_some_and(|tag| tags.contains(&tag));
        match to.recv_where(left, ours) {
            Some(found) => assert_eq!(found.bytes, *frame, "another frame than the next one"),
            None => return (WINDOW - index) as u64,
        }
    }
    0
}
