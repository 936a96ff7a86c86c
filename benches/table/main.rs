//! The table: this program beside its peers and beside the limits of the machine.
//!
//! ```text
//! cargo bench --bench table -- [CASE...] [--rounds N] [--seconds S] [--quick] [--out FILE]
//!                              [--list] [--even-if-busy]
//!                           [--before PROGRAM]
//! ```
//!
//! Without a case the program runs all of them. `--out` names the report (default:
//! docs/performance.md). The chart stands beside it and ends in .svg.
//! `PEER='command {socket0} {socket1}'` adds another back-end to the cases between guests.
//!
//! | file | idea |
//! | --- | --- |
//! | `host` | whether the machine is quiet, processors, processor time |
//! | `measure`, `figures` | cases, contenders, rounds; medians and ratios |
//! | `generator` | one guest for all contenders |
//! | `tcp` | guests that are real kernels in namespaces, and their programs |
//! | `cable`, `spinning` | the far end of the parent's cable; loops in threads of their own |
//! | `crowd` | a thousand idle guests |
//! | `peers`, `limits` | the contenders, and what bounds them |
//! | `cases` | the questions |
//! | `report` | the table and the chart |
//! | `twins` | another build of this program beside this one (`--before`) |
//!
//! What can go wrong: no root (network namespaces), only one processor, or a busy machine. Each
//! ends the program with a sentence and status 1. The report names a contender that cannot run,
//! with the reason.

#![allow(missing_docs)]

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

mod cable;
mod cases;
mod crowd;
mod figures;
mod generator;
mod host;
mod limits;
mod measure;
mod peers;
mod report;
mod spinning;
mod tcp;
mod twins;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The command line.
struct Arguments {
    cases: Vec<String>,
    rounds: usize,
    seconds: f64,
    out: PathBuf,
    list: bool,
    even_if_busy: bool,
    before: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
        let mut arguments = Arguments {
            cases: Vec::new(),
            rounds: 5,
            seconds: 1.5,
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")),
            list: false,
            even_if_busy: false,
            before: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => arguments.rounds = value()?.parse()?,
                "--seconds" => arguments.seconds = value()?.parse()?,
                "--out" => arguments.out = value()?.into(),
                "--quick" => (arguments.rounds, arguments.seconds) = (1, 0.3),
                "--before" => arguments.before = Some(value()?),
                "--list" => arguments.list = true,
                "--even-if-busy" => arguments.even_if_busy = true,
                // cargo adds this word.
                "--bench" => {}
                flag if flag.starts_with('-') => {
                    return Err(format!(
                        "unknown flag {flag}; known are --rounds N, --seconds S, --quick, --out FILE, --list, \
                         --even-if-busy, --before PROGRAM, and the names that --list tells"
                    )
                    .into());
                }
                _ => arguments.cases.push(word),
            }
        }
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let terms = cases::CaseTerms {
        time: Duration::from_secs_f64(arguments.seconds),
        peer: std::env::var("PEER").ok(),
    };
    let all = cases::all(&terms);
    if arguments.list {
        for case in &all {
            println!("{:10} {}", case.id, case.title);
        }
        return Ok(());
    }
    let unknown: Vec<&String> =
        arguments.cases.iter().filter(|name| all.iter().all(|case| case.id != **name)).collect();
    if !unknown.is_empty() {
        return Err(format!("no such case: {unknown:?}; --list tells which there are").into());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("makes network namespaces: run it as root (sudo make bench)".into());
    }
    let busy = match host::quiet() {
        Ok(_) => None,
        Err(error) if arguments.even_if_busy => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    host::more_files()?;
    host::pin(host::GENERATOR)?;
    let stolen = host::stolen();
    let mut outcomes = Vec::new();
    for case in all {
        if !arguments.cases.is_empty() && !arguments.cases.iter().any(|name| *name == case.id) {
            continue;
        }
        let noise = host::wait_quiet().err();
        if let Some(program) = &arguments.before {
            let case = twins::with_twins(case, program);
            let outcome = measure::run(case, arguments.rounds, |line| eprintln!("{line}"));
            print!("{}", twins::ratios(&outcome));
            continue;
        }
        let before = limits::cache_line::there_and_back()?;
        let mut outcome = measure::run(case, arguments.rounds, |line| eprintln!("{line}"));
        let after = limits::cache_line::there_and_back()?;
        let _ = write!(
            outcome.conditions,
            ". Round trip of a cache line between the processors: {before} ns before, {after} ns after"
        );
        if let Some(noise) = noise {
            let _ = write!(outcome.conditions, ". Not quiet: {noise}");
        }
        outcomes.push(outcome);
        // The report is written after each case, so an interrupted run keeps its results.
        let mut machine = host::description();
        machine.push(("processor time taken by the hypervisor", stolen()));
        let (rounds, seconds, busy) = (arguments.rounds, arguments.seconds, busy.clone());
        let run = report::Run { machine, rounds, seconds, busy };
        report::write(&arguments.out, &run, &outcomes)?;
    }
    peers::dpdk::sweep();
    Ok(())
}
