//! The table as a page of Markdown.
//!
//! For each case the page has the question, the goal and whether it was met, a table of contenders,
//! and the conditions. Each figure is the median, with the range of the rounds behind it.
//!
//! What can go wrong: names and errors come from programs and may contain Markdown's special
//! characters. `escaped` escapes them.

use std::fmt::Write;

use super::Run;
use crate::figures::MedianRange;
use crate::measure::{Better, Outcome, Role, Row};

/// The whole page.
pub fn page(run: &Run, outcomes: &[Outcome], chart: &str) -> String {
    let mut text = String::from("# Performance\n\n");
    text.push_str(
        "`make bench` writes this report; run it on your own machine. Each case runs this program, its peers\n\
         and a plain loop (the limit of the machine) in turns, and compares figures of the same round.\n\n",
    );
    if let Some(busy) = &run.busy {
        let _ = writeln!(text, "**The machine was not quiet:** {}\n", escaped(busy));
    }
    let _ = writeln!(text, "![Rates beside the best peer and the limit]({chart})\n");
    text.push_str("| | |\n| --- | --- |\n");
    for (name, value) in &run.machine {
        let _ = writeln!(text, "| {name} | {} |", escaped(value));
    }
    let _ = writeln!(text, "| rounds | {}, samples of {} s |\n", run.rounds, run.seconds);
    summary(&mut text, outcomes);
    for outcome in outcomes {
        section(&mut text, outcome);
    }
    text
}

fn summary(text: &mut String, outcomes: &[Outcome]) {
    text.push_str("## Summary\n\n");
    text.push_str("| case | | this program | best peer | limit | to peer | to limit | goal |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for outcome in outcomes {
        let ours = outcome.first(Role::Ours);
        let (peer, limit) = (outcome.best(Role::Peer), outcome.best(Role::Limit));
        let figure = |row: Option<&Row>| {
            row.and_then(Row::value)
                .map_or("-".to_owned(), |v| format!("{} {}", short(v.median), outcome.unit))
        };
        let ratio = |row: Option<&Row>| {
            let ratio = ours.zip(row).and_then(|(a, b)| outcome.ratio(&a.name, &b.name));
            ratio.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median))
        };
        let _ = writeln!(
            text,
            "| [{}](#{}) | {} | {} | {} | {} | {} | {} | {} |",
            outcome.id,
            anchor(outcome),
            escaped(&outcome.title),
            figure(ours),
            figure(peer),
            figure(limit),
            ratio(peer),
            ratio(limit),
            verdict(outcome)
        );
    }
    text.push('\n');
}

fn section(text: &mut String, outcome: &Outcome) {
    let _ = writeln!(text, "## {}\n", heading(outcome));
    if !outcome.goal.is_empty() {
        let _ = writeln!(text, "Goal: {}: **{}**.\n", escaped(&outcome.goal), verdict(outcome));
    }
    let way = if outcome.better == Better::Lower { ", less is better" } else { "" };
    let _ = writeln!(
        text,
        "| | {}{way} | ours to it | CPU ns per frame | CPU | lost | |\n| --- | --- | --- | --- | --- | --- | --- |",
        escaped(outcome.unit)
    );
    for row in &outcome.rows {
        line(text, outcome, row);
    }
    let _ = writeln!(
        text,
        "\n{}\n\n```sh\nsudo make bench CASES={}\n```\n",
        escaped(&outcome.conditions),
        outcome.id
    );
}

fn line(text: &mut String, outcome: &Outcome, row: &Row) {
    let name = match row.role {
        Role::Ours => format!("**{}**", escaped(&row.name)),
        Role::OptIn => format!("{} (opt-in)", escaped(&row.name)),
        Role::Peer => escaped(&row.name),
        Role::Limit => format!("*{}* (limit)", escaped(&row.name)),
    };
    let Some(value) = row.value() else {
        let why = row.error.as_deref().unwrap_or("did not run");
        let _ = writeln!(text, "| {name} | - | | | | | not measured: {} |", escaped(why));
        return;
    };
    let ours = outcome.first(Role::Ours).filter(|ours| ours.name != row.name);
    let ratio = ours.and_then(|ours| outcome.ratio(&ours.name, &row.name));
    let mut extras: Vec<String> = Vec::new();
    for (extra, _) in row.samples.iter().flatten().next().map_or(&[][..], |s| &s.extras) {
        if let Some(value) = row.extra(extra) {
            extras.push(format!("{extra} {}", short(value.median)));
        }
    }
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {} | {} | {} | {} |",
        ranged(value),
        ratio.map_or(String::new(), |r| format!(
            "{:.2} ({:.2} to {:.2})",
            r.median, r.least, r.most
        )),
        row.spread(|s| s.cpu_each).map_or(String::new(), |v| format!("{:.0}", v.median)),
        row.spread(|s| s.cpu_share).map_or(String::new(), |v| percent(v.median)),
        row.spread(|s| s.lost).map_or(String::new(), |v| percent(v.median)),
        escaped(&extras.join(", "))
    );
}

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome.met {
        _ if outcome.goal.is_empty() => "",
        Some(true) => "met",
        Some(false) if outcome.beyond => "not met, not even by the limit",
        Some(false) => "not met",
        None => "not judged",
    }
}

fn heading(outcome: &Outcome) -> String {
    format!("{}: {}", outcome.id, outcome.title)
}

/// GitHub's anchor of a heading: small letters, digits, hyphens for spaces.
fn anchor(outcome: &Outcome) -> String {
    let kept = heading(outcome).to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn ranged(value: MedianRange) -> String {
    format!("{} ({} to {})", short(value.median), short(value.least), short(value.most))
}

/// Three significant digits.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if size < 0.001 {
        return format!("{value:.1e}");
    }
    let places = (2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{value:.places$}")
}

/// A share in per cent; a small share does not look like zero.
pub fn percent(share: f64) -> String {
    if share == 0.0 {
        "0 %".to_owned()
    } else if share < 0.001 {
        format!("{:.4} %", share * 100.0)
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

/// Text with Markdown's special characters escaped, also in a cell of a table.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '*' | '_' | '`' | '<' | '[' | ']' | '\\' | '#' => {
                safe.push('\\');
                safe.push(letter);
            }
            '\n' | '\r' => safe.push(' '),
            _ => safe.push(letter),
        }
    }
    safe
}
