//! The program's concurrent protocols, run by loom in every order of their steps.
//!
//! Four source files of the program are compiled here once more, as they are. They take their locks and
//! atomics from `crate::sync`, which in the program is the standard library and here is loom. So what
//! is proved holds for the code itself, not for a copy. loom runs a test again and again until it has
//! seen every order in which the threads' steps can take place, and every value that a relaxed load can
//! return. It fails on an assertion and when all threads wait.
//!
//! | file | what is proved |
//! | --- | --- |
//! | `src/worker/priority_mutex.rs` | a worker that sees the announcement gets the lock after the control side |
//! | `src/worker/inbox.rs` | no request for a turn is lost, and none of a task that the worker does not see |
//! | `src/worker/snapshot.rs` | a reader sees a whole snapshot, the newest one, and drops it outside the lock |
//! | `src/virtqueue/notification.rs` | neither side of a ring sleeps while the other one has something for it |
//!
//! `make loom` looks at all orders, which takes a minute. `make test` looks at those in which a thread is
//! interrupted three times at most, which takes a second.

// The program uses every item of these files; the models need not.
#![allow(dead_code)]

pub mod sync;

#[path = "../../src/worker/inbox.rs"]
pub mod inbox;
#[path = "../../src/virtqueue/notification.rs"]
pub mod notification;
#[path = "../../src/worker/priority_mutex.rs"]
pub mod priority_mutex;
#[path = "../../src/worker/snapshot.rs"]
pub mod snapshot;
