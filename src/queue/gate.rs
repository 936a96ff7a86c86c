//! A lock between a worker and the control side.
//!
//! Mutexes are not fair: a worker that takes a lock for one turn after the other would win every race
//! against a control request that waits for it. So the control side announces itself, and a worker that
//! sees an announcement stands back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often whoever delivers stands back.
const PATIENCE: u32 = 16;

/// A lock in which the control side goes first.
#[derive(Default)]
pub struct Gate<T> {
    state: Mutex<T>,
    announced: AtomicU32,
}

impl<T> Gate<T> {
    /// Locks for the control side: next in line, however busy the worker is.
    pub fn control(&self) -> MutexGuard<'_, T> {
        self.announced.fetch_add(1, Ordering::Relaxed);
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.announced.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// Locks for somebody who has work to bring and cannot come back for it: another port's worker. The
    /// control side still goes first, if it gets there within a few looks.
    pub fn deliver(&self) -> MutexGuard<'_, T> {
        for _ in 0..PATIENCE {
            if self.announced.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::thread::yield_now();
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks for the worker, unless the control side wants to: then `None`, and the worker comes back.
    pub fn work(&self) -> Option<MutexGuard<'_, T>> {
        if self.announced.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
            return None;
        }
        Some(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
