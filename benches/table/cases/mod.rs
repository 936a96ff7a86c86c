//! The cases, by subject. Each file has a function that makes its cases; `all` puts them in order.
//!
//! No program starts before a contender runs, so listing the cases costs nothing.

pub mod drift;
pub mod emulated;
pub mod fixed;
pub mod guests;
pub mod idle;
pub mod inward;
pub mod latency;
pub mod notify;
pub mod outward;
pub mod scale;
pub mod start;
pub mod tcp;

use std::time::Duration;

use crate::measure::Case;

/// The user's settings.
#[derive(Clone, Debug)]
pub struct CaseTerms {
    /// The duration of a sample.
    pub time: Duration,
    /// Another back-end of the user's choice: a command line with `{socket0}` and so on.
    pub peer: Option<String>,
}

/// Every case, in the order of the report.
pub fn all(terms: &CaseTerms) -> Vec<Case> {
    let files = [
        guests::cases,
        latency::cases,
        scale::cases,
        notify::cases,
        outward::cases,
        inward::cases,
        fixed::cases,
        tcp::cases,
        emulated::cases,
        idle::cases,
        start::cases,
        drift::cases,
    ];
    files.iter().flat_map(|cases| cases(terms)).collect()
}
