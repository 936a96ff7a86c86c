//! What can go wrong on the control side, told so that a person can act on it.
//!
//! Every message names the object (which port, which device, which path), the reason and the
//! remedy, in that order. The kind decides the exit code (docs/operations.md): a usage error is the
//! caller's to correct and ends with 2, everything else with 1. The data path has no errors: it
//! counts (`stats.rs`).

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

    /// The process exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(faults) => f.write_str(&faults.join("\n")),
            Error::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}
