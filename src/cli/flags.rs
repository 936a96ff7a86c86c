//! The flags of the option tables: clap's arguments, made from the entries.
//!
//! Clap sees text only and parses nothing, so that one wrong value does not hide the next. The flags
//! are global: the printers take the same ones, before or after their name.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::option::{OptionSpec, Takes};
use crate::config::{PORT_OPTIONS, PROCESS_OPTIONS, RawOptions, Source};

/// Adds a flag for every option of a table, under this heading of the help.
pub(crate) fn add(command: Command, table: &[OptionSpec], heading: &'static str) -> Command {
    command.args(table.iter().map(|spec| flag(spec).help_heading(heading)))
}

/// What was typed for the options of a table.
pub(crate) fn read(matches: &ArgMatches, table: &'static [OptionSpec]) -> RawOptions {
    let mut raw = RawOptions::new(Source::Flags, table);
    for spec in table {
        let text = match spec.takes {
            Takes::Switch => matches.get_flag(spec.key).then(|| "on".to_owned()),
            Takes::List(_) => matches.get_many::<String>(spec.key).map(|values| {
                let values: Vec<&str> = values.map(String::as_str).collect();
                values.join("+")
            }),
            _ => matches.get_one::<String>(spec.key).cloned(),
        };
        if let Some(text) = text {
            raw.add(spec.key, text, None);
        }
    }
    raw
}

fn flag(spec: &OptionSpec) -> Arg {
    let arg = Arg::new(spec.key).long(spec.flag).global(true).help(spec.help_with_default());
    let arg = match spec.takes {
        Takes::Switch => arg.action(ArgAction::SetTrue),
        Takes::Number(_) => arg.allow_negative_numbers(true),
        Takes::List(_) => arg.action(ArgAction::Append),
        Takes::Value(_) | Takes::Octal(_) => arg,
    };
    match spec.placeholder() {
        Some(name) => arg.value_name(name).value_parser(ValueParser::string()),
        None => arg,
    }
}

/// Makes a group of flags that clap's derived parsers can take in.
macro_rules! flags_of {
    ($(#[$about:meta])* $flags:ident, $table:ident, $heading:literal) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub struct $flags(pub RawOptions);

        impl Default for $flags {
            fn default() -> $flags {
                $flags(RawOptions::new(Source::Flags, $table))
            }
        }

        impl clap::Args for $flags {
            fn augment_args(command: Command) -> Command {
                add(command, $table, $heading)
            }

            fn augment_args_for_update(command: Command) -> Command {
                add(command, $table, $heading)
            }
        }

        impl clap::FromArgMatches for $flags {
            fn from_arg_matches(matches: &ArgMatches) -> Result<$flags, clap::Error> {
                Ok($flags(read(matches, $table)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = read(matches, $table);
                Ok(())
            }
        }
    };
}

flags_of! {
    /// The flags of one port; with `--port` or `--config`, the defaults for the keys left out there.
    PortFlags, PORT_OPTIONS, "One port"
}
flags_of! {
    /// The flags of the process.
    ProcessFlags, PROCESS_OPTIONS, "Process"
}
