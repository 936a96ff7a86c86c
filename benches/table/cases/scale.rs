//! Many ports, many queues, many receivers, many senders (P14, P15, P16, fairness).
//!
//! One thread drives all guests, so their number also costs the generator. The limit with as many
//! rings beside each figure shows how much. Working sets grow with the ports and leave the caches;
//! the limit includes that, too.
//!
//! What can go wrong: a thousand guests need six thousand descriptors, so the program raises its
//! own limit.

use super::CaseTerms;
use super::guests::{LIMIT, LazyWire, sample};
use crate::Result;
use crate::figures::jain;
use crate::generator::frame::mac;
use crate::generator::{self, Frame, Guest, Plan, Shape};
use crate::host;
use crate::limits::copy::Copier;
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::ours::{Ours, Setup};

const BROADCAST: testkit::frames::Mac = [0xff; 6];

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    vec![ports(terms), queues(terms), broadcast(terms), fairness(terms)]
}

/// Guests with few buffers, so the memory of a thousand fits into a machine.
fn small() -> Shape {
    Shape { posted: 128, memory: 2 << 20, ..Shape::default() }
}

/// `count` guests of a process with as many ports; `to` says to which guest each sends, if at all.
fn guests(
    ours: &Ours,
    shape: &Shape,
    to: impl Fn(usize) -> Option<testkit::frames::Mac>,
) -> Vec<Guest> {
    let sockets = ours.sockets().iter().enumerate();
    let guest = |(n, socket): (usize, &std::path::PathBuf)| {
        let frame = to(n).map(|to| Frame::sized(mac(n), to, 64));
        Guest::connect(socket, shape, frame.as_ref())
    };
    sockets.map(guest).collect()
}

fn ports(terms: &CaseTerms) -> Case {
    let plan = Plan { window: 64, burst: 32, ..Plan::flood(terms.time, 64) };
    let conditions = format!(
        "each guest sends frames of 64 bytes to the next, in a ring; one worker; 128 receive buffers each; {}",
        plan.words()
    );
    let wire = LazyWire::default();
    let mut contenders = Vec::new();
    for count in [2, 10, 100, 1000] {
        let (plan, wire) = (plan.clone(), wire.clone());
        contenders.push(Contender::new(format!("{count} ports"), Role::Ours, move || {
            let setup = Setup { ports: count, ..Setup::default() };
            let ours = Ours::start(&wire.get(1500), &setup)?;
            let mut guests = guests(&ours, &small(), |n| Some(mac((n + 1) % count)));
            let pid = ours.pid();
            sample(&generator::run(&mut guests, &plan, &mut || host::used(pid))?)
        }));
    }
    for count in [2, 1000] {
        let plan = plan.clone();
        contenders.push(Contender::new(format!("{LIMIT}, {count}"), Role::Limit, move || {
            let frame = |n: usize| Frame::sized(mac(n), mac((n + 1) % count), 64);
            let mut guests: Vec<Guest> =
                (0..count).map(|n| Guest::local(&small(), Some(&frame(n)))).collect();
            let ways: Vec<(usize, usize)> = (0..count).map(|n| (n, (n + 1) % count)).collect();
            let copier = Copier::start(&guests, &ways);
            let count = generator::run(&mut guests, &plan, &mut || 0)?;
            drop(copier);
            Ok(Sample { cpu_each: None, cpu_share: None, ..sample(&count)? })
        }));
    }
    Case {
        id: "P14",
        title: "all ports together, guest to guest, 64 bytes".to_owned(),
        unit: "Mpps",
        better: Better::Higher,
        goal: Goal::new("1000 ports reach 90 % of the rate of 2 ports", |o| {
            Some(o.ratio("1000 ports", "2 ports")?.median >= 0.9)
        }),
        contenders,
        conditions,
    }
}

fn queues(terms: &CaseTerms) -> Case {
    let wire = LazyWire::default();
    let mut contenders = Vec::new();
    for (pairs, workers) in [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (8, 2)] {
        let (wire, time) = (wire.clone(), terms.time);
        let some = |n: usize, what| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let name = format!("{}, {}", some(pairs, "pair"), some(workers, "worker"));
        let role = if workers == 1 { Role::Ours } else { Role::OptIn };
        let here = host::processors();
        if workers >= here {
            let why = format!("needs {} processors, here are {here}", workers + 1);
            contenders.push(Contender::absent(name, role, why));
            continue;
        }
        contenders.push(Contender::new(name, role, move || {
            let processors = format!("{}-{workers}", host::BACKEND);
            let setup = Setup { pairs, workers, processors, ..Setup::default() };
            let ours = Ours::start(&wire.get(1500), &setup)?;
            let window = if pairs == 1 { 128 } else { 64 };
            let plan = Plan { window, ..Plan::flood(time, 64) };
            let shape = Shape { pairs, ..Shape::default() };
            let mut guests = guests(&ours, &shape, |n| Some(mac(1 - n)));
            let pid = ours.pid();
            sample(&generator::run(&mut guests, &plan, &mut || host::used(pid))?)
        }));
    }
    Case {
        id: "P15",
        title: "queue pairs and workers, guest to guest, 64 bytes".to_owned(),
        unit: "Mpps",
        better: Better::Higher,
        goal: Goal::new("8 queue pairs reach 95 % of what one reaches", |o| {
            Some(o.ratio("8 pairs, 1 worker", "1 pair, 1 worker")?.median >= 0.95)
        }),
        contenders,
        conditions: "two guests that send on all their pairs, a flow on each; 64 frames of a pair in flight (128 if \
                     there is but one), bursts of 32; guests poll"
            .to_owned(),
    }
}

fn broadcast(terms: &CaseTerms) -> Case {
    let wire = LazyWire::default();
    let mut contenders = Vec::new();
    for receivers in [100, 1000] {
        let (wire, time) = (wire.clone(), terms.time);
        contenders.push(Contender::new(format!("{receivers} receivers"), Role::Ours, move || {
            let setup = Setup { ports: receivers + 1, ..Setup::default() };
            let ours = Ours::start(&wire.get(1500), &setup)?;
            let mut guests = guests(&ours, &small(), |n| (n == 0).then_some(BROADCAST));
            let plan = Plan { window: 32, burst: 16, ..Plan::flood(time, 64) };
            let pid = ours.pid();
            let count = generator::run(&mut guests, &plan, &mut || host::used(pid))?;
            let all = count.offered * receivers as u64;
            let lost = all.saturating_sub(count.arrived) as f64 / all.max(1) as f64;
            let value = count.cpu_each();
            let broadcasts = count.sent as f64 / count.seconds;
            let extras = vec![("broadcasts per second", broadcasts)];
            Ok(Sample { value, lost: Some(lost), extras, ..sample(&count)? })
        }));
    }
    Case {
        id: "P16",
        title: "broadcast of 64 bytes: processor time for each receiver".to_owned(),
        unit: "ns",
        better: Better::Lower,
        goal: Goal::new("120 ns for each of 1000 receivers", |o| {
            Some(o.median("1000 receivers")? <= 120.0)
        }),
        contenders,
        conditions: "one guest sends broadcasts, at most 32 in flight, bursts of 16; all others receive them, 128 \
                     buffers each, and poll; the parent gets each once, too. One worker"
            .to_owned(),
    }
}

fn fairness(terms: &CaseTerms) -> Case {
    let wire = LazyWire::default();
    let run = |each: bool| {
        let (wire, time) = (wire.clone(), terms.time);
        move || -> Result<Sample> {
            let ports = if each { 8 } else { 9 };
            let ours = Ours::start(&wire.get(1500), &Setup { ports, ..Setup::default() })?;
            let to = |n: usize| match (each, n) {
                (true, n) => Some(mac((n + 1) % 8)),
                (false, 8) => None,
                (false, _) => Some(mac(8)),
            };
            let mut guests = guests(&ours, &Shape::default(), to);
            let pid = ours.pid();
            let plan = Plan::flood(time, 64);
            let count = generator::run(&mut guests, &plan, &mut || host::used(pid))?;
            let shares = if each { count.each.clone() } else { count.senders(8) };
            let value = jain(&shares).ok_or("no frame has arrived")?;
            Ok(Sample { value, extras: vec![("Mpps", count.rate() / 1e6)], ..sample(&count)? })
        }
    };
    Case {
        id: "fairness",
        title: "8 equal senders: Jain's index of the received rates".to_owned(),
        unit: "",
        better: Better::Higher,
        goal: Goal::new("0.95 or more", |o| {
            let least = |name| Some(o.row(name)?.value()?.median);
            Some(least("a receiver each")? >= 0.95 && least("one receiver")? >= 0.95)
        }),
        contenders: vec![
            Contender::new("a receiver each", Role::Ours, run(true)),
            Contender::new("one receiver", Role::Ours, run(false)),
        ],
        conditions: "frames of 64 bytes, at full rate, 128 in flight each, guests poll. With one receiver for \
                     all eight senders most frames find its ring full, and are lost"
            .to_owned(),
    }
}
