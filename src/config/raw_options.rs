//! What one source says about a port or the process, still as text, and how messages name it.
//!
//! A message only helps if the user finds the place. Flags are named as flags (`--mtu 12`), the
//! keys of a `--port` with its number and socket (`--port 2 (socket=/run/b.sock): mtu=12`), those of
//! a file with its line (`/etc/ports.toml:7: [[port]] 2 (socket=/run/b.sock): mtu=12`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::invalid::Invalid;
use crate::config::option::{Fallback, OptionSpec, Takes, keys};
use crate::config::setting::Setting;
use crate::error::{ErrorCode, Problem};
use crate::suggest;

/// One value and the line it stands in, where it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RawValue {
    text: String,
    line: Option<usize>,
}

/// Where options come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program's own defaults.
    Program,
    /// The plain flags.
    Flags,
    /// The n-th `--port`, from 1.
    PortArg(usize),
    /// The `[defaults]` table of this file, at this line.
    Defaults(String, usize),
    /// The n-th `[[port]]` table of this file, from 1, at this line.
    PortTable(String, usize, usize),
}

/// All that one source says.
#[derive(Clone, Debug)]
pub struct RawOptions {
    source: Source,
    table: &'static [OptionSpec],
    values: BTreeMap<&'static str, RawValue>,
    /// Keys that were given in a form which has been reported.
    spoilt: BTreeSet<&'static str>,
}

impl RawOptions {
    /// A source that says nothing yet, about the options of this table.
    pub fn new(source: Source, table: &'static [OptionSpec]) -> RawOptions {
        RawOptions { source, table, values: BTreeMap::new(), spoilt: BTreeSet::new() }
    }

    /// The values that the table gives as defaults.
    pub fn of_the_program(table: &'static [OptionSpec]) -> RawOptions {
        let mut raw = RawOptions::new(Source::Program, table);
        for spec in table {
            if let Fallback::Literal(value) = spec.fallback {
                raw.add(spec.key, value.to_owned(), None);
            }
        }
        raw
    }

    /// Adds a value. False if the key has one already, which then stays.
    pub fn add(&mut self, key: &'static str, text: String, line: Option<usize>) -> bool {
        let new = !self.values.contains_key(key);
        self.values.entry(key).or_insert(RawValue { text, line });
        new
    }

    /// The key was meant, but its name or value was wrong, which has been reported. It must not be
    /// reported as missing, too.
    pub fn spoil(&mut self, key: &'static str) {
        self.spoilt.insert(key);
    }

    /// The value of a key as typed.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.text.as_str())
    }

    /// True if this source gives the key.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// True for the plain flags.
    pub fn is_flags(&self) -> bool {
        self.source == Source::Flags
    }

    /// The value of a key, parsed; a wrong one is reported.
    pub fn parse<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
        problems: &mut Vec<Problem>,
    ) -> Setting<T> {
        let Some(text) = self.text(key) else {
            return if self.spoilt.contains(key) { Setting::Bad } else { Setting::Absent };
        };
        match parse(text) {
            Ok(value) => Setting::Is(value),
            Err(Invalid { reason, remedy }) => {
                problems.push(self.problem(ErrorCode::InvalidValue, key, text, reason, remedy));
                Setting::Bad
            }
        }
    }

    /// The entry that a typed key names.
    ///
    /// # Errors
    /// There is none: the reason and the remedy.
    pub fn known_key(&self, typed: &str) -> Result<&'static OptionSpec, Invalid> {
        keys(self.table).find(|spec| spec.key == typed).ok_or_else(|| {
            let list: Vec<&str> = keys(self.table).map(|spec| spec.key).collect();
            let list = list.join(", ");
            let remedy = match self.meant_key(typed) {
                Some(meant) => format!("did you mean {}? The keys are {list}", meant.key),
                None => format!("the keys are {list}"),
            };
            Invalid::new(format!("'{typed}' is not a key of a port"), remedy)
        })
    }

    /// The entry that was most likely meant by a key that is not known.
    pub fn meant_key(&self, typed: &str) -> Option<&'static OptionSpec> {
        meant_key(self.table, typed)
    }

    /// The port as a whole, for messages about two of them.
    pub fn label(&self) -> String {
        match &self.source {
            Source::Flags => match (self.text("socket"), self.text("fd")) {
                (Some(path), _) => format!("--socket-path {path}"),
                (None, Some(fd)) => format!("--fd {fd}"),
                (None, None) => "the flags".to_owned(),
            },
            Source::Program | Source::PortArg(_) => self.name(),
            Source::Defaults(file, line) | Source::PortTable(file, _, line) => {
                format!("{file}:{line}: {}", self.name())
            }
        }
    }

    /// A problem with a value: the one typed here, or one that came from another source and only
    /// clashes here.
    pub fn problem(
        &self,
        code: ErrorCode,
        key: &'static str,
        value: &str,
        reason: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Problem {
        let object = match self.spec(key) {
            Some(spec) if self.is_flags() && spec.takes == Takes::Switch => spec.typed_flag(),
            Some(spec) if self.is_flags() => format!("{} {value}", spec.typed_flag()),
            _ => format!("{}: {key}={value}", self.at(key)),
        };
        Problem { option: Some(key), ..Problem::new(code, object, reason, remedy) }
    }

    /// A key that is required and not given.
    pub fn missing(&self, key: &'static str, remedy: &str) -> Problem {
        let object = self.key_alone(key);
        let problem = Problem::new(ErrorCode::MissingValue, object, "missing", remedy);
        Problem { option: Some(key), ..problem }
    }

    /// A key without its value, for a message.
    pub fn key_alone(&self, key: &str) -> String {
        match self.spec(key) {
            Some(spec) if self.is_flags() => spec.typed_flag(),
            _ => format!("{}: {key}", self.at(key)),
        }
    }

    /// The source without a key: for a malformed piece of it, in this line where there is one.
    pub fn piece(&self, line: Option<usize>) -> String {
        match (&self.source, line) {
            (Source::Defaults(file, _) | Source::PortTable(file, ..), Some(line)) => {
                format!("{file}:{line}: {}", self.name())
            }
            _ => self.label(),
        }
    }

    fn spec(&self, key: &str) -> Option<&'static OptionSpec> {
        self.table.iter().find(|spec| spec.key == key)
    }

    fn at(&self, key: &str) -> String {
        self.piece(self.values.get(key).and_then(|value| value.line))
    }

    fn name(&self) -> String {
        let number = match &self.source {
            Source::Program => return "the program's default".to_owned(),
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

/// The entry of a table that was most likely meant by a key that it does not have.
pub fn meant_key(table: &'static [OptionSpec], typed: &str) -> Option<&'static OptionSpec> {
    let known: Vec<&str> = keys(table).map(|spec| spec.key).collect();
    let synonyms: Vec<(&str, &str)> =
        keys(table).flat_map(|spec| spec.synonyms.iter().map(|other| (*other, spec.key))).collect();
    let meant = suggest::nearest(typed, &known, &synonyms)?;
    keys(table).find(|spec| spec.key == meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::port_options::PORT_OPTIONS;

    fn object(raw: &RawOptions, key: &'static str, value: &str) -> String {
        raw.problem(ErrorCode::InvalidValue, key, value, "", "").object
    }

    #[test]
    fn every_place_is_named_so_that_it_can_be_found() {
        let mut flags = RawOptions::new(Source::Flags, PORT_OPTIONS);
        flags.add("socket", "/run/a.sock".into(), None);
        assert_eq!(object(&flags, "mtu", "12"), "--mtu 12");
        assert_eq!(object(&flags, "client", "on"), "--client");
        assert_eq!(flags.key_alone("socket"), "--socket-path");
        assert_eq!(flags.label(), "--socket-path /run/a.sock");

        let mut arg = RawOptions::new(Source::PortArg(2), PORT_OPTIONS);
        arg.add("socket", "/run/b.sock".into(), None);
        assert!(!arg.add("socket", "/run/c.sock".into(), None));
        assert_eq!(object(&arg, "mtu", "12"), "--port 2 (socket=/run/b.sock): mtu=12");

        let source = Source::PortTable("/etc/p.toml".into(), 1, 4);
        let mut table = RawOptions::new(source, PORT_OPTIONS);
        table.add("mtu", "12".into(), Some(6));
        assert_eq!(object(&table, "mtu", "12"), "/etc/p.toml:6: [[port]] 1: mtu=12");
        assert_eq!(table.key_alone("parent"), "/etc/p.toml:4: [[port]] 1: parent");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_known_ones() {
        let raw = RawOptions::new(Source::Flags, PORT_OPTIONS);
        let wrong = raw.known_key("queues").unwrap_err();
        assert!(wrong.reason.contains("'queues'"), "{wrong:?}");
        assert!(wrong.remedy.contains("queue-pairs"), "{wrong:?}");
    }

    #[test]
    fn typing_errors_and_foreign_words_have_an_answer_and_others_none() {
        let meant = |word: &str| meant_key(PORT_OPTIONS, word).map(|spec| spec.key);
        for (word, key) in [
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
            assert_eq!(meant(word), Some(key), "{word}");
        }
        for word in ["colour", "x", "foo", "", "\u{e9}\u{e9}", "vhostforce"] {
            assert_eq!(meant(word), None, "{word}");
        }
    }
}
