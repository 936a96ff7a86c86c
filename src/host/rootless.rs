//! Whether we run in a user namespace other than the host's: a rootless container, `unshare -U`.
//!
//! Such a process may own a network namespace and make macvtap devices there, but never open their
//! nodes: the kernel checks `mknod` and the node's permissions against the host's user namespace.
//! No capability that it can be given helps, so the usual advice (CAP_MKNOD, a udev rule) leads
//! nowhere. For an AF_PACKET socket the kernel checks the network namespace's owner, and that
//! works: `type=macvlan`.
//!
//! What can go wrong: /proc is not mounted. Then the usual advice is given.

use std::fs;

/// The remedy in place of the usual one.
pub(crate) const REMEDY: &str = "in a user namespace (a rootless container) no tap node can be \
                                 opened, with any capabilities: use --type macvlan, which needs \
                                 none";

/// True in any user namespace but the host's.
pub fn is_rootless() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map))
}

/// The host's own map: all numbers, as they are.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_map_is_the_hosts() {
        assert!(is_whole("         0          0 4294967295\n"));
        for map in ["0 1000 1\n", "0 0 1\n", "0 0 65536\n", "0 1000 1\n1 100000 65536\n", ""] {
            assert!(!is_whole(map), "{map}");
        }
    }
}
