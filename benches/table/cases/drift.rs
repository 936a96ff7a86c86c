//! P21: whether the program gets slower or larger in a long run, at four fifths of what it can
//! carry.
//!
//! A short run finds that rate. Then two guests hold it, and the run is divided into slices:
//! processor time for each frame and memory of the process, at the beginning and at the end. A
//! minute stands for an hour: it shows a leak of a byte for each frame, but not one for each
//! connection.
//!
//! What can go wrong: the figures include the machine's own drift (a neighbour of this virtual
//! machine). So the case compares medians of slices, not two slices.

use std::time::Duration;

use super::CaseTerms;
use super::fixed::exchange;
use super::guests::{OURS, pair};
use crate::crowd::own_memory;
use crate::figures::MedianRange;
use crate::generator::{Plan, Shape, run};
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::ours::{Ours, Setup, Wire};
use crate::{Result, host};

/// Slices of the run.
const SLICES: usize = 30;
/// The share of the rate that was found.
const LOAD: f64 = 0.8;

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    let slice = terms.time;
    let mut done = false;
    let once = move || {
        if std::mem::replace(&mut done, true) {
            return Err("runs in the first round only".into());
        }
        drift(slice)
    };
    vec![Case {
        id: "P21",
        title: "drift of the processor time for each frame in a long run at 80 % load".to_owned(),
        unit: "%",
        better: Better::Lower,
        goal: Goal::new("less than 3 %, and less than 1 MiB more memory", |outcome| {
            let ours = outcome.row(OURS)?;
            Some(ours.value()?.median < 3.0 && ours.extra("KiB grown")?.median < 1024.0)
        }),
        contenders: vec![Contender::new(OURS, Role::Ours, once)],
        conditions: format!(
            "Shortened: one run of {:.0} s, not of an hour. Guest to guest, 64 bytes, {SLICES} slices; medians of the \
             last third by those of the first",
            (slice * SLICES as u32).as_secs_f64()
        ),
    }]
}

fn drift(slice: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let ours = Ours::start(&wire, &Setup::default())?;
    let rate = exchange(&ours, 64, &Plan::flood(Duration::from_secs(1), 64))?.value * 1e6 * LOAD;
    std::thread::sleep(Duration::from_millis(100));
    let mut guests = pair(&ours, &Shape::default(), 64);
    let plan = Plan { rate: Some(rate), ..Plan::flood(slice, 64) };
    let (mut each, mut memory, mut lost) = (Vec::new(), Vec::new(), 0);
    for _ in 0..SLICES {
        let count = run(&mut guests, &plan, &mut || host::used(ours.pid()))?;
        each.push(count.cpu_each());
        memory.push(own_memory(ours.pid())?);
        lost += count.lost;
    }
    let median = |part: &[f64]| MedianRange::of(part.iter().copied()).map(|s| s.median);
    let third = SLICES / 3;
    let first = median(&each[..third]).ok_or("no slices")?;
    let last = median(&each[SLICES - third..]).ok_or("no slices")?;
    Ok(Sample {
        value: (last / first - 1.0) * 100.0,
        cpu_each: Some(last),
        // The first slice is left out, because memory that it touches for the first time is not a
        // leak.
        extras: vec![
            ("KiB grown", memory[SLICES - 1] - memory[1]),
            ("Mpps", rate / 1e6),
            ("frames lost", lost as f64),
        ],
        ..Sample::default()
    })
}
