//! Other costs: eventfd writes at saturation (P17), and the log of dirty pages (P22).
//!
//! Guests sleep here when they are idle, so they ask for kicks and calls as a kernel does. A batch
//! that finds the other side awake needs neither.

use super::CaseTerms;
use super::guests::{DPDK, LazyWire, OURS, pair, sample};
use crate::Result;
use crate::generator::{self, Plan, Shape};
use crate::host;
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk::Dpdk;
use crate::peers::ours::{Ours, Setup};
use testkit::driver::F_LOG_ALL;
use testkit::vmm::Vmm;

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    vec![eventfds(terms), dirty_log()]
}

fn eventfds(terms: &CaseTerms) -> Case {
    let plan = Plan { sleeping: true, ..Plan::flood(terms.time, 64) };
    let conditions = format!("two guests, both ways: {}", plan.words());
    let (wire, p) = (LazyWire::default(), plan.clone());
    Case {
        id: "P17",
        title: "eventfd writes per frame at saturation, kicks and calls together".to_owned(),
        unit: "",
        better: Better::Lower,
        goal: Goal::new("0.02 per frame", |o| Some(o.median(OURS)? <= 0.02)),
        contenders: vec![
            Contender::new(OURS, Role::Ours, move || {
                writes(&Ours::start(&wire.get(1500), &Setup::default())?, &plan)
            }),
            Contender::new(DPDK, Role::Peer, move || writes(&Dpdk::start(2, 1)?, &p)),
        ],
        conditions,
    }
}

fn writes(backend: &dyn Backend, plan: &Plan) -> Result<Sample> {
    let mut guests = pair(backend, &Shape::default(), 64);
    let pid = backend.pid();
    let count = generator::run(&mut guests, plan, &mut || host::used(pid))?;
    let told = sample(&count)?;
    let value = (count.kicks + count.calls) as f64 / count.received as f64;
    let extras = [vec![("Mpps", told.value)], told.extras.clone()].concat();
    Ok(Sample { value, extras, ..told })
}

fn dirty_log() -> Case {
    let wire = LazyWire::default();
    Case {
        id: "P22",
        title: "throughput kept while dirty pages are logged".to_owned(),
        unit: "",
        better: Better::Higher,
        goal: Goal::new("85 %", |o| Some(o.median(OURS)? >= 0.85)),
        contenders: vec![Contender::new(OURS, Role::Ours, move || {
            let ours = Ours::start(&wire.get(1500), &Setup::default())?;
            let offered = Vmm::connect(&ours.sockets()[0]).get_features();
            Err(if offered & F_LOG_ALL == 0 {
                "not offered yet (VHOST_F_LOG_ALL)"
            } else {
                "VHOST_F_LOG_ALL is offered; this case does not measure it yet"
            }
            .into())
        })],
        conditions: "live migration is not served yet".to_owned(),
    }
}
