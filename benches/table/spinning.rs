//! A thread that repeats one step: a sender, a reader or a guest.
//!
//! It has a processor and a network namespace, makes what it needs there, and then calls its step
//! until it is told to stop. It publishes the number of moved frames with one relaxed store per
//! step, so a reader may look at any time without slowing the loop.
//!
//! What can go wrong: a step that waits indefinitely blocks [`Spinning::stop`]. Steps wait for a
//! tenth of a second at most.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::{cable, host};

/// A running loop. Dropping it ends it.
#[derive(Debug)]
pub struct Spinning {
    frames: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    tid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Spinning {
    /// Starts a thread on a processor, in a namespace or where we are. `make` runs there and
    /// returns the step, which returns how many frames it moved.
    ///
    /// Errors: those of `make`, and of going there.
    pub fn start<Step>(
        netns: Option<&str>,
        processor: usize,
        make: impl FnOnce() -> io::Result<Step> + Send + 'static,
    ) -> io::Result<Spinning>
    where
        Step: FnMut() -> usize,
    {
        let frames = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (count, end, netns) = (frames.clone(), over.clone(), netns.map(str::to_string));
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let ready = host::pin(processor)
                .map_err(|error| io::Error::other(error.to_string()))
                .and_then(|()| netns.map_or(Ok(()), |netns| cable::enter(&netns)))
                .and_then(|()| make());
            let mut step = match ready {
                Ok(step) => {
                    let _ = tell.send(Ok(gettid().as_raw()));
                    step
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let mut sum = 0;
            while !end.load(Ordering::Relaxed) {
                sum += step() as u64;
                count.store(sum, Ordering::Relaxed);
            }
        });
        let tid = told.recv().map_err(|_| io::Error::other("the loop's thread has died"))??;
        Ok(Spinning { frames, over, tid, thread: Some(thread) })
    }

    /// Frames moved so far.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Processor time of the thread so far, in nanoseconds.
    pub fn used(&self) -> u64 {
        fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.tid))
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Ends it, and returns how many frames it has moved.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.frames()
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets the calling thread run on every processor again.
pub fn anywhere() -> io::Result<()> {
    let mut set = CpuSet::new();
    for processor in 0..host::processors().min(CpuSet::count()) {
        set.set(processor)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
