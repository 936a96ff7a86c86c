//! What the whole process is to be, resolved: its ports, and what they share.

use std::time::Duration;

use crate::config::port_config::PortConfig;

/// How many threads carry the queue pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// At most one per CPU.
    #[default]
    Auto,
    /// One for every queue pair.
    PerQueue,
    /// This many, at least 1.
    Count(usize),
}

/// The whole process's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The ports, at least one.
    pub ports: Vec<PortConfig>,
    /// How many threads carry the queue pairs.
    pub workers: Workers,
    /// How long a worker looks for more frames before it sleeps, after some have moved.
    pub busy_poll: Duration,
    /// End when the front-end of any port disconnects.
    pub one_off: bool,
}

impl Config {
    /// Number of worker threads: never more than there are queue pairs.
    pub fn threads(&self) -> usize {
        let pairs: usize = self.ports.iter().map(|port| usize::from(port.queue_pairs)).sum();
        let wanted = match self.workers {
            Workers::Auto => std::thread::available_parallelism().map_or(1, |count| count.get()),
            Workers::PerQueue => pairs,
            Workers::Count(count) => count,
        };
        wanted.clamp(1, pairs.max(1))
    }
}
