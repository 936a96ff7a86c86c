//! "Did you mean ...?": the word that a user most likely meant.
//!
//! A refusal that lists twenty words leaves the search to the reader. Two kinds of wrong words are
//! answered with one right word: typing errors (a letter too much, too little, another, two exchanged) and
//! words of other programs, which mean the same there: QEMU's `queues`, cloud-hypervisor's
//! `num_queues`, passt's `--socket`, a bridge helper's `iface`. Everything is compared in lower case and
//! with `_` for `-`.
//!
//! What can go wrong: a suggestion that is far off is worse than none. The number of errors that is
//! forgiven therefore grows with the word's length, and short words are forgiven one at most.

/// Words of other programs for a port's keys, and what they are called here.
pub const FOREIGN_KEYS: &[(&str, &str)] = &[
    ("queues", "queue-pairs"),
    ("num-queues", "queue-pairs"),
    ("queue-count", "queue-pairs"),
    ("queue", "queue-pairs"),
    ("pairs", "queue-pairs"),
    ("mq", "queue-pairs"),
    ("path", "socket"),
    ("sock", "socket"),
    ("socket-path", "socket"),
    ("vhost-socket", "socket"),
    ("chardev", "socket"),
    ("unix", "socket"),
    ("iface", "parent"),
    ("if", "parent"),
    ("ifname", "parent"),
    ("interface", "parent"),
    ("dev", "parent"),
    ("device", "parent"),
    ("netdev", "parent"),
    ("nic", "parent"),
    ("link", "parent"),
    ("lower", "parent"),
    ("lowerdev", "parent"),
    ("master", "parent"),
    ("bridge", "parent"),
    ("br", "parent"),
    ("eth", "parent"),
    ("uplink", "parent"),
    ("kind", "type"),
    ("driver", "type"),
    ("model", "type"),
    ("macvtap-mode", "mode"),
    ("mac-address", "mac"),
    ("macaddr", "mac"),
    ("macaddress", "mac"),
    ("hwaddr", "mac"),
    ("address", "mac"),
    ("addr", "mac"),
    ("lladdr", "mac"),
    ("host-mtu", "mtu"),
    ("tap", "name"),
    ("id", "name"),
    ("label", "name"),
    ("port-name", "name"),
    ("sources", "source"),
    ("macaddr-list", "source"),
    ("mac-change", "mac-changes"),
    ("spoof", "mac-changes"),
    ("spoofchk", "mac-changes"),
    ("trusted", "mac-changes"),
    ("owner", "socket-owner"),
    ("user", "socket-owner"),
    ("uid", "socket-owner"),
    ("group", "socket-group"),
    ("gid", "socket-group"),
    ("perm", "socket-mode"),
    ("perms", "socket-mode"),
    ("permissions", "socket-mode"),
    ("umask", "socket-mode"),
    ("mem-limit", "memory-limit"),
    ("max-memory", "memory-limit"),
    ("connect", "client"),
    ("reconnect", "client"),
    ("server", "client"),
];

/// The same for flags that are no keys.
pub const FOREIGN_FLAGS: &[(&str, &str)] = &[
    ("socket", "socket-path"),
    ("path", "socket-path"),
    ("sock", "socket-path"),
    ("listen", "socket-path"),
    ("vhost-socket", "socket-path"),
    ("vhost-user", "socket-path"),
    ("threads", "workers"),
    ("loglevel", "log-level"),
    ("verbose", "log-level"),
    ("debug", "log-level"),
    ("quiet", "log-level"),
    ("conf", "config"),
    ("file", "config"),
    ("configuration", "config"),
    ("one-shot", "one-off"),
    ("oneshot", "one-off"),
    ("once", "one-off"),
    ("dry-run", "check"),
    ("test", "check"),
    ("validate", "check"),
    ("net", "port"),
    ("capabilities", "print-capabilities"),
];

/// Words of other programs for modes and types.
pub const FOREIGN_VALUES: &[(&str, &str)] = &[
    ("passthrough", "passthru"),
    ("pass", "passthru"),
    ("isolated", "private"),
    ("tap", "macvtap"),
    ("kernel", "macvtap"),
    ("userspace", "macvlan"),
    ("user", "macvlan"),
    ("af-packet", "macvlan"),
    ("packet", "macvlan"),
    ("yes", "allow"),
    ("on", "allow"),
    ("true", "allow"),
    ("follow", "allow"),
    ("no", "deny"),
    ("off", "deny"),
    ("false", "deny"),
    ("drop", "deny"),
];

/// A word in the form in which words are compared.
pub fn plain(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

/// The known word that was most likely meant, if one is near.
pub fn nearest<'a>(word: &str, known: &[&'a str], foreign: &[(&str, &'a str)]) -> Option<&'a str> {
    let word = plain(word);
    let same = known.iter().copied().find(|candidate| *candidate == word);
    let meant = || foreign.iter().find(|(other, _)| *other == word).map(|&(_, here)| here);
    let meant = || meant().filter(|here| known.contains(here));
    let close = || {
        let far = |candidate: &&str| distance(&word, candidate);
        let best = known.iter().copied().min_by_key(far)?;
        (far(&best) <= forgiven(&word, best)).then_some(best)
    };
    let begins = || {
        let fits = |candidate: &&&str| word.len() >= 3 && candidate.starts_with(&word);
        known.iter().filter(fits).copied().min_by_key(|candidate| candidate.len())
    };
    let nearly_meant = || {
        let near = |&&(other, _): &&(&str, &str)| other.len() >= 5 && distance(&word, other) == 1;
        foreign.iter().find(near).map(|&(_, here)| here).filter(|here| known.contains(here))
    };
    same.or_else(meant).or_else(close).or_else(nearly_meant).or_else(begins)
}

/// The question to be put behind a refusal; empty where no word is near.
pub fn question(word: &str, known: &[&str], foreign: &[(&str, &str)]) -> String {
    nearest(word, known, foreign).map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

/// How many typing errors are forgiven between two words.
fn forgiven(word: &str, other: &str) -> usize {
    match word.chars().count().min(other.chars().count()) {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    }
}

/// The number of letters inserted, left out, replaced, or exchanged with their neighbour (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            let above = &rows[i - 1];
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_typing_errors() {
        for (a, b, errors) in [
            ("bridge", "bridge", 0),
            ("brigde", "bridge", 1),
            ("bridg", "bridge", 1),
            ("brridge", "bridge", 1),
            ("vepo", "vepa", 1),
            ("ab", "ba", 1),
            ("", "mac", 3),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(distance(a, b), errors, "{a} {b}");
            assert_eq!(distance(b, a), errors, "{b} {a}");
        }
    }

    #[test]
    fn typing_errors_and_foreign_words_have_an_answer_and_others_none() {
        let keys = crate::config::KEYS;
        for (word, meant) in [
            ("queues", "queue-pairs"),
            ("queus", "queue-pairs"),
            ("queue_pairs", "queue-pairs"),
            ("queuepairs", "queue-pairs"),
            ("QUEUE-PAIRS", "queue-pairs"),
            ("num_queues", "queue-pairs"),
            ("macc", "mac"),
            ("amc", "mac"),
            ("mac_changes", "mac-changes"),
            ("sokcet", "socket"),
            ("sock", "socket"),
            ("iface", "parent"),
            ("paremt", "parent"),
            ("tyep", "type"),
            ("host_mtu", "mtu"),
            ("clinet", "client"),
            ("socket_owner", "socket-owner"),
            ("sockt-group", "socket-group"),
        ] {
            assert_eq!(nearest(word, &keys, FOREIGN_KEYS), Some(meant), "{word}");
        }
        for word in ["colour", "x", "foo", "", "\u{e9}\u{e9}", "vhostforce"] {
            assert_eq!(nearest(word, &keys, FOREIGN_KEYS), None, "{word}");
        }
    }

    #[test]
    fn every_foreign_word_leads_somewhere() {
        let keys = crate::config::KEYS;
        for (word, here) in FOREIGN_KEYS {
            assert!(keys.contains(here), "{word}");
            assert!(!keys.contains(word), "{word}");
        }
    }
}
