//! P13: the cost of a moderate load: 100 000 frames a second of 64 bytes, and 1 Gbit/s of 1514
//! bytes.
//!
//! A back-end that sleeps between frames pays for wake-ups; one that polls uses the whole
//! processor. The cost depends on the spacing of frames: a guest's kernel hands over bursts of its
//! programs, or single frames. The case measures both; the bursts stand under the program's plain
//! name.
//!
//! What can go wrong: this guest polls, so the back-end never has to wake it for sent frames, and
//! does not call it for received ones.

use std::time::Duration;

use super::CaseTerms;
use super::guests::{OURS, pair, sample};
use super::outward;
use crate::generator::{Plan, Shape, run};
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk::Dpdk;
use crate::peers::dpdk_uplink::{DpdkUplink, Kind};
use crate::peers::ours::{Ours, Setup, Wire};
use crate::{Result, host};

/// Frames at a time.
const BURST: usize = 32;
/// The goal in per cent of a processor.
const GOAL: f64 = 15.0;

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    let time = terms.time / 2;
    let gigabit = 1e9 / 8.0 / 1514.0;
    let loads = [
        ("P13", 64, 1e5, false),
        ("P13-1514", 1514, gigabit, false),
        ("P13-out", 64, 1e5, true),
        ("P13-out-1514", 1514, gigabit, true),
    ];
    let case = |(id, size, rate, out): (&'static str, usize, f64, bool)| Case {
        id,
        title: format!(
            "processor time of {:.1} thousand frames a second of {size} bytes, {}",
            rate / 1e3,
            if out { "guest to parent" } else { "guest to guest" }
        ),
        unit: "% of a processor",
        better: Better::Lower,
        goal: Goal::new(format!("at most {GOAL} % of a processor"), |outcome| {
            Some(outcome.row(OURS)?.value()?.median <= GOAL)
        }),
        contenders: vec![
            Contender::new(OURS, Role::Ours, move || ours(size, rate, BURST, out, time)),
            Contender::new("this program, single frames", Role::Ours, move || {
                ours(size, rate, 1, out, time)
            }),
            Contender::new("DPDK", Role::Peer, move || dpdk(size, rate, out, time)),
        ],
        conditions: format!(
            "Bursts of {BURST} frames at even distances; of single frames where the name says so. The guest polls. \
             Processor time of all threads of the back-end. DPDK: net_vhost{}, which polls",
            if out { " and net_af_packet" } else { "" }
        ),
    };
    loads.into_iter().map(case).collect()
}

fn plan(size: usize, rate: f64, burst: usize, time: Duration) -> Plan {
    Plan { rate: Some(rate), burst, ..Plan::flood(time, size) }
}

fn ours(size: usize, rate: f64, burst: usize, out: bool, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let plan = plan(size, rate, burst, time);
    let sample = if out {
        outward::through(&wire, &outward::start(&wire, "macvlan")?, size, &plan)?
    } else {
        exchange(&Ours::start(&wire, &Setup::default())?, size, &plan)?
    };
    share(sample, rate)
}

fn dpdk(size: usize, rate: f64, out: bool, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let plan = plan(size, rate, BURST, time);
    let sample = if out {
        outward::through(&wire, &DpdkUplink::start(&wire, Kind::AfPacket)?, size, &plan)?
    } else {
        exchange(&Dpdk::start(2, 1)?, size, &plan)?
    };
    share(sample, rate)
}

/// Two guests that send to each other.
pub fn exchange(backend: &dyn Backend, size: usize, plan: &Plan) -> Result<Sample> {
    let mut guests = pair(backend, &Shape::for_frames(size), size);
    let pid = backend.pid();
    sample(&run(&mut guests, plan, &mut || host::used(pid))?)
}

/// The value is the share of a processor, if the rate was held.
fn share(sample: Sample, rate: f64) -> Result<Sample> {
    let held = sample.value * 1e6 / rate;
    if !(0.95..1.05).contains(&held) {
        return Err(format!("{:.0} % of the rate arrived", held * 100.0).into());
    }
    let share = sample.cpu_share.ok_or("nobody's processor time")?;
    Ok(Sample { value: share * 100.0, ..sample })
}
