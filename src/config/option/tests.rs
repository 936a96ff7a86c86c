//! The tables, and an option that only these tests have.

use std::collections::HashSet;

use clap::Command;

use super::*;
use crate::cli::flags;
use crate::config::invalid::Invalid;
use crate::config::option_table::options;
use crate::config::port_options::{PORT_OPTIONS, PortSettings};
use crate::config::process_options::{PROCESS_OPTIONS, ProcessSettings};
use crate::config::raw_options::{RawOptions, meant_key};
use crate::config::setting::Setting;
use crate::config::{file, port_key};
use crate::error::{ErrorCode, Problem};

options! {
    /// What one source says of the option `label`.
    settings LabelSettings, table LABEL_OPTIONS;

    label: String {
        key "label", flag "label", takes Value("TEXT"), scope Inherited,
        parse label,
        default Literal("none"),
        help "A word of the user's own for the port",
        manual "a word of the user's own for the port",
        synonyms ["caption"],
    }
}

fn label(text: &str) -> Result<String, Invalid> {
    match text.contains(' ') {
        true => Err(Invalid::new("a label is one word", "write it with hyphens")),
        false => Ok(text.to_owned()),
    }
}

/// The typed value of what was read, or what is wrong with it, as the user reads it.
fn value(raw: &RawOptions) -> Result<String, Vec<String>> {
    let mut problems = Vec::new();
    let settings = LabelSettings::parse(raw, &mut problems);
    match settings.over(&LabelSettings::of_the_program()).label {
        Setting::Is(label) => Ok(label),
        _ => Err(problems.iter().map(Problem::to_string).collect()),
    }
}

fn typed(words: &[&str]) -> RawOptions {
    let command = flags::add(Command::new("x"), LABEL_OPTIONS, "One port");
    let words = std::iter::once("x").chain(words.iter().copied());
    flags::read(&command.try_get_matches_from(words).unwrap(), LABEL_OPTIONS)
}

/// One entry makes an option that works everywhere.
#[test]
fn a_test_only_option_label_is_one_entry() {
    let mut problems = Vec::new();
    // As a flag, with its default.
    assert_eq!(value(&typed(&[])), Ok("none".to_owned()));
    assert_eq!(value(&typed(&["--label", "web"])), Ok("web".to_owned()));
    let wrong = "--label a b: a label is one word; write it with hyphens".to_owned();
    assert_eq!(value(&typed(&["--label", "a b"])), Err(vec![wrong]));
    // As a key of --port.
    let raw = port_key::read(LABEL_OPTIONS, 1, "label=web", &mut problems);
    assert_eq!(value(&raw), Ok("web".to_owned()));
    let raw = port_key::read(LABEL_OPTIONS, 1, "label=a b", &mut problems);
    let wrong = "--port 1: label=a b: a label is one word; write it with hyphens".to_owned();
    assert_eq!(value(&raw), Err(vec![wrong]));
    // In a file: a port's own, and a default.
    let text = "[defaults]\nlabel = 'all'\n[[port]]\nlabel = 'web'\n[[port]]\n";
    let document = file::parse(LABEL_OPTIONS, "f", text, &mut problems);
    assert_eq!(value(&document.ports[0]), Ok("web".to_owned()));
    let below = LabelSettings::parse(&document.defaults.unwrap(), &mut problems);
    let settings = LabelSettings::parse(&document.ports[1], &mut problems).over(&below);
    assert_eq!(settings.label, Setting::Is("all".to_owned()));
    assert_eq!(problems, []);
    // Mistyped, and by another program's word.
    port_key::read(LABEL_OPTIONS, 1, "lable=web", &mut problems);
    let text = "--port 1: 'lable' is not a key of a port; did you mean label? The keys are label";
    assert_eq!(
        (problems[0].code, problems[0].to_string().as_str()),
        (ErrorCode::UnknownName, text)
    );
    assert_eq!(meant_key(LABEL_OPTIONS, "caption").map(|spec| spec.key), Some("label"));
    // In the help and in the manual.
    let mut command = flags::add(Command::new("x"), LABEL_OPTIONS, "One port");
    let help = command.render_long_help().to_string();
    assert!(help.contains("One port:\n      --label <TEXT>\n"), "{help}");
    assert!(help.contains("A word of the user's own for the port [default: none]\n"), "{help}");
    assert_eq!(
        LABEL_OPTIONS[0].manual_row(),
        "| `--label TEXT` | a word of the user's own for the port | `none` |"
    );
    assert_eq!(manual_keys(LABEL_OPTIONS), "`label`");
}

#[test]
fn every_default_is_one_that_its_parser_takes() {
    let mut problems = Vec::new();
    PortSettings::parse(&RawOptions::of_the_program(PORT_OPTIONS), &mut problems);
    ProcessSettings::parse(&RawOptions::of_the_program(PROCESS_OPTIONS), &mut problems);
    assert_eq!(problems, []);
    for spec in PORT_OPTIONS.iter().filter(|spec| matches!(spec.fallback, Fallback::Literal(_))) {
        assert_eq!(spec.scope, Scope::Inherited, "{}: the default would not arrive", spec.key);
    }
}

#[test]
fn every_name_and_synonym_means_one_option() {
    let all = || PORT_OPTIONS.iter().chain(PROCESS_OPTIONS);
    let mut seen = HashSet::new();
    for spec in all() {
        for name in spec.synonyms.iter().chain([&spec.key]) {
            assert!(seen.insert(*name), "{name}");
        }
    }
    let flags: HashSet<&str> = all().map(|spec| spec.flag).collect();
    assert_eq!(flags.len(), all().count());
}
