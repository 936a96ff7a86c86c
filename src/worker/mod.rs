//! Worker threads: who gets a turn, and when.
//!
//! A worker is one thread with one epoll instance. It runs turns, each with a budget, so that no ring of a worker
//! waits longer for another than one turn takes.
//!
//! | file | idea |
//! | --- | --- |
//! | [`poller`] | One epoll instance, owned |
//! | [`pool`] | The pool of workers and the worker slots of the queue pairs |
//! | [`priority_mutex`] | A lock between a worker and the control side |
//! | [`run_list`] | Which turns of a worker are due |
//! | [`task`] |  |
//! | [`thread`] | The loop of one worker thread |

pub mod poller;
pub mod pool;
pub mod priority_mutex;
pub mod run_list;
pub mod task;
pub mod thread;
