//! Requests for a worker that may sleep.
//!
//! The first request after the inbox was empty wakes the worker, which then takes all of them; the others
//! cost no system call. So the waker must be called after the request is in, and the worker must empty
//! the inbox after each wake-up, before it looks at anything that a request may refer to.

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Requests that wait for the worker.
#[derive(Debug)]
pub struct Inbox<T>(Mutex<Vec<T>>);

impl<T> Default for Inbox<T> {
    fn default() -> Inbox<T> {
        Inbox(Mutex::new(Vec::new()))
    }
}

impl<T> Inbox<T> {
    /// Puts in a request. Calls `wake` if the worker may sleep.
    pub fn put(&self, request: T, wake: impl FnOnce()) {
        let mut requests = self.lock();
        let first = requests.is_empty();
        requests.push(request);
        drop(requests);
        if first {
            wake();
        }
    }

    /// Takes all requests, in their order.
    pub fn take(&self, take: impl FnMut(T)) {
        self.lock().drain(..).for_each(take);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
