//! The cases, by what they are about. Each file has a function that makes its cases; `all` puts them in order.
//!
//! Nothing is started before a contender runs, so that to list the cases costs nothing.

pub mod guests;
pub mod latency;
pub mod notify;
pub mod scale;

use std::time::Duration;

use crate::measure::Case;

/// What the user has asked for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Of a sample.
    pub time: Duration,
    /// A back-end of the user's choice: a command line with `{socket0}` and so on.
    pub peer: Option<String>,
}

/// Every case, in the order of the report.
pub fn all(terms: &Terms) -> Vec<Case> {
    let mut all = guests::cases(terms);
    all.extend(latency::cases(terms));
    all.extend(scale::cases(terms));
    all.extend(notify::cases(terms));
    all
}
