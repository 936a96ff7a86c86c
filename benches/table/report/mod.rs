//! The report: a table in Markdown and a chart in SVG, from the same outcomes.
//!
//! Both are pure functions from figures to text (tests/bench_report.rs tests them); only `write`
//! touches files.

pub mod chart;
pub mod markdown;

use std::fs;
use std::path::Path;

use crate::Result;
use crate::measure::Outcome;

/// The facts about the whole run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Names and values.
    pub machine: Vec<(&'static str, String)>,
    /// The number of samples of each contender.
    pub rounds: usize,
    /// How long a sample took.
    pub seconds: f64,
    /// Why the machine was too busy, if it was.
    pub busy: Option<String>,
}

/// Writes the report and, beside it, the chart.
///
/// # Errors
/// A file cannot be written.
pub fn write(path: &Path, run: &Run, outcomes: &[Outcome]) -> Result<()> {
    let chart = path.with_extension("svg");
    let name = chart.file_name().map(|name| name.to_string_lossy().into_owned());
    let text = markdown::page(run, outcomes, &name.unwrap_or_default());
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(&chart, chart::draw(outcomes))
        .map_err(|error| format!("{}: {error}", chart.display()))?;
    eprintln!("bench: wrote {} and {}", path.display(), chart.display());
    Ok(())
}
