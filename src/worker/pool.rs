//! The workers of a process.
//!
//! How many threads carry the tasks is a choice (`--workers`). Every task has a [`WorkerSlot`] at
//! one worker for as long as it lives. Queue pairs with a device of their own get their slots in
//! turn. Queue pairs that share a switch get theirs at the same worker, because a frame between two
//! of them then crosses no processor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::warn;

use crate::virtqueue::signaller;
use crate::virtqueue::signaller::Signaller;
use crate::worker::slot::{Worker, WorkerSlot};
use crate::worker::thread::run;

/// All workers of the process. Each has working memory of type `S`, which it lends to the tasks
/// that it runs.
pub struct Pool<S> {
    workers: Vec<Arc<Worker<S>>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl<S: Default + 'static> Pool<S> {
    /// Starts `count` workers (at least one). After a turn has moved something, its worker polls it
    /// for as long as `busy_poll` before it sleeps.
    pub fn start(count: usize, busy_poll: Duration) -> io::Result<Pool<S>> {
        let mut pool = Pool { workers: Vec::new(), threads: Vec::new(), next: 0 };
        signaller::prepare_shared();
        for index in 0..count.max(1) {
            let worker = Arc::new(Worker::new(busy_poll)?);
            let signaller = Signaller::new().unwrap_or_else(|error| {
                if index == 0 {
                    warn!(
                        "no asynchronous I/O (io_setup: {error}): a hostile VMM can hold up the ports of a worker; \
                         allow io_setup, io_submit and io_getevents, and raise fs.aio-max-nr"
                    );
                }
                Signaller::default()
            });
            let thread = thread::Builder::new().name(format!("worker-{index}")).spawn({
                let worker = Arc::clone(&worker);
                move || {
                    signaller.install();
                    run(&worker);
                }
            })?;
            pool.workers.push(worker);
            pool.threads.push(thread);
        }
        Ok(pool)
    }
}

impl<S> Pool<S> {
    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The worker whose turn it is to get a task.
    pub fn next_worker(&mut self) -> usize {
        self.next += 1;
        (self.next - 1) % self.workers.len()
    }

    /// Reserves a slot at the next worker in turn.
    pub fn slot(&mut self) -> WorkerSlot<S> {
        let worker = self.next_worker();
        self.slot_at(worker)
    }

    /// Reserves a slot at a worker (modulo their number).
    pub fn slot_at(&self, worker: usize) -> WorkerSlot<S> {
        let worker = Arc::clone(&self.workers[worker % self.workers.len()]);
        let slot = worker.reserve();
        WorkerSlot::new(worker, slot)
    }

    /// Asks the workers to end. Does not wait for them.
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.stop.store(true, Ordering::Release);
            worker.wake();
        }
    }

    /// Waits until all workers have ended. False when one has not in time: it may hold any lock of
    /// the data path then.
    pub fn join(&mut self, until: Instant) -> bool {
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_micros(200));
        }
        true
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.workers.iter().for_each(|worker| worker.clear());
    }
}
