//! `--config FILE`: a `[defaults]` table and `[[port]]` tables with the keys of `--port`.
//!
//! The document is walked by hand instead of being deserialized into a struct: serde stops at the
//! first unknown key or wrong type, and the user is owed all of them, each with its line. Every value
//! is turned back into the text that `--port` would have held, so that there is one parser for both
//! and an error reads the same wherever it was typed.

mod top_level;

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::config::file::top_level::{meant_table, misnamed};
use crate::config::invalid::Invalid;
use crate::config::option::{OptionSpec, Scope, Takes};
use crate::config::raw_options::{RawOptions, Source, meant_key};
use crate::error::ErrorCode::{ConfigUnreadable, InvalidValue, UnknownName};
use crate::error::{ErrorCode, Problem};

/// What a file says.
#[derive(Debug, Default)]
pub struct Document {
    /// The `[defaults]` table.
    pub defaults: Option<RawOptions>,
    /// The `[[port]]` tables, in their order.
    pub ports: Vec<RawOptions>,
}

/// Reads the file at `path` by a table of options.
pub fn read(options: &'static [OptionSpec], path: &Path, problems: &mut Vec<Problem>) -> Document {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(options, &path.display().to_string(), &text, problems),
        Err(error) => {
            let object = format!("--config {}", path.display());
            let remedy = "name a readable TOML file";
            problems.push(Problem::new(ConfigUnreadable, object, error, remedy));
            Document::default()
        }
    }
}

/// Reads a file's text; `file` is its name for messages.
pub fn parse(
    options: &'static [OptionSpec],
    file: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Document {
    let (table, errors) = DeTable::parse_recoverable(text);
    let walk = Walk::new(options, file, text);
    let mut errors: Vec<_> =
        errors.iter().map(|error| (error.span().unwrap_or_default().start, error)).collect();
    errors.sort_by_key(|(start, _)| *start);
    let mut reported = None;
    for (start, error) in &errors {
        let line = walk.line(*start);
        // Toml's messages may have several lines; ours have one.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        // What follows in the same line follows from the same mistake.
        if reported != Some(line) {
            let remedy = "write key = \"text\" or key = 12, and [[port]] before each port's";
            let reason = format!("not TOML: {message}");
            problems.push(walk.problem(ConfigUnreadable, line, Invalid::new(reason, remedy)));
        }
        reported = Some(line);
    }
    if !errors.is_empty() {
        // The rest would be guesses on what was recovered.
        return Document::default();
    }
    walk.document(table.get_ref(), problems)
}

struct Walk<'a> {
    options: &'static [OptionSpec],
    file: &'a str,
    /// Where each line ends. Every value is asked for its line, and a file may hold thousands of ports.
    ends: Vec<usize>,
}

impl<'a> Walk<'a> {
    fn new(options: &'static [OptionSpec], file: &'a str, text: &str) -> Walk<'a> {
        Walk { options, file, ends: text.match_indices('\n').map(|(end, _)| end).collect() }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.ends.partition_point(|&end| end < offset)
    }

    fn problem(&self, code: ErrorCode, line: usize, wrong: Invalid) -> Problem {
        Problem::new(code, format!("{}:{line}", self.file), wrong.reason, wrong.remedy)
    }

    fn document(&self, table: &DeTable, problems: &mut Vec<Problem>) -> Document {
        let mut document = Document::default();
        let mut strays = Vec::new();
        for (key, value) in in_order(table) {
            let line = self.line(key.span().start);
            let name = key.get_ref().as_ref();
            if let Some(wrong) = misnamed(name, value.get_ref(), self.options) {
                problems.push(self.problem(UnknownName, line, wrong));
            }
            // What was meant is read all the same, so that one mistake is not reported as several.
            match (meant_table(name), value.get_ref()) {
                (Some("defaults"), DeValue::Table(table)) => {
                    document.defaults = Some(self.defaults(line, table, problems));
                }
                (Some("defaults"), DeValue::Array(tables)) => {
                    if let Some(DeValue::Table(table)) = tables.first().map(Spanned::get_ref) {
                        document.defaults = Some(self.defaults(line, table, problems));
                    }
                }
                (Some("port"), DeValue::Array(tables)) => {
                    document.ports.extend(self.ports(tables, problems));
                }
                (Some("port"), DeValue::Table(table)) => {
                    let source = Source::PortTable(self.file.to_owned(), 1, line);
                    document.ports.push(self.options(source, table, problems));
                }
                _ => strays.extend(meant_key(self.options, name).map(|spec| (spec.key, line))),
            }
        }
        for (key, line) in strays {
            let source = Source::Defaults(self.file.to_owned(), line);
            let defaults = || RawOptions::new(source, self.options);
            document.defaults.get_or_insert_with(defaults).spoil(key);
        }
        document
    }

    fn defaults(&self, line: usize, table: &DeTable, problems: &mut Vec<Problem>) -> RawOptions {
        let source = Source::Defaults(self.file.to_owned(), line);
        let raw = self.options(source, table, problems);
        let alone = self.options.iter().filter(|spec| spec.scope == Scope::OnePort);
        for key in alone.map(|spec| spec.key).filter(|key| raw.has(key)) {
            let reason = format!("a {key} belongs to one port");
            let object = raw.key_alone(key);
            let problem = Problem::new(InvalidValue, object, reason, "move it to a [[port]] table");
            problems.push(Problem { option: Some(key), ..problem });
        }
        raw
    }

    fn ports(&self, tables: &DeArray, problems: &mut Vec<Problem>) -> Vec<RawOptions> {
        let mut ports = Vec::new();
        for (index, value) in tables.iter().enumerate() {
            let line = self.line(value.span().start);
            let number = index + 1;
            match value.get_ref() {
                DeValue::Table(table) => {
                    let source = Source::PortTable(self.file.to_owned(), number, line);
                    ports.push(self.options(source, table, problems));
                }
                _ => {
                    let wrong = Invalid::new(format!("port {number} is not a table"), "");
                    problems.push(self.problem(InvalidValue, line, wrong));
                }
            }
        }
        ports
    }

    fn options(&self, source: Source, table: &DeTable, problems: &mut Vec<Problem>) -> RawOptions {
        let mut raw = RawOptions::new(source, self.options);
        let mut wrong = Vec::new();
        for (typed, value) in in_order(table) {
            let line = self.line(typed.span().start);
            let (spec, unknown) = match raw.known_key(typed.get_ref()) {
                Ok(spec) => (Some(spec), None),
                Err(unknown) => (raw.meant_key(typed.get_ref()), Some(unknown)),
            };
            let read = match (spec, unknown) {
                (_, Some(unknown)) => Err((UnknownName, unknown)),
                (Some(spec), None) => as_text(spec, value)
                    .map(|text| (spec.key, text))
                    .map_err(|wrong| (InvalidValue, wrong)),
                (None, None) => continue,
            };
            match read {
                Ok((key, text)) => {
                    raw.add(key, text, Some(line));
                }
                Err((code, invalid)) => {
                    spec.into_iter().for_each(|spec| raw.spoil(spec.key));
                    wrong.push((line, code, invalid));
                }
            }
        }
        // Only now, because the socket that names the port may come last.
        problems.extend(wrong.into_iter().map(|(line, code, wrong)| {
            Problem::new(code, raw.piece(Some(line)), wrong.reason, wrong.remedy)
        }));
        raw
    }
}

/// Puts the problems of a file into the order of its lines. They are found in several rounds (names,
/// values, ports against each other), and each begins with its place. The others stay where they are.
pub fn in_line_order(file: &str, problems: &mut [Problem]) {
    let line = |problem: &Problem| -> Option<usize> {
        let rest = problem.object.strip_prefix(file)?.strip_prefix(':')?;
        rest.split(':').next()?.parse().ok()
    };
    let places: Vec<usize> =
        (0..problems.len()).filter(|&index| line(&problems[index]).is_some()).collect();
    let mut sorted: Vec<Problem> = places.iter().map(|&index| problems[index].clone()).collect();
    sorted.sort_by_key(|problem| line(problem));
    for (index, problem) in places.into_iter().zip(sorted) {
        problems[index] = problem;
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
fn as_text(spec: &OptionSpec, value: &Spanned<DeValue>) -> Result<String, Invalid> {
    let key = spec.key;
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        // Its digits are octal whether or not they are marked so: 0o660, 660.
        DeValue::Integer(number)
            if matches!(spec.takes, Takes::Octal(_)) && matches!(number.radix(), 8 | 10) =>
        {
            number.as_str().to_owned()
        }
        // 0x578 is a number like any other here, which `--port` would not take.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |number| number.to_string()),
        DeValue::Boolean(on) => if *on { "on" } else { "off" }.to_owned(),
        DeValue::Array(list) if matches!(spec.takes, Takes::List(_)) => {
            let texts: Option<Vec<&str>> =
                list.iter().map(|item| item.get_ref().as_str()).collect();
            let wanted = format!("{key}: expected a list of strings, as [\"52:54:00:12:34:56\"]");
            texts.ok_or_else(|| Invalid::new(wanted, ""))?.join("+")
        }
        other => {
            let kind = other.type_str();
            let wanted = format!("{key}: expected a string, number or boolean, not a {kind}");
            return Err(Invalid::new(wanted, ""));
        }
    };
    if text.is_empty() {
        let remedy = "give a value or leave the key out";
        return Err(Invalid::new(format!("{key}: empty"), remedy));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
