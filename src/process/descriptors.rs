//! How many descriptors the process may open.
//!
//! A port costs one for its socket, and a connected front-end about a dozen: its connection, eventfds, memory. The
//! soft limit that nearly everything is started with is 1024, which is there for programs that use
//! `select`, and so some eighty guests are the most. The hard limit is a few hundred thousand. We use epoll
//! only, and take what we may have, as QEMU's and libvirt's authors do.
//!
//! What can go wrong: the hard limit is low too. The program reports that at its start, before the
//! last VM of many fails to start.

use log::{debug, warn};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors of the process itself: epoll, netlink, signals, workers, parents.
const OWN: u64 = 32;
/// Those of a port with its front-end: sockets (5), memory (a few regions).
const PORT: u64 = 10;
/// Those of a queue pair: two kicks and their duplicates, two calls, two errors, a tap queue.
const PAIR: u64 = 9;

/// Raises the limit to what is allowed, and warns when that will not do for all ports.
///
/// `pairs` has the number of queue pairs of each port.
pub(crate) fn allow(pairs: impl Iterator<Item = u16> + Clone) {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(errno) => return debug!("limit of descriptors: {errno}"),
    };
    if soft < hard
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        debug!("limit of descriptors: stays at {soft}: {errno}");
    }
    let ports = pairs.clone().count();
    let wanted = wanted(pairs);
    if wanted > hard {
        warn!(
            "{ports} ports may need {wanted} file descriptors, {hard} are allowed: not every front-end will \
             be accepted; raise LimitNOFILE= (ulimit -Hn)"
        );
    }
}

/// What all ports may need with their front-ends connected.
fn wanted(pairs: impl Iterator<Item = u16>) -> u64 {
    OWN + pairs.map(|pairs| PORT + PAIR * u64::from(pairs)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_every_queue_pair() {
        assert_eq!(wanted([1, 4].into_iter()), OWN + 2 * PORT + 5 * PAIR);
    }
}
