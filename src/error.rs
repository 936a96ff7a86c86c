//! What can go wrong on the control side, told so that a person can act on it.
//!
//! Every message names the object (which port, which device, which path), the reason and the
//! remedy, in that order. The kind decides the exit code (docs/operations.md), because a service
//! manager reads no messages: bad usage (2) stays bad until a person corrects it, a missing
//! permission (3) has to be granted, a missing parent (4) may come by itself, and everything else
//! is 1. The data path has no errors: it counts (`counters.rs`).
//!
//! Several ports may fail for several reasons at once. [`Error::all`] keeps every message, and the
//! exit code is that of the error which waiting helps least.

use std::fmt;

/// The result of a control-side operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A control-side failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The command line, a `--port` string or the configuration file is wrong: one line per fault.
    Usage(Vec<String>),
    /// The input was fine, but it could not be done.
    Failed(String),
    /// The process lacks a permission: a capability, a right on a file.
    Permission(String),
    /// The parent device is not there.
    NoParent(String),
    /// Several of these, each for another port or object.
    Several(Vec<Error>),
}

impl Error {
    /// "OBJECT: REASON; REMEDY". Every part is required, so that no message lacks one.
    pub fn failed(
        object: impl fmt::Display,
        reason: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Error {
        Error::Failed(format!("{object}: {reason}; {remedy}"))
    }

    /// The same for a missing permission.
    pub fn permission(
        object: impl fmt::Display,
        reason: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Error {
        Error::Permission(format!("{object}: {reason}; {remedy}"))
    }

    /// The same for a parent that is not there.
    pub fn no_parent(
        object: impl fmt::Display,
        reason: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Error {
        Error::NoParent(format!("{object}: {reason}; {remedy}"))
    }

    /// These errors as one, or `Ok` when there are none. A message that is there twice is kept once:
    /// a thousand ports may miss one parent.
    ///
    /// # Errors
    /// There is at least one.
    pub fn all(errors: impl IntoIterator<Item = Error>) -> Result<()> {
        let mut kept: Vec<Error> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for error in errors {
            if seen.insert(error.to_string()) {
                kept.push(error);
            }
        }
        match kept.len() {
            0 => Ok(()),
            1 => Err(kept.remove(0)),
            _ => Err(Error::Several(kept)),
        }
    }

    /// The process exit code for this error. Of several errors the one counts that waiting helps
    /// least: usage before "could not do it", that before a permission, that before a parent.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Failed(_) => 1,
            Error::Permission(_) => 3,
            Error::NoParent(_) => 4,
            Error::Several(errors) => {
                let has = |code| errors.iter().any(|error| error.exit_code() == code);
                [2, 1, 3, 4].into_iter().find(|code| has(*code)).unwrap_or(1)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(faults) => f.write_str(&faults.join("\n")),
            Error::Failed(message) | Error::Permission(message) | Error::NoParent(message) => {
                f.write_str(message)
            }
            Error::Several(errors) => {
                let lines: Vec<String> = errors.iter().map(Error::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_the_error_which_waiting_helps_least() {
        let failed = Error::failed("a", "b", "c");
        let permission = Error::permission("a", "p", "c");
        let parent = Error::no_parent("a", "n", "c");
        let code = |errors: &[&Error]| {
            Error::all(errors.iter().map(|&error| error.clone())).unwrap_err().exit_code()
        };
        assert_eq!(code(&[&parent]), 4);
        assert_eq!(code(&[&parent, &permission]), 3);
        assert_eq!(code(&[&parent, &failed, &permission]), 1);
        assert_eq!(code(&[&failed, &Error::Usage(vec!["u".into()])]), 2);
    }

    #[test]
    fn one_reason_is_told_once() {
        let parent = Error::no_parent("parent eth7", "is not there", "name another");
        let error = Error::all([parent.clone(), parent.clone()]).unwrap_err();
        assert_eq!(error, parent);
        assert_eq!(Error::all([]), Ok(()));
        let two = Error::all([parent.clone(), Error::failed("a", "b", "c")]).unwrap_err();
        assert_eq!(two.to_string(), "parent eth7: is not there; name another\na: b; c");
    }
}
