//! `--config FILE`: a `[defaults]` table and `[[port]]` tables with the keys of `--port`.
//!
//! The document is walked by hand instead of being deserialized into a struct: serde stops at the
//! first unknown key or wrong type, and we owe the user all of them, each with its line. Every value
//! is turned back into the text that `--port` would have held, so that there is one parser for both
//! and a fault reads the same wherever it was typed.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::config::raw_options::{RawOptions, Source, known_key, meant_key};
use crate::suggest;

/// What a file says.
#[derive(Debug, Default)]
pub struct Document {
    /// The `[defaults]` table.
    pub defaults: Option<RawOptions>,
    /// The `[[port]]` tables, in their order.
    pub ports: Vec<RawOptions>,
}

/// Reads the file at `path`.
pub fn read(path: &Path, faults: &mut Vec<String>) -> Document {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&path.display().to_string(), &text, faults),
        Err(error) => {
            let path = path.display();
            faults.push(format!("--config {path}: {error}; name a readable TOML file"));
            Document::default()
        }
    }
}

/// Reads a file's text; `file` is its name for messages.
pub fn parse(file: &str, text: &str, faults: &mut Vec<String>) -> Document {
    let (table, errors) = DeTable::parse_recoverable(text);
    let walk = Walk::new(file, text);
    let mut errors: Vec<_> =
        errors.iter().map(|error| (error.span().unwrap_or_default().start, error)).collect();
    errors.sort_by_key(|(start, _)| *start);
    let mut told = None;
    for (start, error) in &errors {
        let line = walk.line(*start);
        // Toml's messages may have several lines; a fault has one.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        // What follows in the same line follows from the same mistake.
        if told != Some(line) {
            let remedy = "write key = \"text\" or key = 12, and [[port]] before each port's";
            faults.push(format!("{file}:{line}: not TOML: {message}; {remedy}"));
        }
        told = Some(line);
    }
    if !errors.is_empty() {
        // The rest would be guesses on what was recovered.
        return Document::default();
    }
    walk.document(table.get_ref(), faults)
}

struct Walk<'a> {
    file: &'a str,
    /// Where each line ends. Every word is asked for its line, and a file may hold thousands of ports.
    ends: Vec<usize>,
}

impl<'a> Walk<'a> {
    fn new(file: &'a str, text: &str) -> Walk<'a> {
        Walk { file, ends: text.match_indices('\n').map(|(end, _)| end).collect() }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.ends.partition_point(|&end| end < offset)
    }

    fn document(&self, table: &DeTable, faults: &mut Vec<String>) -> Document {
        let mut document = Document::default();
        let mut strays = Vec::new();
        for (key, value) in in_order(table) {
            let line = self.line(key.span().start);
            let name = key.get_ref().as_ref();
            let meant = suggest::nearest(name, &TABLES, FOREIGN_TABLES);
            if let Some(fault) = misnamed(name, meant, value.get_ref()) {
                faults.push(format!("{}:{line}: {fault}", self.file));
            }
            // What was meant is read all the same, so that one mistake is not told as several.
            match (meant, value.get_ref()) {
                (Some("defaults"), DeValue::Table(table)) => {
                    document.defaults = Some(self.defaults(line, table, faults));
                }
                (Some("defaults"), DeValue::Array(tables)) => {
                    if let Some(DeValue::Table(table)) = tables.first().map(Spanned::get_ref) {
                        document.defaults = Some(self.defaults(line, table, faults));
                    }
                }
                (Some("port"), DeValue::Array(tables)) => {
                    document.ports.extend(self.ports(tables, faults));
                }
                (Some("port"), DeValue::Table(table)) => {
                    let place = Source::PortTable(self.file.to_owned(), 1, line);
                    document.ports.push(self.words(place, table, faults));
                }
                _ => strays.extend(meant_key(name).map(|key| (key, line))),
            }
        }
        for (key, line) in strays {
            let place = Source::Defaults(self.file.to_owned(), line);
            document.defaults.get_or_insert_with(|| RawOptions::new(place)).spoil(key);
        }
        document
    }

    fn defaults(&self, line: usize, table: &DeTable, faults: &mut Vec<String>) -> RawOptions {
        let words = self.words(Source::Defaults(self.file.to_owned(), line), table, faults);
        if words.has("socket") {
            faults.push(format!(
                "{}: a socket belongs to one port; move it to a [[port]] table",
                words.missing("socket")
            ));
        }
        words
    }

    fn ports(&self, tables: &DeArray, faults: &mut Vec<String>) -> Vec<RawOptions> {
        let mut ports = Vec::new();
        for (index, value) in tables.iter().enumerate() {
            let line = self.line(value.span().start);
            let number = index + 1;
            match value.get_ref() {
                DeValue::Table(table) => {
                    let place = Source::PortTable(self.file.to_owned(), number, line);
                    ports.push(self.words(place, table, faults));
                }
                _ => faults.push(format!("{}:{line}: port {number} is not a table", self.file)),
            }
        }
        ports
    }

    fn words(&self, place: Source, table: &DeTable, faults: &mut Vec<String>) -> RawOptions {
        let mut words = RawOptions::new(place);
        let mut wrong = Vec::new();
        for (key, value) in in_order(table) {
            let line = self.line(key.span().start);
            let known = known_key(key.get_ref());
            let meant = known.as_ref().ok().copied().or_else(|| meant_key(key.get_ref()));
            match known.and_then(|key| Ok((key, as_text(key, value)?))) {
                Ok((key, text)) => {
                    words.add(key, text, Some(line));
                }
                Err(reason) => {
                    meant.into_iter().for_each(|key| words.spoil(key));
                    wrong.push((line, reason));
                }
            }
        }
        // Only now, because the socket that names the port may come last.
        let wrong = wrong.iter().map(|(line, why)| format!("{}: {why}", words.piece(Some(*line))));
        faults.extend(wrong);
        words
    }
}

/// What is wrong with a name at the top of the file, if anything is.
fn misnamed(name: &str, meant: Option<&str>, value: &DeValue) -> Option<String> {
    let holds = "a file holds [defaults] and [[port]] tables";
    let (one, many) = (matches!(value, DeValue::Table(_)), matches!(value, DeValue::Array(_)));
    match (name, meant) {
        ("defaults", _) if one => None,
        ("port", _) if many => None,
        ("defaults", _) => Some("write [defaults], a table, with one bracket".to_owned()),
        ("port", _) => Some("write [[port]], with two brackets, for each port".to_owned()),
        (_, Some("defaults")) if one || many => {
            Some(format!("'{name}' is not known; did you mean [defaults]?"))
        }
        (_, Some("port")) if one || many => {
            Some(format!("'{name}' is not known; did you mean [[port]]?"))
        }
        _ if FLAGS_ONLY.contains(&suggest::plain(name).as_str()) => Some(format!(
            "'{name}' is not known; {holds}; give the flag --{}",
            suggest::plain(name)
        )),
        _ => Some(match meant_key(name) {
            Some(key) => {
                format!("'{name}' is not known here; {holds}; move {key} below one of them")
            }
            None => format!("'{name}' is not known; {holds}"),
        }),
    }
}

/// The tables of a file.
const TABLES: [&str; 2] = ["defaults", "port"];

/// What other programs call them.
const FOREIGN_TABLES: &[(&str, &str)] = &[
    ("default", "defaults"),
    ("global", "defaults"),
    ("globals", "defaults"),
    ("general", "defaults"),
    ("common", "defaults"),
    ("main", "defaults"),
    ("ports", "port"),
    ("vm", "port"),
    ("vms", "port"),
    ("guest", "port"),
    ("guests", "port"),
    ("interface", "port"),
    ("interfaces", "port"),
    ("net", "port"),
    ("nic", "port"),
    ("device", "port"),
    ("network", "port"),
];

/// What belongs to the process and has a flag only.
const FLAGS_ONLY: [&str; 5] = ["workers", "busy-poll", "log-level", "one-off", "config"];

/// Puts the faults of a file into the order of its lines. They are found in several rounds (names,
/// values, ports against each other), and each begins with its place. The others stay where they are.
pub fn in_line_order(file: &str, faults: &mut [String]) {
    let line = |fault: &str| -> Option<usize> {
        let rest = fault.strip_prefix(file)?.strip_prefix(':')?;
        rest.split(':').next()?.parse().ok()
    };
    let places: Vec<usize> =
        (0..faults.len()).filter(|&index| line(&faults[index]).is_some()).collect();
    let mut sorted: Vec<String> = places.iter().map(|&index| faults[index].clone()).collect();
    sorted.sort_by_key(|fault| line(fault));
    for (index, fault) in places.into_iter().zip(sorted) {
        faults[index] = fault;
    }
}

/// A table is sorted by key; messages come in the order of the file.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The value as `--port` would hold it.
fn as_text(key: &str, value: &Spanned<DeValue>) -> Result<String, String> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        // Its digits are octal whether or not they are marked so: 0o660, 660.
        DeValue::Integer(number) if key == "socket-mode" && matches!(number.radix(), 8 | 10) => {
            number.as_str().to_owned()
        }
        // 0x578 is a number like any other here, which `--port` would not take.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |number| number.to_string()),
        DeValue::Boolean(on) => if *on { "on" } else { "off" }.to_owned(),
        DeValue::Array(list) if key == "source" => {
            let texts: Option<Vec<&str>> =
                list.iter().map(|item| item.get_ref().as_str()).collect();
            texts.ok_or("source: expected a list of strings, as [\"52:54:00:12:34:56\"]")?.join("+")
        }
        other => {
            let kind = other.type_str();
            return Err(format!("{key}: expected a string, number or boolean, not a {kind}"));
        }
    };
    if text.is_empty() {
        return Err(format!("{key}: empty; give a value or leave the key out"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_the_text_of_a_port_argument() {
        let text = "[defaults]\nparent = 'eth0'\n[[port]]\nsocket = '/a'\nmtu = 0x578\n\
                    compat = false\nsource = ['02:0:0:0:0:1', '02:0:0:0:0:2']\n[[port]]\n";
        let mut faults = Vec::new();
        let document = parse("f", text, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(document.defaults.unwrap().text("parent"), Some("eth0"));
        assert_eq!(document.ports.len(), 2);
        let port = &document.ports[0];
        assert_eq!(port.text("mtu"), Some("1400"));
        assert_eq!(port.text("compat"), Some("off"));
        assert_eq!(port.text("source"), Some("02:0:0:0:0:1+02:0:0:0:0:2"));
    }

    #[test]
    fn every_fault_has_its_line() {
        let text = "workers = 3\n[defaults]\nsocket = '/x'\nqueues = 2\n[[port]]\nmtu = 1.5\n\
                    mode = ''\nsource = [1]\nsocket = '/a'\n";
        let mut faults = Vec::new();
        parse("f", text, &mut faults);
        let text = faults.join("\n");
        for start in [
            "f:1: 'workers' is not known; a file holds [defaults] and [[port]] tables",
            "f:3: [defaults]: socket: a socket belongs to one port;",
            "f:4: [defaults]: 'queues' is not a key of a port; did you mean queue-pairs? The keys",
            "f:6: [[port]] 1 (socket=/a): mtu: expected a string, number or boolean, not a float",
            "f:7: [[port]] 1 (socket=/a): mode: empty;",
            "f:8: [[port]] 1 (socket=/a): source: expected a list of strings",
        ] {
            assert!(text.contains(start), "{start}\nnot in\n{text}");
        }
        assert_eq!(faults.len(), 6, "{text}");
    }

    #[test]
    fn broken_toml_is_told_with_its_line_and_nothing_else() {
        let mut faults = Vec::new();
        let document = parse("f", "[[port]]\nmtu = \nx = [\n", &mut faults);
        assert!(document.ports.is_empty());
        assert!(faults[0].starts_with("f:2: not TOML: "), "{faults:?}");
        let mut faults = Vec::new();
        parse("f", "[port]\nmtu = 1\n", &mut faults);
        assert_eq!(faults, ["f:1: write [[port]], with two brackets, for each port"]);
    }
}
