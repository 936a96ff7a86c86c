//! Worker threads: which task gets a turn, and when.
//!
//! A worker is one thread with one epoll instance. It runs tasks in turns, each with a budget, so
//! that no task of a worker waits longer for another one than a turn takes. What a task is and what
//! its turns move, the worker does not know: nothing here names a queue pair, a ring or a frame.
//!
//! | file | idea |
//! | --- | --- |
//! | [`deadlines`] | Every timer of a worker, in one structure |
//! | [`inbox`] | Requests for a worker that may sleep |
//! | [`poller`] | One epoll instance, owned |
//! | [`pool`] | The workers of a process |
//! | [`priority_mutex`] | A lock between a worker and the control side |
//! | [`run_list`] | Which turns of a worker are due |
//! | [`slot`] | A task's place at a worker |
//! | [`snapshot`] | A value that one thread replaces and others read as a whole |
//! | [`task`] | What a worker runs |
//! | [`thread`] | The loop of one worker thread |
//! | [`token`] | What woke a worker |

pub(crate) mod deadlines;
pub(crate) mod inbox;
pub(crate) mod poller;
pub mod pool;
pub(crate) mod priority_mutex;
pub(crate) mod run_list;
pub mod slot;
pub(crate) mod snapshot;
pub mod task;
pub(crate) mod thread;
pub(crate) mod token;
