//! From guest to guest at full rate: 64, 1514 and 9014 bytes, and super-frames of 64 KiB (P1, P2,
//! P3).
//!
//! Two guests send to each other, both ways at once, no more than the other has buffers for. The
//! rate is the sum of both ways. One thread on one processor runs both guests, and the back-end has
//! the other processor. The generator is fast (see the limit of each case), so the case measures
//! the back-end. At saturation the cost of a frame is the back-end's processor time per frame.
//! DPDK's own guest (virtio-user) is an independent check. It takes more time for a frame than our
//! generator, and often bounds the rate.
//!
//! What can go wrong: processor time counts spinning. At saturation there is little of it. At a
//! fixed rate (`load`) the figure also contains wake-ups and polling, and that is its purpose.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::CaseTerms;
use crate::Result;
use crate::generator::frame::{LARGEST_WHOLE, mac};
use crate::generator::{self, Count, Frame, Guest, Plan, Shape};
use crate::host;
use crate::limits::copy::Copier;
use crate::measure::{Better, Case, Contender, Goal, Outcome, Role, Sample};
use crate::peers::command::{self, Foreign};
use crate::peers::dpdk::Dpdk;
use crate::peers::kernel;
use crate::peers::ours::{Ours, Setup, Wire};
use crate::peers::{Backend, testpmd};

/// This program's name in every case.
pub const OURS: &str = "this program";
/// DPDK's.
pub const DPDK: &str = "DPDK net_vhost";
/// The plain loop's.
pub const LIMIT: &str = "plain copy";
const MACVTAP: &str = "kernel macvtap, bare loop";
const BRIDGE: &str = "kernel tap and bridge, bare loop";

/// A wire that is made at its first use, and shared by the contenders of a case.
#[derive(Clone, Default)]
pub struct LazyWire(Rc<RefCell<Option<Rc<Wire>>>>);

impl LazyWire {
    /// The wire; it is made with this MTU at its first use.
    pub fn get(&self, mtu: u32) -> Rc<Wire> {
        self.0.borrow_mut().get_or_insert_with(|| Rc::new(Wire::new(mtu))).clone()
    }
}

/// The unit of a case.
#[derive(Clone, Copy)]
enum Unit {
    Mpps,
    Gigabits,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Mpps => "Mpps",
            Unit::Gigabits => "Gbit/s",
        }
    }

    fn of(self, count: &Count) -> f64 {
        match self {
            Unit::Mpps => count.rate() / 1e6,
            Unit::Gigabits => count.gigabits(),
        }
    }
}

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    let p1 = Goal::new("1.25 times DPDK, and at most 45 ns of processor time per frame", |o| {
        Some(o.ratio(OURS, DPDK)?.median >= 1.25 && cpu(o)? <= 45.0)
    });
    let p2 = Goal::new("1.8 times DPDK", |o| Some(o.ratio(OURS, DPDK)?.median >= 1.8));
    let p3 = Goal::new("60 Gbit/s or 88 % of the limit, nothing segmented", |o| {
        let whole = o.row(OURS)?.extra("bytes per frame")?.least >= 65_000.0;
        let enough = o.median(OURS)? >= 60.0 || o.ratio(OURS, LIMIT)?.median >= 0.88;
        Some(whole && enough)
    });
    vec![
        rates(terms, "P1", 64, Unit::Mpps, p1),
        foreign(terms, "P1-testpmd", 64, 1.25),
        load(
            terms,
            ("P1-load", "processor time for a frame of 64 bytes at 1 Mpps", "ns"),
            (1e6, 32),
            |sample| sample.cpu_each,
            Goal::none(),
        ),
        rates(terms, "P2", 1514, Unit::Mpps, p2),
        foreign(terms, "P2-testpmd", 1514, 1.8),
        rates(terms, "jumbo", 9014, Unit::Gigabits, Goal::none()),
        rates(terms, "P3", 65_000, Unit::Gigabits, p3),
    ]
}

fn cpu(outcome: &Outcome) -> Option<f64> {
    Some(outcome.row(OURS)?.spread(|sample| sample.cpu_each)?.median)
}

fn rates(terms: &CaseTerms, id: &'static str, size: usize, unit: Unit, goal: Goal) -> Case {
    let plan = Plan::flood(terms.time, size);
    let conditions = format!("two guests, both ways summed: {}", plan.words());
    let mtu = if size == 9014 { 9000 } else { 1500 };
    let wire = LazyWire::default();
    let time = terms.time;
    let mut contenders = Vec::new();
    let (w, p) = (wire.clone(), plan.clone());
    contenders.push(Contender::new(OURS, Role::Ours, move || {
        exchange(&Ours::start(&w.get(mtu), &Setup::default())?, size, &p, unit)
    }));
    let p = plan.clone();
    contenders.push(Contender::new(DPDK, Role::Peer, move || {
        exchange(&Dpdk::start(2, 1)?, size, &p, unit)
    }));
    if let Some(line) = terms.peer.clone() {
        let (w, p) = (wire.clone(), plan.clone());
        contenders.push(Contender::new(command::name(&line), Role::Peer, move || {
            exchange(&Foreign::start(&line, 2, &w.get(mtu))?, size, &p, unit)
        }));
    }
    let kernel = move |pair: &kernel::Pair| -> Result<Sample> {
        let count = pair.exchange(size, time)?;
        let rate = count.received as f64 / count.seconds;
        Ok(count.sample(match unit {
            Unit::Mpps => rate / 1e6,
            Unit::Gigabits => rate * size as f64 * 8.0 / 1e9,
        }))
    };
    let w = wire.clone();
    contenders.push(Contender::new(MACVTAP, Role::Peer, move || {
        kernel(&kernel::Pair::macvtap(&w.get(mtu))?)
    }));
    let w = wire.clone();
    contenders.push(Contender::new(BRIDGE, Role::Peer, move || {
        kernel(&kernel::Pair::bridged(&w.get(mtu), mtu)?)
    }));
    contenders.push(Contender::new(LIMIT, Role::Limit, move || limit(size, &plan, unit)));
    let what = if size > LARGEST_WHOLE { "super-frames (TSO) of" } else { "frames of" };
    Case {
        id,
        title: format!("guest to guest, {what} {size} bytes"),
        unit: unit.name(),
        better: Better::Higher,
        goal,
        contenders,
        conditions,
    }
}

/// DPDK's guest instead of ours.
fn foreign(terms: &CaseTerms, id: &'static str, size: usize, times: f64) -> Case {
    let (wire, time) = (LazyWire::default(), terms.time);
    Case {
        id,
        title: format!("guest to guest, frames of {size} bytes, DPDK's virtio-user as the guest"),
        unit: "Mpps",
        better: Better::Higher,
        goal: Goal::new(format!("{times} times DPDK"), move |o| {
            Some(o.ratio(OURS, DPDK)?.median >= times)
        }),
        contenders: vec![
            Contender::new(OURS, Role::Ours, move || {
                testpmd::exchange(&Ours::start(&wire.get(1500), &Setup::default())?, size, time)
            }),
            Contender::new(DPDK, Role::Peer, move || {
                testpmd::exchange(&Dpdk::start(2, 1)?, size, time)
            }),
        ],
        conditions: "testpmd with two virtio-user ports, forward mode mac: frames circulate, both ways summed; \
                     rings of 256, no event index"
            .to_owned(),
    }
}

/// The processor time of a rate that every back-end can carry; `told` is the case's count.
fn load(
    terms: &CaseTerms,
    (id, title, unit): (&'static str, &str, &'static str),
    (rate, burst): (f64, usize),
    told: fn(&Sample) -> Option<f64>,
    goal: Goal,
) -> Case {
    let plan = Plan { rate: Some(rate), burst, ..Plan::flood(terms.time, 64) };
    let conditions = format!("two guests, both ways summed: {}", plan.words());
    let (wire, p) = (LazyWire::default(), plan.clone());
    let value = move |sample: Sample| Sample { value: told(&sample).unwrap_or(f64::NAN), ..sample };
    Case {
        id,
        title: title.to_owned(),
        unit,
        better: Better::Lower,
        goal,
        contenders: vec![
            Contender::new(OURS, Role::Ours, move || {
                let ours = Ours::start(&wire.get(1500), &Setup::default())?;
                exchange(&ours, 64, &p, Unit::Mpps).map(value)
            }),
            Contender::new(DPDK, Role::Peer, move || {
                exchange(&Dpdk::start(2, 1)?, 64, &plan, Unit::Mpps).map(value)
            }),
        ],
        conditions,
    }
}

/// Two guests that send to each other.
fn exchange(backend: &dyn Backend, size: usize, plan: &Plan, unit: Unit) -> Result<Sample> {
    let shape = Shape::for_frames(size);
    let mut guests = pair(backend, &shape, size);
    let pid = backend.pid();
    let count = generator::run(&mut guests, plan, &mut || host::used(pid))?;
    let mut told = Sample { value: unit.of(&count), ..sample(&count)? };
    if let Unit::Gigabits = unit {
        let header = generator::transmit::HEADER as f64;
        told.extras.push(("bytes per frame", count.bytes as f64 / count.received as f64 - header));
    }
    Ok(told)
}

/// The guests at the first two sockets, each with a frame for the other.
pub fn pair(backend: &dyn Backend, shape: &Shape, size: usize) -> Vec<Guest> {
    let sockets = backend.sockets().iter().take(2).enumerate();
    let guest = |(number, socket): (usize, &std::path::PathBuf)| {
        let frame = Frame::sized(mac(number), mac(1 - number), size);
        Guest::connect(socket, shape, Some(&frame))
    };
    sockets.map(guest).collect()
}

/// The same two without a back-end.
pub fn local_pair(shape: &Shape, size: usize) -> Vec<Guest> {
    let frame = |number: usize| Frame::sized(mac(number), mac(1 - number), size);
    (0..2).map(|number| Guest::local(shape, Some(&frame(number)))).collect()
}

fn limit(size: usize, plan: &Plan, unit: Unit) -> Result<Sample> {
    let mut guests = local_pair(&Shape::for_frames(size), size);
    let copier = Copier::start(&guests, &[(0, 1), (1, 0)]);
    let busy = copier.busy.clone();
    let count = generator::run(&mut guests, plan, &mut || busy.load(Ordering::Relaxed))?;
    drop(copier);
    Ok(Sample { value: unit.of(&count), ..sample(&count)? })
}

/// A count in millions of frames per second.
pub fn sample(count: &Count) -> Result<Sample> {
    if count.received == 0 {
        return Err("no frame has arrived".into());
    }
    let each = |n: u64| n as f64 / count.received as f64;
    Ok(Sample {
        value: count.rate() / 1e6,
        cpu_each: Some(count.cpu_each()),
        cpu_share: Some(count.cpu_share()),
        lost: Some(count.lost as f64 / count.offered.max(1) as f64),
        extras: vec![
            ("kicks per frame", each(count.kicks)),
            ("calls per frame", each(count.calls)),
        ],
    })
}
