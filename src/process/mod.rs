//! What the process needs beside its purpose: its log, its threads, its limits.
//!
//! | file | idea |
//! | --- | --- |
//! | [`descriptors`] | How many descriptors the process may open |
//! | [`logging`] | The program's log |
//! | [`port_log`] | The log of one port, bounded |
//! | [`threads`] | Starting a thread while tenants are served |
//! | [`unix_socket`] | Connected Unix sockets: which process is at the other end |

pub(crate) mod descriptors;
pub mod logging;
pub(crate) mod port_log;
pub(crate) mod threads;
pub(crate) mod unix_socket;
