//! A command line with wrong words.
//!
//! Clap stops at the first word that it does not know, and answers in several lines. Users need one
//! line for every wrong word, with the word that was most likely meant, as they get for wrong values.
//! So a wrong flag is reported and replaced by the nearest known flag, and the line is read again; the
//! values behind it are judged as if the flag had been right. Where no flag is near, the word is
//! removed, and nothing is reported as missing, since the removed word may have given it.
//!
//! What can go wrong: a word behind an unknown flag may be its value or not. It is taken for the value
//! unless it begins with `-` or is a command.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::cli::args::Args;
use crate::config::{PORT_OPTIONS, PROCESS_OPTIONS};
use crate::error::{Error, ErrorCode, Problem};
use crate::suggest;

/// Why there is nothing to run.
#[derive(Debug)]
pub enum NothingToRun {
    /// Clap's own answer: help, version.
    Answer(clap::Error),
    /// What is wrong.
    Wrong(Error),
}

/// The commands, with what other programs or habits call them.
const COMMANDS: [&str; 3] = ["qemu-args", "libvirt-xml", "cloud-hypervisor-args"];
const FOREIGN_COMMANDS: &[(&str, &str)] = &[
    ("qemu", "qemu-args"),
    ("qemu-arg", "qemu-args"),
    ("qemu-cmdline", "qemu-args"),
    ("libvirt", "libvirt-xml"),
    ("libvirt-args", "libvirt-xml"),
    ("virsh", "libvirt-xml"),
    ("xml", "libvirt-xml"),
    ("cloud-hypervisor", "cloud-hypervisor-args"),
    ("ch", "cloud-hypervisor-args"),
    ("ch-args", "cloud-hypervisor-args"),
    ("chv", "cloud-hypervisor-args"),
];

/// What other programs call the flags that are no options of a table.
const FOREIGN_FLAGS: [(&str, &str); 8] = [
    ("conf", "config"),
    ("file", "config"),
    ("configuration", "config"),
    ("dry-run", "check"),
    ("test", "check"),
    ("validate", "check"),
    ("net", "port"),
    ("capabilities", "print-capabilities"),
];

/// Most wrong words that are looked for.
const MOST: usize = 20;

/// Reads the words of a command line, the program's name first.
///
/// # Errors
/// Help or version was asked for, or words are wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, NothingToRun> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut problems: Vec<Problem> = Vec::new();
    // True while every wrong word had an answer: only then is what seems to be missing reported.
    let mut certain = true;
    let args = loop {
        let error = match Args::try_parse_from(&words) {
            Ok(args) => {
                if certain && !problems.is_empty() {
                    let error = crate::config::resolve(&args.input()).err();
                    problems.extend(error.iter().flat_map(Error::problems).cloned());
                }
                break args;
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                if problems.is_empty() =>
            {
                return Err(NothingToRun::Answer(error));
            }
            ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
                if let Some(wrong) = wrong_word(&error) {
                    let (problem, instead) = judge(&wrong);
                    problems.push(problem);
                    certain &= instead.is_some();
                    if problems.len() < MOST && replace(&mut words, &wrong, instead.as_deref()) {
                        continue;
                    }
                } else {
                    problems.push(explained(&error));
                }
            }
            // A flag that was put in here may lack a value; that is not the user's mistake.
            _ if problems.is_empty() => problems.push(explained(&error)),
            _ => {}
        }
        break Args::default();
    };
    Error::of_problems(problems).map_err(NothingToRun::Wrong)?;
    Ok(args)
}

fn wrong_word(error: &clap::Error) -> Option<String> {
    let context =
        error.get(ContextKind::InvalidArg).or_else(|| error.get(ContextKind::InvalidSubcommand))?;
    match context {
        ContextValue::String(word) => {
            Some(word.split([' ', '=']).next().unwrap_or(word).to_owned())
        }
        _ => None,
    }
}

/// The problem with a word, and the word to put in its place.
fn judge(wrong: &str) -> (Problem, Option<String>) {
    let problem = |object: &str, reason: &str, remedy: &str| {
        Problem::new(ErrorCode::UnknownName, object, reason, remedy)
    };
    let Some(name) = wrong.strip_prefix("--") else {
        if wrong.starts_with('-') {
            return (problem(wrong, "flags have two dashes and a whole name", "see --help"), None);
        }
        let meant = suggest::nearest(wrong, &COMMANDS, FOREIGN_COMMANDS);
        let commands = COMMANDS.join(", ");
        let commands = format!(
            "he commands are {commands}; a device is given with --parent, a socket with --socket-path"
        );
        let remedy = match meant {
            Some(meant) => format!("did you mean {meant}? T{commands}"),
            None => format!("t{commands}"),
        };
        let reason = format!("'{wrong}' is not a command, and no flag wants it as its value");
        return (problem("", &reason, &remedy), meant.map(str::to_owned));
    };
    let known = flags();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let options = PORT_OPTIONS.iter().chain(PROCESS_OPTIONS);
    let synonyms = options.flat_map(|spec| {
        spec.synonyms.iter().chain([&spec.key]).map(|synonym| (*synonym, spec.flag))
    });
    let foreign: Vec<(&str, &str)> = synonyms.chain(FOREIGN_FLAGS).collect();
    let meant = suggest::nearest(name, &known, &foreign).map(|meant| format!("--{meant}"));
    let remedy = match &meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "--help lists them".to_owned(),
    };
    (problem(wrong, "there is no such flag", &remedy), meant)
}

/// The names of all flags.
fn flags() -> Vec<String> {
    let command = Args::command();
    let flags = command.get_arguments().filter_map(|arg| arg.get_long());
    flags.chain(["help", "version", "qemu", "memory"]).map(str::to_owned).collect()
}

/// Replaces a wrong word by another one, or removes it with its value. False if the word is not found,
/// because clap reports it in another form than it was typed.
fn replace(words: &mut Vec<OsString>, wrong: &str, instead: Option<&str>) -> bool {
    let is = |word: &OsString| {
        let word = word.to_string_lossy();
        word == wrong || word.strip_prefix(wrong).is_some_and(|rest| rest.starts_with('='))
    };
    let Some(at) = words.iter().skip(1).position(is).map(|at| at + 1) else { return false };
    let word = words[at].to_string_lossy().into_owned();
    match instead {
        Some(instead) => words[at] = word.replacen(wrong, instead, 1).into(),
        None => {
            words.remove(at);
            let value = words.get(at).map(|next| next.to_string_lossy().into_owned());
            let is_value = value.is_some_and(|value| {
                !value.starts_with('-') && !COMMANDS.contains(&value.as_str())
            });
            if word.starts_with('-') && !word.contains('=') && is_value {
                words.remove(at);
            }
        }
    }
    true
}

/// Clap's message in one line, with a remedy.
fn explained(error: &clap::Error) -> Problem {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    Problem::new(ErrorCode::InvalidValue, "", line, "see --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(line: &str) -> Vec<String> {
        let words = std::iter::once("x").chain(line.split_whitespace()).map(OsString::from);
        match parse(words) {
            Err(NothingToRun::Wrong(error)) => {
                error.problems().iter().map(Problem::to_string).collect()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_wrong_flag_is_answered_with_the_right_one() {
        for (line, meant) in [
            (
                "--parnet eth0 --socket-path /s",
                "--parnet: there is no such flag; did you mean --parent?",
            ),
            (
                "--parent eth0 --socket /s",
                "--socket: there is no such flag; did you mean --socket-path?",
            ),
            ("--iface eth0 --socket-path /s", "did you mean --parent?"),
            (
                "--parent eth0 --socket-path=/s --queues=2",
                "--queues: there is no such flag; did you mean --queue-pairs?",
            ),
            ("--parent eth0 --socket-path /s --queue_pairs 2", "did you mean --queue-pairs?"),
            ("--parent eth0 --socket-path /s --hepl", "did you mean --help?"),
            (
                "--parent eth0 --socket-path /s --colour red",
                "--colour: there is no such flag; --help lists",
            ),
            ("--parent eth0 --socket-path /s -p eth0", "-p: flags have two dashes"),
            ("qemu --parent eth0 --socket-path /s", "did you mean qemu-args? The commands are"),
            (
                "eth0 --socket-path /s",
                "'eth0' is not a command, and no flag wants it as its value; the",
            ),
            ("--parent eth0 --mtu 1 --mtu 2", "cannot be used multiple times; see --help"),
            ("--parent", "a value is required for '--parent <DEV>'"),
        ] {
            let lines = messages(line);
            assert!(lines.len() == 1 && lines[0].contains(meant), "{line}: {lines:#?}");
        }
    }

    #[test]
    fn every_wrong_word_is_reported_and_the_values_behind_it() {
        let lines = messages("--iface eth0 --sokcet-path /s --mode brigde --colour red --mtuu 12");
        assert_eq!(lines.len(), 4, "{lines:#?}");
        let lines = messages("--iface eth0 --sokcet-path /s --mode brigde --mtuu 12");
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[3].starts_with("--mode brigde: ") && lines[4].starts_with("--mtu 12: "));
    }

    #[test]
    fn help_is_no_mistake() {
        for line in ["--help", "qemu-args --help", "--version"] {
            let words = std::iter::once("x").chain(line.split(' ')).map(OsString::from);
            assert!(matches!(parse(words), Err(NothingToRun::Answer(_))), "{line}");
        }
    }
}
