//! Locks and atomics, by one name for the program and for its models.
//!
//! Here they are the standard library's. The crate `models` compiles the files of the concurrent
//! protocols once more, with loom's in this place, and runs them in every order of their steps.

pub(crate) use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread::yield_now;
