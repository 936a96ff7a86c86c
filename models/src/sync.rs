//! loom in the place of the standard library: what `src/sync.rs` is in the program.

pub use std::sync::PoisonError;

pub use loom::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
pub use loom::sync::{Mutex, MutexGuard};
pub use loom::thread::yield_now;
