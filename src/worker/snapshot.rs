//! A value that one thread replaces and others read as a whole.
//!
//! A reader takes the present value and works with it for as long as it likes; the next one may be there
//! meanwhile. Under the lock the pointer is copied or replaced, and nothing else happens. In particular
//! the old value is dropped outside the lock: it may be the last reference to something whose drop reads
//! the present value.

use std::mem;
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A value in its present version.
#[derive(Debug, Default)]
pub struct Snapshot<T>(Mutex<Arc<T>>);

impl<T> Snapshot<T> {
    /// The present value.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.lock())
    }

    /// Puts another value in its place.
    pub fn set(&self, value: T) {
        let value = Arc::new(value);
        let old = mem::replace(&mut *self.lock(), value);
        drop(old);
    }

    /// Changes the value, or a copy of it while readers have it. What `change` returns is returned
    /// outside the lock.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Clone,
    {
        change(Arc::make_mut(&mut self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_keeps_what_it_has_taken() {
        let snapshot = Snapshot::<Vec<u32>>::default();
        let before = snapshot.get();
        assert_eq!(snapshot.update(|value| value.len()), 0);
        snapshot.update(|value| value.push(7));
        assert_eq!((&*before, &*snapshot.get()), (&vec![], &vec![7]));
        snapshot.set(vec![1, 2]);
        assert_eq!(*snapshot.get(), [1, 2]);
    }
}
