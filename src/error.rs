//! What can go wrong on the control side: a code for programs, and words for people.
//!
//! Every problem names the object (which port, which device, which path), the reason and the remedy,
//! and shows them in that order: `parent eth7: there is no such network device; name another`. The
//! parts stay apart, so that an interface may show them one by one. Each has an [`ErrorCode`], whose
//! name never changes: programs decide by it, while the words may be improved.
//!
//! The code decides the exit code (docs/operations.md), because a service manager reads no messages:
//! bad usage (2) stays bad until a person corrects it, a missing permission (3) has to be granted, a
//! missing parent (4) may appear by itself, and everything else is 1. The data path has no errors: it
//! counts.
//!
//! Several ports may fail for several reasons at once. An [`Error`] holds every problem, and its exit
//! code is that of the problem which waiting helps least.

use std::collections::HashSet;
use std::fmt;

/// The result of a control-side operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Makes the codes, and a constructor of [`Error`] for each, from one list.
macro_rules! error_codes {
    ($($code:ident $constructor:ident $name:literal exit $exit:literal, $meaning:literal;)*) => {
        /// What kind of problem it is, for programs. The names are an interface: none changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $code,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the manual.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$code,)*];

            /// The stable name, in kebab-case.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$code => $name,)* }
            }

            /// The process's exit code when this ends it.
            pub fn exit_code(self) -> u8 {
                match self { $(ErrorCode::$code => $exit,)* }
            }

            /// What it means, as the manual says it.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$code => $meaning,)* }
            }
        }

        /// One constructor for each code. Object, reason and remedy are required, so that no message
        /// lacks one.
        impl Error {
            $(#[doc = concat!("`", $name, "`: ", $meaning)]
            pub fn $constructor(
                object: impl fmt::Display,
                reason: impl fmt::Display,
                remedy: impl fmt::Display,
            ) -> Error {
                Problem::new(ErrorCode::$code, object, reason, remedy).into()
            })*
        }
    };
}

error_codes! {
    UnknownName unknown_name "unknown-name" exit 2,
        "A flag, key, table or command has a name that does not exist.";
    InvalidValue invalid_value "invalid-value" exit 2,
        "A value cannot be read, or lies outside what is allowed.";
    MissingValue missing_value "missing-value" exit 2,
        "Something is required and was not given.";
    Conflict conflict "conflict" exit 2,
        "Options of one port contradict each other, or one needs another.";
    Duplicate duplicate "duplicate" exit 2,
        "Two ports of this process have something that only one can have.";
    ConfigUnreadable config_unreadable "config-unreadable" exit 2,
        "The configuration file cannot be opened, or is not TOML.";
    ParentUnsuitable parent_unsuitable "parent-unsuitable" exit 1,
        "The parent is of a kind that carries no ports.";
    ParentInUse parent_in_use "parent-in-use" exit 1,
        "Another driver or port has the parent for itself, or this port would need that.";
    InUse in_use "in-use" exit 1,
        "Another process uses the device, the socket or the address.";
    NameTaken name_taken "name-taken" exit 1,
        "Another network device has the port's name.";
    MacTaken mac_taken "mac-taken" exit 1,
        "Another station has the MAC address.";
    MacUnusable mac_unusable "mac-unusable" exit 1,
        "No guest can have the MAC address.";
    MtuTooLarge mtu_too_large "mtu-too-large" exit 1,
        "The MTU is above the parent's.";
    SocketPath socket_path "socket-path" exit 1,
        "No socket can be made at the path.";
    Descriptor descriptor "descriptor" exit 1,
        "The inherited descriptor is not a connected Unix stream socket.";
    DeviceMissing device_missing "device-missing" exit 1,
        "The port's own device has vanished.";
    Unsupported unsupported "unsupported" exit 1,
        "This kernel cannot do it.";
    Limit limit "limit" exit 1,
        "A fixed limit of the kernel or of this program is reached.";
    System system "system" exit 1,
        "The kernel refused for another reason, which the message quotes.";
    Internal internal "internal" exit 1,
        "An error of this program; please report it.";
    Permission permission "permission" exit 3,
        "The process lacks a capability, or a right on a file.";
    ParentMissing parent_missing "parent-missing" exit 4,
        "The parent device does not exist.";
}

/// One thing that went wrong. It shows itself as "OBJECT: REASON; REMEDY".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem.
    pub code: ErrorCode,
    /// What it is about: a port, a device, a path, a place in the input. Empty if the reason names it.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it. Empty if the reason says enough.
    pub remedy: String,
    /// The key of the option that the user has to correct, where there is one.
    pub option: Option<&'static str>,
}

impl Problem {
    /// A problem that concerns no option in particular.
    pub fn new(
        code: ErrorCode,
        object: impl fmt::Display,
        reason: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Problem {
        let (object, reason) = (object.to_string(), reason.to_string());
        Problem { code, object, reason, remedy: remedy.to_string(), option: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = [self.reason.as_str(), self.remedy.as_str()];
        let what: Vec<&str> = what.into_iter().filter(|part| !part.is_empty()).collect();
        let what = what.join("; ");
        let parts = [self.object.as_str(), what.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(": "))
    }
}

/// A control-side failure: one problem or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// At least one.
    problems: Vec<Problem>,
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error { problems: vec![problem] }
    }
}

impl Error {
    /// These errors as one, or `Ok` when there are none. A message that is there twice is kept once:
    /// a thousand ports may miss one parent.
    ///
    /// # Errors
    /// There is at least one.
    pub fn all(errors: impl IntoIterator<Item = Error>) -> Result<()> {
        Error::of_problems(errors.into_iter().flat_map(|error| error.problems))
    }

    /// These problems as one error, or `Ok` when there are none; see [`Error::all`].
    ///
    /// # Errors
    /// There is at least one.
    pub fn of_problems(problems: impl IntoIterator<Item = Problem>) -> Result<()> {
        let mut seen = HashSet::new();
        let fresh = |problem: &Problem| seen.insert(problem.to_string());
        let problems: Vec<Problem> = problems.into_iter().filter(fresh).collect();
        if problems.is_empty() { Ok(()) } else { Err(Error { problems }) }
    }

    /// Both errors as one.
    #[must_use]
    pub fn and(mut self, other: Error) -> Error {
        self.problems.extend(other.problems);
        self
    }

    /// Every problem, in the order of the messages.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The code that decides the exit code. Of several problems that one counts which waiting helps
    /// least: usage before "could not do it", that before a permission, that before a parent.
    pub fn code(&self) -> ErrorCode {
        let codes = || self.problems.iter().map(|problem| problem.code);
        let worst = |exit| codes().find(|code| code.exit_code() == exit);
        [2, 1, 3, 4].into_iter().find_map(worst).unwrap_or(ErrorCode::Internal)
    }

    /// The process's exit code for this error: that of [`Error::code`].
    pub fn exit_code(&self) -> u8 {
        self.code().exit_code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
