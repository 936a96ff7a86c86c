//! The chart: a bar for each contender of each case that has a peer.
//!
//! A case is a heading and these bars: this program, its opt-in, the best peers. Bars are scaled to
//! the longest of the case, including the limit, which is a vertical mark. If less is better, a bar
//! shows the work done in the same time. So longer is always better, and half as long is half as
//! good.
//!
//! The SVG is written by hand with rectangles, lines and text. It has a white background, because
//! pages may be dark.

use std::fmt::Write;

use super::markdown::short;
use crate::measure::{Better, Outcome, Role, Row};

const WIDTH: f64 = 940.0;
const LEFT: f64 = 24.0;
/// The length of the longest bar; the words stand to its right.
const BAR: f64 = 540.0;
const THICK: f64 = 15.0;
const STEP: f64 = 19.0;
const TOP: f64 = 92.0;
const OURS: &str = "#1f6fb2";
const OPT_IN: &str = "#86b8de";
const PEER: &str = "#b4b9c0";
const LIMIT: &str = "#c8442f";
/// The number of peers in the chart: the best of each case.
const PEERS: usize = 3;

/// The chart as SVG.
pub fn draw(outcomes: &[Outcome]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for outcome in outcomes {
        if outcome.first(Role::Ours).is_some() && outcome.best(Role::Peer).is_some() {
            y = case(&mut body, outcome, y);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}{body}</svg>\n",
        legend(),
        height = y + 8.0
    )
}

fn legend() -> String {
    let mut text = format!(
        "<text x=\"{LEFT}\" y=\"34\" font-size=\"20\" font-weight=\"bold\" fill=\"#1b1f24\">vhost-user-macvtap \
         beside its peers</text>\n"
    );
    let mut x = LEFT;
    for (colour, words) in [(OURS, "this program"), (OPT_IN, "with an opt-in"), (PEER, "peers")] {
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"51\" width=\"14\" height=\"12\" fill=\"{colour}\"/>{}",
            words_at(x + 20.0, 61.0, words)
        );
        x += 50.0 + 6.6 * words.len() as f64;
    }
    let _ = writeln!(
        text,
        "<line x1=\"{x}\" y1=\"49\" x2=\"{x}\" y2=\"65\" stroke=\"{LIMIT}\" stroke-width=\"2.5\"/>{}",
        words_at(x + 8.0, 61.0, "plain loop: the limit of the machine")
    );
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"61\" text-anchor=\"end\" font-style=\"italic\" fill=\"#57606a\">longer is better</text>",
        WIDTH - LEFT
    );
    text
}

/// Draws a case from `y` down, and returns where the next one begins.
fn case(body: &mut String, outcome: &Outcome, mut y: f64) -> f64 {
    let reach = |row: &Row| {
        let value = row.value()?.median;
        let far = if outcome.better == Better::Higher { value } else { 1.0 / value };
        // If less is better, zero is infinitely good.
        (!far.is_nan()).then_some(far)
    };
    let limit = outcome.best(Role::Limit).and_then(reach);
    let mut rows: Vec<(&Row, f64, &str)> = Vec::new();
    for (role, colour) in [(Role::Ours, OURS), (Role::OptIn, OPT_IN)] {
        rows.extend(outcome.first(role).and_then(|row| Some((row, reach(row)?, colour))));
    }
    let mut peers: Vec<(&Row, f64, &str)> = outcome
        .rows
        .iter()
        .filter(|row| row.role == Role::Peer)
        .filter_map(|row| Some((row, reach(row)?, PEER)))
        .collect();
    peers.sort_by(|a, b| b.1.total_cmp(&a.1));
    rows.extend(peers.into_iter().take(PEERS));
    let far = rows.iter().map(|row| row.1).chain(limit).fold(0.0, f64::max);
    let length = |reach: f64| if reach >= far { BAR } else { (BAR * reach / far).max(2.0) };
    let _ = writeln!(
        body,
        "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#1b1f24\"><tspan font-weight=\"bold\">{}</tspan><tspan dx=\"7\">{}</tspan></text>",
        y + 12.0,
        escaped(outcome.id),
        escaped(&outcome.title)
    );
    y += 19.0;
    let top = y;
    for (row, reach, colour) in rows {
        let width = length(reach);
        let value = row.value().map_or(String::new(), |value| short(value.median));
        let weight = if row.role == Role::Peer { "" } else { " font-weight=\"bold\"" };
        let _ = writeln!(
            body,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{THICK}\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1b1f24\"><tspan{weight}>{value} {}</tspan><tspan dx=\"7\">{}</tspan></text>",
            LEFT + BAR + 14.0,
            y + 12.0,
            escaped(outcome.unit),
            escaped(&row.name)
        );
        y += STEP;
    }
    if let Some(limit) = limit {
        let x = LEFT + length(limit);
        let _ = writeln!(
            body,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{LIMIT}\" stroke-width=\"2.5\"/>",
            top - 3.0,
            y - STEP + THICK + 3.0
        );
    }
    y + 14.0
}

fn words_at(x: f64, y: f64, words: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" fill=\"#1b1f24\">{}</text>", escaped(words))
}

/// Text with XML's special characters escaped.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
