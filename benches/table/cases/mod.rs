//! The cases, by what they are about. Each file has a function that makes its cases; `all` puts them in order.
//!
//! Nothing is started before a contender runs, so that to list the cases costs nothing.

pub mod drift;
pub mod fixed;
pub mod guests;
pub mod idle;
pub mod inward;
pub mod outward;
pub mod start;
pub mod tcp;

use std::time::Duration;

use crate::measure::Case;

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Of a sample.
    pub time: Duration,
    /// How often each contender runs.
    pub rounds: usize,
    /// A back-end of the user's choice: a command line with `{socket0}` and so on.
    pub peer: Option<String>,
}

/// Every case, in the order of the report.
pub fn all(terms: &Terms) -> Vec<Case> {
    let files = [
        guests::cases,
        outward::cases,
        inward::cases,
        fixed::cases,
        tcp::cases,
        idle::cases,
        start::cases,
        drift::cases,
    ];
    files.iter().flat_map(|cases| cases(terms)).collect()
}
