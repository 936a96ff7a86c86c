//! A lock between workers and the control threads, in which the latter go first.
//!
//! Mutexes are not fair. A worker that takes a lock for one turn after the other would win every
//! race against a control thread that waits for it, and so would several workers that deliver to
//! one busy ring. So the control thread announces itself, and holds a second lock (`turnstile`)
//! until it has the first. A worker that sees an announcement stands back. The pair's own worker
//! comes back later. A worker that delivers cannot, and passes the turnstile behind the control
//! thread. So the control thread waits for the present holder, and for each worker that had looked
//! before the announcement, and for no other. Each of them holds the lock for one bounded turn or
//! delivery.
//!
//! The pair's own worker does not wait for the lock either. The control thread may hold it for
//! long, because it asks the kernel for something, and the worker has other pairs to serve.
//!
//! What can go wrong: a panic under the lock would poison it. There are none outside tests, and the
//! state is as good as before: a poisoned lock is taken as it is.

use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, PoisonError, yield_now};

/// A lock in which the control side goes first.
#[derive(Default)]
pub struct PriorityMutex<T> {
    state: Mutex<T>,
    /// How many of the control side's threads have the lock or wait for it.
    announced: AtomicU32,
    turnstile: Mutex<()>,
}

/// What the control side has locked.
pub struct Control<'a, T> {
    state: MutexGuard<'a, T>,
    announced: &'a AtomicU32,
}

impl<T> Deref for Control<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Control<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T> Drop for Control<'_, T> {
    fn drop(&mut self) {
        self.announced.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> PriorityMutex<T> {
    /// Locks for the control side: next in line, however busy the workers are.
    pub fn control(&self) -> Control<'_, T> {
        let turnstile = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        self.announced.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(turnstile);
        Control { state, announced: &self.announced }
    }

    /// Whether the control side has the lock or waits for it.
    pub fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed) > 0
    }

    /// Locks for a worker that has something to bring and cannot come back for it: another port's.
    pub fn deliver(&self) -> MutexGuard<'_, T> {
        if self.is_announced() {
            drop(self.turnstile.lock());
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks for the pair's own worker, unless the control side has the lock or wants it: then
    /// `None`, and the worker comes back.
    pub fn work(&self) -> Option<MutexGuard<'_, T>> {
        if self.is_announced() {
            yield_now();
            return None;
        }
        Some(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    /// Two workers that delivered without a pause kept the control side out for as long as they
    /// liked.
    #[test]
    fn the_control_side_gets_in_between_two_that_deliver_all_the_time() {
        let (gate, stop) = (PriorityMutex::<u64>::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let mut guard = gate.deliver();
                        let end = Instant::now() + Duration::from_micros(200);
                        while Instant::now() < end {
                            *guard += 1;
                        }
                    }
                });
            }
            let mut longest = Duration::ZERO;
            for _ in 0..200 {
                let asked = Instant::now();
                drop(gate.control());
                longest = longest.max(asked.elapsed());
            }
            stop.store(true, Ordering::Relaxed);
            assert!(longest < Duration::from_secs(1), "the control side waited {longest:?}");
        });
    }

    #[test]
    fn a_worker_does_not_wait_for_the_control_side() {
        let gate = PriorityMutex::<u64>::default();
        let held = gate.control();
        assert!(gate.work().is_none());
        drop(held);
        assert!(gate.work().is_some());
    }
}
