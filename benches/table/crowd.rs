//! A crowd of idle guests, and the memory and wakes of the process that serves them.
//!
//! Each guest is connected in QEMU's order, has a memory of its own, and has posted its receive
//! buffers. It stands for a booted guest with a quiet network.
//!
//! Memory: the process's own is `RssAnon` and `RssFile` of `/proc/PID/status`. The guests' memory
//! is shared (a memfd) and counts in `RssShmem`, which is left out. Pages that the kernel shares
//! with a packet socket's reader are in `RssFile`.
//!
//! Wakes: these are the voluntary context switches of all threads. A thread that never sleeps shows
//! in its processor time.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::generator::{Guest, Shape};

/// Connects guests to these sockets. Their memories are small, and only touched pages exist.
pub fn connect(sockets: &[PathBuf]) -> Vec<Guest> {
    let shape = Shape { memory: 2 << 20, ..Shape::default() };
    sockets.iter().map(|socket| Guest::connect(socket, &shape, None)).collect()
}

/// Resident memory of a process without what it shares with guests, in KiB.
pub fn own_memory(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&text, "RssAnon:")? + field(&text, "RssFile:")?)
}

/// How often the threads of a process have gone to sleep, all together.
pub fn sleeps(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("status"))?;
        sum += field(&text, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// Threads of a process.
pub fn threads(pid: u32) -> Result<f64> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count() as f64)
}

fn field(text: &str, name: &str) -> Result<f64> {
    let word = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("/proc tells no {name}"))?.parse()?)
}
