//! From guest to guest, as fast as it goes: 64, 1514 and 9014 bytes, and super-frames of 64 KiB (P1, P2, P3).
//!
//! Two guests send to each other, both ways at once, no more than the other has buffers for. The rate is the sum of
//! both. Both guests are one thread on one processor, the back-end is another one on the other. The generator is quick
//! (see the limit of each case), so it is the back-end that is measured: at saturation, what a frame costs it is the
//! time between two frames.

use std::cell::RefCell;
use std::rc::Rc;

use super::Terms;
use crate::Result;
use crate::generator::{self, Count, Frame, Guest, Plan, Shape, frame::mac};
use crate::host;
use crate::limits::copy::Copier;
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk::Dpdk;
use crate::peers::ours::{Ours, Setup, Wire};

/// The name that our answer has in every case.
pub const OURS: &str = "this program";
/// DPDK's.
pub const DPDK: &str = "DPDK net_vhost";
/// The plain loop's.
pub const LIMIT: &str = "plain copy";

/// A wire that is laid when it is first needed, and shared by the contenders of a case.
pub type LazyWire = Rc<RefCell<Option<Wire>>>;

/// The cases of this file.
pub fn cases(terms: &Terms) -> Vec<Case> {
    vec![
        rates(
            terms,
            "P1",
            64,
            Goal::new("1.25 times DPDK, at most 45 ns of processor time per frame", |o| {
                let cpu = o.row(OURS)?.spread(|sample| sample.cpu_each)?.median;
                Some(o.ratio(OURS, DPDK)?.median >= 1.25 && cpu <= 45.0)
            }),
        ),
        rates(
            terms,
            "P2",
            1514,
            Goal::new("1.8 times DPDK", |o| Some(o.ratio(OURS, DPDK)?.median >= 1.8)),
        ),
    ]
}

fn rates(terms: &Terms, id: &'static str, size: usize, goal: Goal) -> Case {
    let plan = Plan::flood(terms.time);
    let wire: LazyWire = Rc::default();
    let ours = {
        let plan = plan.clone();
        move || {
            let mut wire = wire.borrow_mut();
            let wire = wire.get_or_insert_with(|| Wire::new(1500));
            exchange(&Ours::start(wire, &Setup::default())?, size, &plan)
        }
    };
    let dpdk = {
        let plan = plan.clone();
        move || exchange(&Dpdk::start(2, 1)?, size, &plan)
    };
    Case {
        id,
        title: format!("guest to guest, {size} bytes"),
        unit: "Mpps",
        better: Better::Higher,
        goal,
        contenders: vec![
            Contender::new(OURS, Role::Ours, ours),
            Contender::new(DPDK, Role::Peer, dpdk),
            Contender::new(LIMIT, Role::Limit, move || limit(size, &plan)),
        ],
        conditions: format!(
            "two guests, both directions summed, rings of 256, {} frames under way each, bursts of {}",
            plan_words(terms).0,
            plan_words(terms).1
        ),
    }
}

fn plan_words(terms: &Terms) -> (usize, usize) {
    let plan = Plan::flood(terms.time);
    (plan.window, plan.burst)
}

/// Two guests that send to each other.
pub fn exchange(backend: &dyn Backend, size: usize, plan: &Plan) -> Result<Sample> {
    let shape = Shape::for_frames(size);
    let mut guests = Vec::new();
    for (number, socket) in backend.sockets().iter().take(2).enumerate() {
        let frame = Frame::sized(mac(number), mac(1 - number), size);
        guests.push(Guest::connect(socket, &shape, Some(&frame)));
    }
    let pid = backend.pid();
    sample(&generator::run(&mut guests, plan, &mut || host::used(pid))?)
}

fn limit(size: usize, plan: &Plan) -> Result<Sample> {
    let shape = Shape::for_frames(size);
    let frame = |number| Frame::sized(mac(number), mac(1 - number), size);
    let mut guests: Vec<Guest> =
        (0..2).map(|number| Guest::local(&shape, Some(&frame(number)))).collect();
    let copier = Copier::start(&guests, &[(0, 1), (1, 0)]);
    let busy = copier.busy.clone();
    let meter = &mut || busy.load(std::sync::atomic::Ordering::Relaxed);
    let count = generator::run(&mut guests, plan, meter)?;
    drop(copier);
    sample(&count)
}

/// A rate in millions of frames per second with what it took.
pub fn sample(count: &Count) -> Result<Sample> {
    if count.received == 0 {
        return Err("no frame has arrived".into());
    }
    Ok(Sample {
        value: count.rate() / 1e6,
        cpu_each: Some(count.cpu_each()),
        cpu_share: Some(count.cpu_share()),
        lost: Some(count.lost as f64 / count.sent.max(1) as f64),
        extras: vec![
            ("kicks per frame", count.kicks as f64 / count.received as f64),
            ("calls per frame", count.calls as f64 / count.received as f64),
        ],
    })
}
