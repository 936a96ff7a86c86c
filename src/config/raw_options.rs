//! RawOptions: what one place says about a port, still as text, and how to name it in a message.
//!
//! A fault is only useful if the user finds the spot. Flags are named as flags (`--mtu 12`), the
//! keys of a `--port` with its number and socket (`--port 2 (socket=/run/b.sock): mtu=12`), those of
//! a file with its line (`/etc/ports.toml:7: [[port]] 2 (socket=/run/b.sock): mtu=12`).

use std::collections::{BTreeMap, BTreeSet};

use crate::suggest;
use crate::suggest::FOREIGN_KEYS;

/// The keys of a port, in the order in which messages list them.
pub const KEYS: [&str; 19] = [
    "socket",
    "parent",
    "type",
    "mode",
    "mac",
    "mtu",
    "queue-pairs",
    "memory-limit",
    "source",
    "nodst",
    "reserved-groups",
    "guard",
    "name",
    "mac-changes",
    "compat",
    "client",
    "socket-owner",
    "socket-group",
    "socket-mode",
];

/// The entry of [`KEYS`] that `text` is, or a message that lists them all.
pub fn known_key(text: &str) -> Result<&'static str, String> {
    KEYS.into_iter().find(|key| *key == text).ok_or_else(|| {
        let question = suggest::question(text, &KEYS, FOREIGN_KEYS);
        let what = format!("'{text}' is not a key of a port{question}");
        match question.is_empty() {
            true => format!("{what}; the keys are {}", KEYS.join(", ")),
            false => format!("{what} The keys are {}", KEYS.join(", ")),
        }
    })
}

/// The key that was most likely meant by one that is not known.
pub fn meant_key(text: &str) -> Option<&'static str> {
    suggest::nearest(text, &KEYS, FOREIGN_KEYS)
}

/// The flag that gives a key's value.
fn flag(key: &str) -> String {
    if key == "socket" { "--socket-path".to_owned() } else { format!("--{key}") }
}

/// One value and the line it stands in, where it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The value as typed.
    pub text: String,
    /// The line of the file.
    pub line: Option<usize>,
}

/// Where words come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The plain flags.
    Flags,
    /// The n-th `--port`, from 1.
    PortArg(usize),
    /// The `[defaults]` table of this file, at this line.
    Defaults(String, usize),
    /// The n-th `[[port]]` table of this file, from 1, at this line.
    PortTable(String, usize, usize),
}

/// All that one place says about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOptions {
    place: Source,
    words: BTreeMap<&'static str, Word>,
    /// Keys that were given in a form which has been reported.
    spoilt: BTreeSet<&'static str>,
    /// The inherited descriptor, which only the flags can give.
    pub fd: Option<String>,
}

impl RawOptions {
    /// A place that says nothing yet.
    pub fn new(place: Source) -> RawOptions {
        RawOptions { place, words: BTreeMap::new(), spoilt: BTreeSet::new(), fd: None }
    }

    /// Adds a value. False if the key has one already, which then stays.
    pub fn add(&mut self, key: &'static str, text: String, line: Option<usize>) -> bool {
        let new = !self.words.contains_key(key);
        self.words.entry(key).or_insert(Word { text, line });
        new
    }

    /// The key was meant, but its name or value was no good, which has been reported: nobody shall say
    /// that it is missing.
    pub fn spoil(&mut self, key: &'static str) {
        self.spoilt.insert(key);
    }

    /// Whether the key was given in a form that has been reported.
    pub fn is_spoilt(&self, key: &str) -> bool {
        self.spoilt.contains(key)
    }

    /// The value of a key as typed.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.words.get(key).map(|word| word.text.as_str())
    }

    /// True if this place gives the key.
    pub fn has(&self, key: &str) -> bool {
        self.words.contains_key(key)
    }

    /// True for the plain flags.
    pub fn is_flags(&self) -> bool {
        self.place == Source::Flags
    }

    /// The port as a whole, for messages about two of them.
    pub fn label(&self) -> String {
        match &self.place {
            Source::Flags => match (self.text("socket"), &self.fd) {
                (Some(path), _) => format!("--socket-path {path}"),
                (None, Some(fd)) => format!("--fd {fd}"),
                (None, None) => "the flags".to_owned(),
            },
            Source::PortArg(_) => self.who(),
            Source::Defaults(file, line) | Source::PortTable(file, _, line) => {
                format!("{file}:{line}: {}", self.who())
            }
        }
    }

    /// A key with a value, for a message about it: the value typed here, or one that came from
    /// another place and only clashes here.
    pub fn spot(&self, key: &str, value: &str) -> String {
        if self.is_flags() {
            return match key {
                "client" | "compat" | "nodst" => flag(key),
                _ => format!("{} {value}", flag(key)),
            };
        }
        format!("{}: {key}={value}", self.at(key))
    }

    /// A key that is not there.
    pub fn missing(&self, key: &str) -> String {
        if self.is_flags() { flag(key) } else { format!("{}: {key}", self.at(key)) }
    }

    /// The place without a key: for a malformed piece of it, in this line where there is one.
    pub fn piece(&self, line: Option<usize>) -> String {
        match (&self.place, line) {
            (Source::Defaults(file, _) | Source::PortTable(file, ..), Some(line)) => {
                format!("{file}:{line}: {}", self.who())
            }
            _ => self.label(),
        }
    }

    fn at(&self, key: &str) -> String {
        self.piece(self.words.get(key).and_then(|word| word.line))
    }

    fn who(&self) -> String {
        let number = match &self.place {
            Source::Flags => return String::new(),
            Source::Defaults(..) => return "[defaults]".to_owned(),
            Source::PortArg(number) => format!("--port {number}"),
            Source::PortTable(_, number, _) => format!("[[port]] {number}"),
        };
        match self.text("socket") {
            Some(path) => format!("{number} (socket={path})"),
            None => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_named_so_that_it_can_be_found() {
        let mut flags = RawOptions::new(Source::Flags);
        flags.add("socket", "/run/a.sock".into(), None);
        assert_eq!(flags.spot("mtu", "12"), "--mtu 12");
        assert_eq!(flags.spot("client", "on"), "--client");
        assert_eq!(flags.missing("socket"), "--socket-path");
        assert_eq!(flags.label(), "--socket-path /run/a.sock");

        let mut arg = RawOptions::new(Source::PortArg(2));
        arg.add("socket", "/run/b.sock".into(), None);
        assert!(!arg.add("socket", "/run/c.sock".into(), None));
        assert_eq!(arg.spot("mtu", "12"), "--port 2 (socket=/run/b.sock): mtu=12");

        let mut table = RawOptions::new(Source::PortTable("/etc/p.toml".into(), 1, 4));
        table.add("mtu", "12".into(), Some(6));
        assert_eq!(table.spot("mtu", "12"), "/etc/p.toml:6: [[port]] 1: mtu=12");
        assert_eq!(table.missing("parent"), "/etc/p.toml:4: [[port]] 1: parent");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_known_ones() {
        let message = known_key("queues").unwrap_err();
        assert!(message.contains("'queues'") && message.contains("queue-pairs"), "{message}");
    }
}
