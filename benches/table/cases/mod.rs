//! The cases, by what they are about. Each file has a function that makes its cases; `all` puts them in order.
//!
//! Nothing is started before a contender runs, so that to list the cases costs nothing.

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
