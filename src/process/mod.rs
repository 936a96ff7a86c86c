//! What the process needs beside its purpose: its log, its threads, its limits.
//!
//! | file | idea |
//! | --- | --- |
//! | [`descriptors`] | How many descriptors the process may open |
//! | [`logging`] | The program's log |
//! | [`port_log`] | The log of one port, bounded |
//! | [`threads`] | Starting a thread while tenants are served |
//! | [`unix_socket`] | Connected Unix sockets: which process is at the other end |

pub mod descriptors;
pub mod logging;
pub mod port_log;
pub mod threads;
pub mod unix_socket;
