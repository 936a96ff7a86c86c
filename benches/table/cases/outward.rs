//! P4, P5, P7, P8: out of a guest into the parent.
//!
//! The guest floods, and the case counts what the parent's far end has received by its own counter.
//! The limit is the system call that every program on the same kind of uplink needs, in a loop:
//! `sendmmsg` of 64 frames on a packet socket (`type=macvlan`), `write` on a macvtap
//! (`type=macvtap`).
//!
//! What can go wrong: the far end's kernel drops the frames in the sender's own time, because a
//! veth has no other processor. So each contender's rate includes that cost.

use std::time::Duration;

use super::CaseTerms;
use super::guests::OURS;
use crate::cable::{self, Counter, FAR, NOBODY, PARENT};
use crate::generator::{Frame, Guest, Plan, Shape, frame::mac, run};
use crate::limits::sendmmsg::Sender;
use crate::limits::tap;
use crate::measure::{Better, Case, Contender, Goal, Outcome, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk_uplink::{DpdkUplink, Kind};
use crate::peers::ours::{Ours, Setup, Wire};
use crate::spinning::Spinning;
use crate::{Result, host};

/// A super-frame: 45 segments of 1448 bytes, the most that fits.
pub const SUPER: usize = 54 + 45 * 1448;

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    // A case has many contenders: half a sample of each is enough.
    let time = terms.time / 2;
    let mut cases = Vec::new();
    for (id, size, better_than_dpdk) in [("P4", 64, 1.13), ("P4-1514", 1514, 1.25)] {
        let mut contenders = vec![
            Contender::new(OURS, Role::Ours, move || ours("macvlan", size, time)),
            Contender::new("sendmmsg loop", Role::Limit, move || sendmmsg(size, true, time)),
            Contender::new("sendmmsg loop, no vnet header", Role::Limit, move || {
                sendmmsg(size, false, time)
            }),
        ];
        contenders.extend(
            Kind::ALL.map(|kind| {
                Contender::new(kind.name(), Role::Peer, move || dpdk(kind, size, time))
            }),
        );
        cases.push(Case {
            id,
            title: format!("guest to parent, {size} bytes, type=macvlan"),
            unit: "Mpps",
            better: Better::Higher,
            goal: Goal::new(
                format!("95 % of the sendmmsg loop with its header, {better_than_dpdk} times net_af_packet"),
                move |outcome| {
                    let limit = at_least(outcome, "sendmmsg loop", 0.95)?;
                    Some(limit && at_least(outcome, Kind::AfPacket.name(), better_than_dpdk)?)
                },
            ),
            contenders,
            conditions: conditions(terms, size, "sendmmsg of 64 frames on AF_PACKET, each with a 10-byte header"),
        });
    }
    for (id, size) in [("P5", 64), ("P5-1514", 1514)] {
        cases.push(Case {
            id,
            title: format!("guest to parent, {size} bytes, type=macvtap"),
            unit: "Mpps",
            better: Better::Higher,
            goal: Goal::new("95 % of the write loop", |outcome| {
                at_least(outcome, "write loop", 0.95)
            }),
            contenders: vec![
                Contender::new(OURS, Role::Ours, move || ours("macvtap", size, time)),
                Contender::new("write loop", Role::Limit, move || write(size, time)),
            ],
            conditions: conditions(terms, size, "one write on a macvtap for each frame"),
        });
    }
    cases.push(Case {
        id: "P8-out",
        title: format!("guest to parent, TCP super-frames of {SUPER} bytes, not segmented"),
        unit: "Gbit/s",
        better: Better::Higher,
        goal: Goal::new("100 Gbit/s", |outcome| {
            Some(outcome.first(Role::Ours)?.value()?.median >= 100.0)
        }),
        contenders: vec![
            Contender::new("this program, macvlan", Role::Ours, move || {
                ours("macvlan", SUPER, time)
            }),
            Contender::new("this program, macvtap", Role::Ours, move || {
                ours("macvtap", SUPER, time)
            }),
            Contender::new("sendmmsg loop", Role::Limit, move || sendmmsg(SUPER, true, time)),
            Contender::new("write loop", Role::Limit, move || write(SUPER, time)),
        ],
        conditions: conditions(terms, SUPER, "sendmmsg of 64, or write, of one super-frame each"),
    });
    cases.push(Case {
        id: "P9",
        title: "guest to parent by an AF_XDP uplink".to_owned(),
        unit: "Mpps",
        better: Better::Higher,
        goal: Goal::none(),
        contenders: vec![Contender::absent(
            OURS,
            Role::Ours,
            "the program has no AF_XDP uplink; DPDK's is a peer of P4 and P6",
        )],
        conditions: String::new(),
    });
    cases
}

/// Whether this program is so many times as fast as this contender.
pub fn at_least(outcome: &Outcome, contender: &str, times: f64) -> Option<bool> {
    let ours = &outcome.first(Role::Ours)?.name;
    Some(outcome.ratio(ours, contender)?.median >= times)
}

fn conditions(terms: &CaseTerms, size: usize, limit: &str) -> String {
    let plan = Plan::flood(terms.time / 2, size).words();
    format!(
        "One guest: {plan}; counted by the far end of the parent's veth. Limit: {limit}, on \
         the back-end's processor"
    )
}

/// The program with one port.
pub fn start(wire: &Wire, kind: &'static str) -> Result<Ours> {
    Ours::start(wire, &Setup { ports: 1, kind, ..Setup::default() })
}

/// The same, on a processor of the scheduler's choice.
pub fn start_anywhere(wire: &Wire, kind: &'static str) -> Result<Ours> {
    let processors = format!("0-{}", host::processors() - 1);
    Ours::start(wire, &Setup { ports: 1, kind, processors, ..Setup::default() })
}

fn ours(kind: &'static str, size: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let ours = start(&wire, kind)?;
    through(&wire, &ours, size, &Plan::flood(time, size))
}

fn dpdk(kind: Kind, size: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let dpdk = DpdkUplink::start(&wire, kind)?;
    through(&wire, &dpdk, size, &Plan::flood(time, size))
}

/// Sends through a back-end's first socket, and counts what arrives.
pub fn through(wire: &Wire, backend: &dyn Backend, size: usize, plan: &Plan) -> Result<Sample> {
    let counter = Counter::new(&wire.far, FAR)?;
    let frame = Frame::sized(mac(0), NOBODY, size);
    let mut guests =
        [Guest::connect(&backend.sockets()[0], &Shape::for_frames(size), Some(&frame))];
    let pid = backend.pid();
    await_uplink(&mut guests[0], &counter)?;
    let (before, base) = (counter.received()?, guests[0].moved().1);
    let mut marks = Vec::new();
    let count = run(&mut guests, plan, &mut || {
        marks.extend(counter.received());
        host::used(pid)
    })?;
    let [first, last] = marks[..] else { return Err("the far end cannot be counted".into()) };
    let after = counter.received()?;
    let arrived = last.frames - first.frames;
    let sent = guests[0].moved().1 - base;
    let lost = sent.saturating_sub(after.frames - before.frames);
    Ok(Sample {
        value: figure(size, arrived, last.bytes - first.bytes, count.seconds),
        cpu_each: Some(count.cpu as f64 / arrived.max(1) as f64),
        cpu_share: Some(count.cpu_share()),
        lost: Some(lost as f64 / sent.max(1) as f64),
        extras: vec![("kicks each", count.kicks as f64 / arrived.max(1) as f64)],
    })
}

/// Sends single frames until one arrives: a back-end begins a moment after the handshake.
pub fn await_uplink(guest: &mut Guest, counter: &Counter) -> Result<()> {
    let before = counter.received()?.frames;
    for _ in 0..500 {
        for tx in guest.pairs.iter_mut().flat_map(|pair| &mut pair.tx) {
            tx.reap();
            tx.send(1, 0);
        }
        std::thread::sleep(Duration::from_millis(10));
        if counter.received()?.frames > before {
            // Frames still in flight belong to no measurement.
            std::thread::sleep(Duration::from_millis(20));
            return Ok(());
        }
    }
    Err("nothing arrives at the far end of the parent".into())
}

/// Millions of frames per second, or for super-frames gigabits.
pub fn figure(size: usize, frames: u64, bytes: u64, seconds: f64) -> f64 {
    if size > 1514 { bytes as f64 * 8e-9 / seconds } else { frames as f64 * 1e-6 / seconds }
}

fn message(size: usize, to: testkit::frames::Mac) -> Vec<u8> {
    let frame = Frame::sized(mac(0), to, size);
    [&frame.header.bytes()[..], &frame.bytes].concat()
}

fn sendmmsg(size: usize, header: bool, time: Duration) -> Result<Sample> {
    if !header && size > 1514 {
        return Err("a super-frame needs its header".into());
    }
    let wire = Wire::new(1500);
    let message = message(size, NOBODY);
    let spinning = Spinning::start(Some(wire.host.name()), host::BACKEND, move || {
        let mut sender = Sender::new(PARENT, &message, header)?;
        Ok(move || sender.send())
    })?;
    alone(&wire, spinning, size, time)
}

fn write(size: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let tap = tap::open(&cable::macvtap(&wire, "plain", mac(0)))?;
    let message = message(size, NOBODY);
    let spinning = Spinning::start(None, host::BACKEND, move || Ok(tap::write(tap, &message)))?;
    alone(&wire, spinning, size, time)
}

/// The rate of a loop at the far end.
fn alone(wire: &Wire, spinning: Spinning, size: usize, time: Duration) -> Result<Sample> {
    let counter = Counter::new(&wire.far, FAR)?;
    std::thread::sleep(time / 10);
    let (start, first, used) = (std::time::Instant::now(), counter.received()?, spinning.used());
    let sent = spinning.frames();
    std::thread::sleep(time * 9 / 10);
    let (seconds, last) = (start.elapsed().as_secs_f64(), counter.received()?);
    let (used, sent) = (spinning.used() - used, spinning.frames() - sent);
    spinning.stop();
    let arrived = last.frames - first.frames;
    Ok(Sample {
        value: figure(size, arrived, last.bytes - first.bytes, seconds),
        cpu_each: Some(used as f64 / arrived.max(1) as f64),
        cpu_share: Some(used as f64 / 1e9 / seconds),
        // The two counters are not read at one moment, so a difference below a batch in a thousand
        // is noise.
        lost: Some(sent.saturating_sub(arrived + 64) as f64 / sent.max(1) as f64),
        extras: Vec::new(),
    })
}
