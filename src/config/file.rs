//! `--config FILE`: a `[defaults]` table and `[[port]]` tables with the keys of `--port`.
//!
//! The document is walked by hand instead of being deserialized into a struct: serde stops at the
//! first unknown key or wrong type, and we owe the user all of them, each with its line. Every value
//! is turned back into the text that `--port` would have held, so that there is one parser for both
//! and a fault reads the same wherever it was typed.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::words::{Place, Words, known_key};

/// What a file says.
#[derive(Debug, Default)]
pub struct Document {
    /// The `[defaults]` table.
    pub defaults: Option<Words>,
    /// The `[[port]]` tables, in their order.
    pub ports: Vec<Words>,
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
    for (start, error) in &errors {
        let line = walk.line(*start);
        // Toml's messages may have several lines; a fault has one.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        faults.push(format!("{file}:{line}: not TOML: {message}"));
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
        for (key, value) in in_order(table) {
            let line = self.line(key.span().start);
            let here = format!("{}:{line}", self.file);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("defaults", DeValue::Table(table)) => {
                    let words =
                        self.words(Place::Defaults(self.file.to_owned(), line), table, faults);
                    if words.has("socket") {
                        faults.push(format!(
                            "{}: a socket belongs to one port; move it to a [[port]] table",
                            words.missing("socket")
                        ));
                    }
                    document.defaults = Some(words);
                }
                ("port", DeValue::Array(tables)) => {
                    document.ports = self.ports(tables, faults);
                }
                ("defaults", _) => faults.push(format!("{here}: write [defaults], a table")),
                ("port", _) => {
                    faults.push(format!("{here}: write [[port]], with two brackets, for each port"))
                }
                (other, _) => faults.push(format!(
                    "{here}: '{other}' is not known; a file holds [defaults] and [[port]] tables"
                )),
            }
        }
        document
    }

    fn ports(&self, tables: &DeArray, faults: &mut Vec<String>) -> Vec<Words> {
        let mut ports = Vec::new();
        for (index, value) in tables.iter().enumerate() {
            let line = self.line(value.span().start);
            let number = index + 1;
            match value.get_ref() {
                DeValue::Table(table) => {
                    let place = Place::PortTable(self.file.to_owned(), number, line);
                    ports.push(self.words(place, table, faults));
                }
                _ => faults.push(format!("{}:{line}: port {number} is not a table", self.file)),
            }
        }
        ports
    }

    fn words(&self, place: Place, table: &DeTable, faults: &mut Vec<String>) -> Words {
        let mut words = Words::new(place);
        let mut wrong = Vec::new();
        for (key, value) in in_order(table) {
            let line = self.line(key.span().start);
            let read = known_key(key.get_ref()).and_then(|key| Ok((key, as_text(key, value)?)));
            match read {
                Ok((key, text)) => {
                    words.add(key, text, Some(line));
                }
                Err(reason) => wrong.push((line, reason)),
            }
        }
        // Only now, because the socket that names the port may come last.
        let wrong = wrong.iter().map(|(line, why)| format!("{}: {why}", words.piece(Some(*line))));
        faults.extend(wrong);
        words
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
            texts
                .ok_or("source: a list of strings is wanted, as [\"52:54:00:12:34:56\"]")?
                .join("+")
        }
        other => {
            let kind = other.type_str();
            return Err(format!("{key}: a string, number or boolean is wanted, not a {kind}"));
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
            "f:4: [defaults]: 'queues' is not a key of a port; the keys are socket,",
            "f:6: [[port]] 1 (socket=/a): mtu: a string, number or boolean is wanted, not a float",
            "f:7: [[port]] 1 (socket=/a): mode: empty;",
            "f:8: [[port]] 1 (socket=/a): source: a list of strings is wanted",
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
