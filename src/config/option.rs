//! What an option is: all that is to be known of it but the type of its value.
//!
//! From it come the flag, the key in `--port` and in a file, the default, the line in the help, the row
//! in the manual and the answers to mistyped names. `option_table.rs` makes a table of them.
//!
//! What can go wrong: a default that the option's own parser refuses. A test parses them all.

/// How an option takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A flag without a value; as a key `on` or `off`.
    Switch,
    /// One value, which the help calls so.
    Value(&'static str),
    /// One number. A minus before it belongs to the value, so that the parser can refuse it.
    Number(&'static str),
    /// One number whose digits are octal, however a file marks them.
    Octal(&'static str),
    /// Values: a flag that is repeated, a key whose values are joined by `+`, an array in a file.
    List(&'static str),
}

/// Where an option may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere. A flag or `[defaults]` gives the value for every port that gives none itself.
    Inherited,
    /// Anywhere but in `[defaults]`: the value belongs to one port.
    OnePort,
    /// Only as a flag, for the port that the flags describe.
    FlagOnly,
    /// Only as a flag; it concerns the process and no port.
    Process,
}

/// What holds when nothing is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This value, as the user would type it.
    Literal(&'static str),
    /// What these words say, in the manual's markdown.
    Words(&'static str),
    /// Nothing: it has to be given. The words are the manual's.
    Required(&'static str),
    /// Nothing in particular.
    Nothing,
}

/// All that is to be known of an option but its type.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its name in `--port`, in a file and in JSON.
    pub key: &'static str,
    /// Its flag, without dashes.
    pub flag: &'static str,
    /// How it takes its value.
    pub takes: Takes,
    /// Where it may be given.
    pub scope: Scope,
    /// What holds without it.
    pub fallback: Fallback,
    /// Its line in the help, without the default.
    pub help: &'static str,
    /// Its meaning in the manual, in markdown.
    pub manual: &'static str,
    /// What other programs, or habits, call it.
    pub synonyms: &'static [&'static str],
}

impl OptionSpec {
    /// The flag as it is typed.
    pub fn typed_flag(&self) -> String {
        format!("--{}", self.flag)
    }

    /// What the help calls the value.
    pub fn placeholder(&self) -> Option<&'static str> {
        match self.takes {
            Takes::Switch => None,
            Takes::Value(name) | Takes::Number(name) | Takes::Octal(name) | Takes::List(name) => {
                Some(name)
            }
        }
    }

    /// True if `--port` and files know it.
    pub fn is_key(&self) -> bool {
        matches!(self.scope, Scope::Inherited | Scope::OnePort)
    }

    /// The default, in the manual's markdown.
    pub fn default_in_manual(&self) -> String {
        match self.fallback {
            Fallback::Literal(value) => format!("`{value}`"),
            Fallback::Words(words) | Fallback::Required(words) => words.to_owned(),
            Fallback::Nothing => String::new(),
        }
    }

    /// The help with the default, where a user would ask for it.
    pub fn help_with_default(&self) -> String {
        let plain = self.default_in_manual().replace('`', "");
        match (self.fallback, self.takes) {
            (Fallback::Required(_) | Fallback::Nothing, _) | (_, Takes::Switch) => {
                self.help.to_owned()
            }
            _ => format!("{} [default: {plain}]", self.help),
        }
    }

    /// Its row in the manual's table of flags.
    pub fn manual_row(&self) -> String {
        let value = self.placeholder().map_or(String::new(), |name| format!(" {name}"));
        let flag = format!("{}{value}", self.typed_flag()).replace('|', "\\|");
        let row = format!("| `{flag}` | {} | {} |", self.manual, self.default_in_manual());
        row.replace("|  |", "| |")
    }
}

/// The keys of a table, in its order: that of messages, help and manual.
pub fn keys(table: &[OptionSpec]) -> impl Iterator<Item = &OptionSpec> {
    table.iter().filter(|spec| spec.is_key())
}

/// The keys as the manual lists them for `--port`.
pub fn manual_keys(table: &[OptionSpec]) -> String {
    let key = |spec: &OptionSpec| match spec.takes {
        Takes::Switch => format!("`{}` (`on`, `off`)", spec.key),
        Takes::List(name) => format!("`{}` (`{name}+{name}`)", spec.key),
        _ => format!("`{}`", spec.key),
    };
    keys(table).map(key).collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests;
