//! From what was typed to what the program works with: layers, names, and all faults at once.
//!
//! A key's value comes from the port itself, else from the flags, else from the file's `[defaults]`,
//! else from the program. A port from plain flags exists when `--socket-path` or `--fd` is given,
//! beside those of `--port` and `--config`. What can go wrong is the user's to correct, so every
//! fault that can be found is found before we give up.

use std::time::Duration;

use crate::config::check::PortDraft;
use crate::config::input::Input;
use crate::config::layer::Layer;
use crate::config::log_level::{LOG_LEVELS, level_of};
use crate::config::process::{Config, DEFAULT_BUSY_POLL, Workers};
use crate::config::raw_options::RawOptions;
use crate::config::setting::Setting;
use crate::config::{check, file, port_key};
use crate::error::{Error, ErrorCode, Problem, Result};
use crate::net::mode::Mode;
use crate::suggest;

/// The configuration that the arguments (and the file they name) ask for.
pub fn resolve(input: &Input) -> Result<Config> {
    let mut faults = Vec::new();
    let document =
        input.file.as_deref().map(|path| file::read(path, &mut faults)).unwrap_or_default();
    let flags = &input.flags;
    if flags.has("socket") && flags.fd.is_some() {
        faults.push("--fd with --socket-path: two ways to the front-end; give one".to_owned());
    }
    let fd = fd(flags, &mut faults);
    let own = Layer::parse(flags, &mut faults);
    let below = match &document.defaults {
        Some(words) => Layer::parse(words, &mut faults),
        None => Layer::default(),
    };
    if let Some(words) = &document.defaults {
        check::contradiction(words, &below, &mut faults);
    }
    let defaults = own.clone().over(&below);

    let mut candidates = Vec::new();
    if flags.has("socket") || flags.fd.is_some() {
        candidates.push(PortDraft { words: flags.clone(), fd, layer: defaults.clone() });
    }
    let mut add = |words: RawOptions, faults: &mut Vec<String>| {
        let layer = Layer::parse(&words, faults).over(&defaults);
        candidates.push(PortDraft { words, fd: Setting::Absent, layer });
    };
    for (index, text) in input.ports.iter().enumerate() {
        let words = port_key::read(index + 1, text, &mut faults);
        add(words, &mut faults);
    }
    for words in document.ports {
        add(words, &mut faults);
    }

    count(flags, &candidates, input.file.is_some(), &mut faults);
    check::contradiction(flags, &own, &mut faults);
    for words in [Some(flags), document.defaults.as_ref()].into_iter().flatten() {
        unused_sources(words, &candidates, &mut faults);
    }
    let mut ports = Vec::new();
    for candidate in &candidates {
        ports.extend(check::alone(candidate, &mut faults));
    }
    check::together(&candidates, &mut faults);
    let workers = workers(input.workers.as_deref(), &mut faults);
    let busy_poll = busy_poll(input.busy_poll.as_deref(), &mut faults);
    log_level(input.log_level.as_deref(), &mut faults);

    if !faults.is_empty() {
        if let Some(file) = &input.file {
            file::in_line_order(&file.display().to_string(), &mut faults);
        }
        let one_line =
            |fault: &String| Problem::new(ErrorCode::InvalidValue, "", one_line(fault), "");
        Error::of_problems(faults.iter().map(one_line))?;
    }
    // An inherited connection that has ended cannot come back.
    Ok(Config { ports, workers, busy_poll, one_off: input.one_off || flags.fd.is_some() })
}

/// A fault is one line, also when it quotes a value with a line break or a terminal's escapes.
fn one_line(fault: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    fault.chars().map(shown).collect()
}

fn fd(flags: &RawOptions, faults: &mut Vec<String>) -> Setting<i32> {
    let Some(text) = &flags.fd else {
        return Setting::Absent;
    };
    match text.parse() {
        Ok(fd @ 3..) => return Setting::Is(fd),
        Ok(0..=2) => {
            faults.push(format!("--fd {text}: 0 to 2 are stdin, stdout and stderr; use 3 or above"))
        }
        _ => faults.push(format!("--fd {text}: not a file descriptor's number; use 3 or above")),
    }
    Setting::Bad
}

/// There must be a port, and an inherited socket must be the only one.
fn count(flags: &RawOptions, ports: &[PortDraft], from_file: bool, faults: &mut Vec<String>) {
    if flags.fd.is_some() && ports.len() > 1 {
        let text = flags.label();
        faults.push(format!(
            "{text}: serves one port, but {} are given; use socket paths",
            ports.len()
        ));
    }
    // A file that could not be read has been reported, and is where the ports were to come from.
    let told = from_file && !faults.is_empty();
    if ports.is_empty() && !told {
        faults.push(
            "--socket-path: missing, so there is no port to serve; give --socket-path PATH (or \
             --fd N), --port socket=PATH,parent=DEV for each port, or --config FILE with [[port]] \
             tables"
                .to_owned(),
        );
    }
}

/// A default list of source addresses that no port takes up is a mistake, most likely a forgotten
/// mode. (One that the plain port gives for itself is checked with that port.)
fn unused_sources(words: &RawOptions, ports: &[PortDraft], faults: &mut Vec<String>) {
    let Some(text) = words.text("source") else { return };
    let used = |port: &PortDraft| {
        (words.is_flags() && port.words.is_flags())
            || check::mode(&port.layer).is_none_or(|mode| mode == Mode::Source)
    };
    if !ports.is_empty() && !ports.iter().any(used) {
        let spot = words.spot("source", text);
        faults.push(format!("{spot}: no port has mode=source; set it or leave the list out"));
    }
}

fn workers(text: Option<&str>, faults: &mut Vec<String>) -> Workers {
    let Some(text) = text else {
        return Workers::Auto;
    };
    if suggest::plain(text) == "per-queue" {
        return Workers::PerQueue;
    }
    match text.parse() {
        Ok(count @ 1..) => return Workers::Count(count),
        Ok(_) => faults.push("--workers 0: no thread would move frames; use 1 or more".to_owned()),
        Err(_) => {
            let question = suggest::question(text, &["per-queue"], &[]);
            faults
                .push(format!("--workers {text}: neither a number from 1 nor per-queue{question}"));
        }
    }
    Workers::Auto
}

/// The longest busy poll, in microseconds: what is longer is a polling process, and no pause between frames.
const LONGEST_POLL: u64 = 1000;

fn busy_poll(text: Option<&str>, faults: &mut Vec<String>) -> Duration {
    let Some(text) = text else { return DEFAULT_BUSY_POLL };
    match text.parse() {
        Ok(micros @ 0..=LONGEST_POLL) => return Duration::from_micros(micros),
        _ => faults.push(format!(
            "--busy-poll {text}: not a number of microseconds from 0 to {LONGEST_POLL}"
        )),
    }
    DEFAULT_BUSY_POLL
}

fn log_level(text: Option<&str>, faults: &mut Vec<String>) {
    if let Some(text) = text
        && level_of(text).is_none()
    {
        let names = LOG_LEVELS.map(|(name, _)| name);
        let foreign = [("verbose", "debug"), ("critical", "error"), ("notice", "info")];
        let question = suggest::question(text, &names, &foreign);
        let names = names.join(", ");
        faults.push(format!("--log-level {text}: not a level; the levels are {names}{question}"));
    }
}

#[cfg(test)]
mod tests;
