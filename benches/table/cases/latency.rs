//! How long a frame takes: round trips alone (P10, P11), and a probe among other ports that flood.
//!
//! P10 is the default for users who do not tune for latency: back-end and guests sleep, and a round
//! trip is little more than four wakes. P11 is the same with all threads awake: guests that poll,
//! and a back-end that was configured to poll (an opt-in, because it occupies a processor).
//!
//! What can go wrong: a median hides the tail; the report has both.

use std::time::Duration;

use super::CaseTerms;
use super::guests::{DPDK, LIMIT, LazyWire, OURS, local_pair, pair};
use crate::Result;
use crate::figures::percentile;
use crate::generator::{Frame, Guest, Plan, Shape, frame::mac, pingpong, probe};
use crate::limits::{copy::Copier, wakes};
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::dpdk::Dpdk;
use crate::peers::ours::{Ours, Setup, has_flag};
use crate::peers::{Backend, kernel};

/// The flag of P11, and for how many microseconds the back-end polls before it sleeps.
const BUSY_POLL: [&str; 2] = ["--busy-poll", "50"];
const POLLED: &str = "this program, busy poll 50 us";
const WAKES: &str = "four eventfd wakes";
const IDLE: &str = "the others silent";
const LOADED: &str = "7 ports flood";

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    vec![sleeping(terms), polling(terms), loaded(terms)]
}

fn sleeping(terms: &CaseTerms) -> Case {
    let (wire, time) = (LazyWire::default(), terms.time);
    let w = wire.clone();
    Case {
        id: "P10",
        title: "round trip of 64 bytes, all threads sleep in between".to_owned(),
        unit: "us",
        better: Better::Lower,
        goal: Goal::new("median of 32 us, 99 % within 80 us", |o| {
            Some(o.median(OURS)? <= 32.0 && o.row(OURS)?.extra("p99")?.median <= 80.0)
        })
        .beyond(|o| Some(o.median(WAKES)? > 32.0)),
        contenders: vec![
            Contender::new(OURS, Role::Ours, move || {
                let ours = Ours::start(&wire.get(1500), &Setup::default())?;
                trips(&ours, time, true)
            }),
            Contender::new("kernel macvtap, two threads", Role::Peer, move || {
                told(&mut kernel::Pair::macvtap(&w.get(1500))?.trips(time)?)
            }),
            Contender::new(WAKES, Role::Limit, move || {
                told(&mut wakes::four(time)?)
            }),
        ],
        conditions: "one frame at a time; guests wait in poll for their eventfd. Between two macvtap devices a round \
                     trip has two wakes, because there is no ring and no back-end"
            .to_owned(),
    }
}

fn polling(terms: &CaseTerms) -> Case {
    let (wire, time) = (LazyWire::default(), terms.time);
    let w = wire.clone();
    let polled = Contender::new(POLLED, Role::OptIn, move || {
        if !has_flag(BUSY_POLL[0]) {
            return Err(format!("needs {}", BUSY_POLL[0]).into());
        }
        let extra = BUSY_POLL.map(str::to_owned).to_vec();
        let ours = Ours::start(&w.get(1500), &Setup { extra, ..Setup::default() })?;
        trips(&ours, time, false)
    });
    Case {
        id: "P11",
        title: "round trip of 64 bytes, all threads poll".to_owned(),
        unit: "us",
        better: Better::Lower,
        goal: Goal::new("with busy polling a median of 2 us, 99 % within 10 us", |o| {
            Some(o.median(POLLED)? <= 2.0 && o.row(POLLED)?.extra("p99")?.median <= 10.0)
        }),
        contenders: vec![
            polled,
            Contender::new(OURS, Role::Ours, move || {
                trips(&Ours::start(&wire.get(1500), &Setup::default())?, time, false)
            }),
            Contender::new(DPDK, Role::Peer, move || trips(&Dpdk::start(2, 1)?, time, false)),
            Contender::new(LIMIT, Role::Limit, move || {
                let mut guests = local_pair(&Shape::default(), 64);
                let copier = Copier::start(&guests, &[(0, 1), (1, 0)]);
                let trips = pingpong::run(&mut guests, time, false);
                drop(copier);
                told(&mut trips?)
            }),
        ],
        conditions: "one frame at a time; guests poll. DPDK polls always".to_owned(),
    }
}

fn loaded(terms: &CaseTerms) -> Case {
    let (wire, time) = (LazyWire::default(), terms.time);
    let run = move |flooding: bool| {
        let wire = wire.clone();
        move || {
            let setup = Setup { ports: 9, ..Setup::default() };
            let ours = Ours::start(&wire.get(1500), &setup)?;
            // The first to the last; the seven in between in a ring.
            let to = |n: usize| match n {
                0 => 8,
                8 => 0,
                n => n % 7 + 1,
            };
            let guest = |n: usize| {
                let frame = Frame::sized(mac(n), mac(to(n)), 64);
                Guest::connect(&ours.sockets()[n], &Shape::default(), Some(&frame))
            };
            let mut guests: Vec<Guest> = (0..9).map(guest).collect();
            let mut times = probe::run(&mut guests, &Plan::flood(time, 64), flooding);
            let sample = told(&mut times)?;
            let p99 = sample.extras.iter().find(|(name, _)| *name == "p99").map(|(_, v)| *v);
            let extras = vec![("p50", sample.value)];
            Ok(Sample { value: p99.unwrap_or(f64::NAN), extras, ..Sample::default() })
        }
    };
    Case {
        id: "probe",
        title: "99 % of a thousand frames a second arrive within".to_owned(),
        unit: "us",
        better: Better::Lower,
        goal: Goal::new("at most 5 times as long when 7 other ports flood", |o| {
            Some(o.ratio(LOADED, IDLE)?.median <= 5.0)
        }),
        contenders: vec![
            Contender::new(LOADED, Role::Ours, run(true)),
            Contender::new(IDLE, Role::Ours, run(false)),
        ],
        conditions: "nine guests of one process, one worker; the probe goes one way, from the first guest to the \
                     last, and the seven in between send to each other in a ring, 128 frames in flight each; \
                     guests poll"
            .to_owned(),
    }
}

fn trips(backend: &dyn Backend, time: Duration, sleeping: bool) -> Result<Sample> {
    let mut guests = pair(backend, &Shape::default(), 64);
    told(&mut pingpong::run(&mut guests, time, sleeping)?)
}

/// Median, with the tail beside it; microseconds.
fn told(times: &mut [u32]) -> Result<Sample> {
    let mut at = |share: f64| percentile(times, share).map(|ns| f64::from(ns) / 1e3);
    let (median, p99, p999) = (at(0.5), at(0.99), at(0.999));
    Ok(Sample {
        value: median.ok_or("no frame has arrived")?,
        extras: vec![("p99", p99.unwrap_or(f64::NAN)), ("p99.9", p999.unwrap_or(f64::NAN))],
        ..Sample::default()
    })
}
