//! Why a value is refused: the reason and the remedy, without the place, which the caller knows.

use std::fmt;

/// The refusal of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong.
    pub reason: String,
    /// What to do about it; empty where the reason says enough.
    pub remedy: String,
}

impl Invalid {
    /// A refusal with these words.
    pub fn new(reason: impl fmt::Display, remedy: impl fmt::Display) -> Invalid {
        Invalid { reason: reason.to_string(), remedy: remedy.to_string() }
    }

    /// The same reason with another remedy behind the first one; nothing is added if it is empty.
    #[must_use]
    pub fn or(mut self, more: &str) -> Invalid {
        if !self.remedy.is_empty() && !more.is_empty() {
            self.remedy.push_str("; ");
        }
        self.remedy.push_str(more);
        self
    }
}
