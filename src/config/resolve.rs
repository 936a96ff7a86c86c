//! From what was typed to what the program works with: layers, names, and all errors at once.
//!
//! A key's value comes from the port itself, else from the flags, else from the file's `[defaults]`,
//! else from the program. A port from plain flags exists when `--socket-path` or `--fd` is given,
//! beside those of `--port` and `--config`. What can go wrong is the user's to correct, so every
//! error that can be found is found before the program gives up.

use crate::config::input::Input;
use crate::config::port_draft::{PortDraft, check_socket_mode};
use crate::config::port_options::{PORT_OPTIONS, PortSettings};
use crate::config::process::Config;
use crate::config::process_options::ProcessSettings;
use crate::config::raw_options::RawOptions;
use crate::config::{file, port_key, siblings};
use crate::error::{Error, ErrorCode, Problem, Result};
use crate::net::mode::Mode;

/// The configuration that the arguments (and the file they name) ask for.
///
/// # Errors
/// Everything that is wrong with them.
pub fn resolve(input: &Input) -> Result<Config> {
    let mut problems = Vec::new();
    let document = input
        .file
        .as_deref()
        .map(|path| file::read(PORT_OPTIONS, path, &mut problems))
        .unwrap_or_default();
    let flags = &input.flags;
    if flags.has("socket") && flags.has("fd") {
        let object = "--fd with --socket-path";
        let reason = "two ways to the front-end";
        problems.push(Problem::new(ErrorCode::Conflict, object, reason, "give one"));
    }
    let own = PortSettings::parse(flags, &mut problems);
    let below = match &document.defaults {
        Some(raw) => PortSettings::parse(raw, &mut problems),
        None => PortSettings::default(),
    };
    if let Some(raw) = &document.defaults {
        check_socket_mode(raw, &below, &mut problems);
    }
    let below = below.over(&PortSettings::of_the_program());
    let defaults = own.clone().over(&below);

    let mut drafts = Vec::new();
    if flags.has("socket") || flags.has("fd") {
        drafts.push(PortDraft { raw: flags.clone(), settings: defaults.clone() });
    }
    let mut add = |raw: RawOptions, problems: &mut Vec<Problem>| {
        let settings = PortSettings::parse(&raw, problems).over(&defaults);
        drafts.push(PortDraft { raw, settings });
    };
    for (index, text) in input.ports.iter().enumerate() {
        let raw = port_key::read(PORT_OPTIONS, index + 1, text, &mut problems);
        add(raw, &mut problems);
    }
    for raw in document.ports {
        add(raw, &mut problems);
    }

    check_count(flags, &drafts, input.file.is_some(), &mut problems);
    check_socket_mode(flags, &own, &mut problems);
    for raw in [Some(flags), document.defaults.as_ref()].into_iter().flatten() {
        check_unused_sources(raw, &drafts, &mut problems);
    }
    let mut ports = Vec::new();
    for draft in &drafts {
        ports.extend(draft.check(&mut problems));
    }
    siblings::check(&drafts, &mut problems);
    let process = ProcessSettings::parse(&input.process, &mut problems)
        .over(&ProcessSettings::of_the_program());

    if let Some(file) = &input.file {
        file::in_line_order(&file.display().to_string(), &mut problems);
    }
    problems.iter_mut().for_each(make_one_line);
    Error::of_problems(problems)?;
    Ok(Config {
        ports,
        workers: process.workers.get().copied().unwrap_or_default(),
        busy_poll: process.busy_poll.get().copied().unwrap_or_default(),
        // An inherited connection that has ended cannot come back.
        one_off: process.one_off.get() == Some(&true) || flags.has("fd"),
    })
}

/// A message is one line, also when it quotes a value with a line break or a terminal's escapes.
fn make_one_line(problem: &mut Problem) {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    for part in [&mut problem.object, &mut problem.reason, &mut problem.remedy] {
        *part = part.chars().map(shown).collect();
    }
}

/// There must be a port, and an inherited socket must be the only one.
fn check_count(
    flags: &RawOptions,
    ports: &[PortDraft],
    from_file: bool,
    problems: &mut Vec<Problem>,
) {
    if flags.has("fd") && ports.len() > 1 {
        let reason = format!("serves one port, but {} are given", ports.len());
        let problem = Problem::new(ErrorCode::Conflict, flags.label(), reason, "use socket paths");
        problems.push(problem);
    }
    // A file that could not be read has been reported, and is where the ports were to come from.
    let reported = from_file && !problems.is_empty();
    if ports.is_empty() && !reported {
        let remedy = "give --socket-path PATH (or --fd N), --port socket=PATH,parent=DEV for each \
                      port, or --config FILE with [[port]] tables";
        let reason = "missing, so there is no port to serve";
        let problem = Problem::new(ErrorCode::MissingValue, "--socket-path", reason, remedy);
        problems.push(Problem { option: Some("socket"), ..problem });
    }
}

/// A default list of source addresses that no port takes up is a mistake, most likely a forgotten
/// mode. (One that the plain port gives for itself is checked with that port.)
fn check_unused_sources(raw: &RawOptions, ports: &[PortDraft], problems: &mut Vec<Problem>) {
    let Some(text) = raw.text("source") else { return };
    let used = |port: &PortDraft| {
        (raw.is_flags() && port.raw.is_flags())
            || port.mode().is_none_or(|mode| mode == Mode::Source)
    };
    if !ports.is_empty() && !ports.iter().any(used) {
        let remedy = "set it or leave the list out";
        let reason = "no port has mode=source";
        problems.push(raw.problem(ErrorCode::Conflict, "source", text, reason, remedy));
    }
}

#[cfg(test)]
mod tests;
