//! TCP through real kernels: one and a hundred connections, and the round trip of one byte.
//!
//! Traffic goes from guest to guest, and from a guest to a machine on the LAN. `tcp/` defines a
//! guest and its carrier. The contenders differ in the back-end only: this program with either type
//! of port; a macvtap of the kernel for each guest on the same parent; a tap for each guest on a
//! Linux bridge that also has the parent as a port.
//!
//! What can go wrong: five programs share two processors, and the scheduler decides which one runs;
//! look at the range.

use std::rc::Rc;
use std::time::Duration;

use super::CaseTerms;
use super::guests::OURS;
use crate::cable::{self, FAR, inside};
use crate::figures::percentile;
use crate::generator::frame::mac;
use crate::limits::tap;
use crate::measure::{Better, Case, Contender, Goal, Outcome, Role, Sample};
use crate::peers::Backend;
use crate::peers::ours::{Ours, Setup, Wire};
use crate::spinning::Spinning;
use crate::tcp::carrier::{FarSide, Guest, carry};
use crate::tcp::device::Device;
use crate::tcp::load::{self, Placement};
use crate::tcp::machine::{Machine, open_tap};
use crate::tcp::rings::Rings;
use crate::{Result, host};

/// The LAN machine's address.
const LAN: &str = "198.18.7.100";
/// The kernel's contenders.
const BRIDGE: &str = "tap and Linux bridge";
const MACVTAP: &str = "kernel macvtap";

/// The back-end that carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    Ours(&'static str),
    Macvtap,
    Bridge,
}

/// The programs on the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Connections(usize),
    PingPong,
}

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    // A case has four contenders; half a sample is enough of each.
    let time = terms.time / 2;
    let mut cases = Vec::new();
    for (lan, one, many, trip) in
        [(false, "TCP-1", "TCP-100", "TCP-RR"), (true, "TCP-LAN-1", "TCP-LAN-100", "TCP-LAN-RR")]
    {
        let whom = if lan { "guest to LAN" } else { "guest to guest" };
        for (id, title, load, times) in [
            (one, "one connection", Load::Connections(1), 1.37),
            (many, "100 connections", Load::Connections(100), 1.72),
            (trip, "round trip of one byte", Load::PingPong, 0.60),
        ] {
            let rate = load != Load::PingPong;
            let words = if rate { "times" } else { "times the round trip of" };
            cases.push(Case {
                id,
                title: format!("{whom}, TCP, {title}"),
                unit: if rate { "Gbit/s" } else { "us" },
                better: if rate { Better::Higher } else { Better::Lower },
                goal: Goal::new(format!("{times} {words} tap and Linux bridge"), move |outcome| {
                    let ratio = ratio(outcome)?;
                    Some(if rate { ratio >= times } else { ratio <= times })
                }),
                contenders: contenders(lan, load, time),
                conditions: CONDITIONS.to_owned(),
            });
        }
    }
    cases
}

const CONDITIONS: &str = "Each guest is a network namespace with a tap (virtio-net header, checksum and TSO offload, \
    MTU 1500). One carrier thread on processor 0 moves its frames, for all contenders: between the tap and our \
    rings, a macvtap, or a tap on a bridge. The back-end has processor 1; the programs run on both. Bytes count when \
    they have been read. The round trip is the median, p99 beside it. The kernel's devices have an advantage in \
    it: they run in the carrier's own thread, while ours is a process that wakes for each frame and \
    then wakes the carrier";

fn ratio(outcome: &Outcome) -> Option<f64> {
    Some(outcome.ratio(OURS, BRIDGE)?.median)
}

fn contenders(lan: bool, load: Load, time: Duration) -> Vec<Contender> {
    let list = [
        (OURS, Role::Ours, Via::Ours("macvlan")),
        ("this program, type=macvtap", Role::Ours, Via::Ours("macvtap")),
        (MACVTAP, Role::Peer, Via::Macvtap),
        (BRIDGE, Role::Peer, Via::Bridge),
    ];
    let contender = |(name, role, via)| {
        Contender::new(name, role, move || measure(&Scene::new(via, lan)?, load, time))
    };
    list.into_iter().map(contender).collect()
}

/// Two ends and the back-end between them. The carrier is dropped first, the namespaces last.
struct Scene {
    carrier: Spinning,
    ours: Option<Rc<Ours>>,
    guests: Vec<Machine>,
    wire: Wire,
    lan: bool,
}

impl Scene {
    fn new(via: Via, lan: bool) -> Result<Scene> {
        let wire = Wire::new(1500);
        let count = if lan { 1 } else { 2 };
        let (mut guests, mut taps) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (machine, tap) =
                Machine::new(&format!("guest{number}"), mac(number), number as u8 + 1)?;
            guests.push(machine);
            taps.push(tap);
        }
        if lan {
            wire.far.add_address(FAR, &format!("{LAN}/24"));
        }
        let mut ours = None;
        let mut devices = Vec::new();
        let mut sockets = Vec::new();
        match via {
            Via::Ours(kind) => {
                let setup = Setup { ports: count, kind, ..Setup::default() };
                let program = Ours::start(&wire, &setup)?;
                sockets = program.sockets().to_vec();
                ours = Some(Rc::new(program));
            }
            Via::Macvtap => {
                for number in 0..count {
                    let path = cable::macvtap(&wire, &format!("mv{number}"), mac(number));
                    devices.push(tap::open(&path)?);
                }
            }
            Via::Bridge => {
                cable::bridge(&wire);
                for number in 0..count {
                    let name = format!("br0p{number}");
                    devices.push(inside(&wire.host, || open_tap(&name))??);
                    wire.host.ip(&format!("link set {name} master br0 up"));
                }
            }
        }
        let carrier = Spinning::start(None, host::GENERATOR, move || {
            let far = sockets
                .iter()
                .map(|socket| Box::new(Rings::connect(socket)) as Box<dyn FarSide>)
                .chain(
                    devices.into_iter().map(|file| Box::new(Device::new(file)) as Box<dyn FarSide>),
                );
            Ok(carry(taps.into_iter().zip(far).map(|(tap, far)| Guest { tap, far }).collect()))
        })?;
        Ok(Scene { carrier, ours, guests, wire, lan })
    }

    fn ends(&self) -> Option<(Placement<'_>, Placement<'_>)> {
        let from = self.guests.first()?.place();
        let to = if self.lan {
            Placement { netns: &self.wire.far, address: LAN }
        } else {
            self.guests.get(1)?.place()
        };
        Some((from, to))
    }
}

fn measure(scene: &Scene, load: Load, time: Duration) -> Result<Sample> {
    let (from, to) = scene.ends().ok_or("a scene without two ends")?;
    let used = || scene.ours.as_ref().map(|ours| host::used(ours.pid()));
    let (before, start) = (used(), std::time::Instant::now());
    let (again, carried) = (retransmitted(from)?, scene.carrier.used());
    let mut sample = match load {
        Load::Connections(count) => {
            let value = load::stream(from, to, count, time)? * 8e-9;
            Sample { value, ..Sample::default() }
        }
        Load::PingPong => {
            let mut trips = load::pingpong(from, to, time)?;
            let mut at = |share| percentile(&mut trips, share).map(|ns| f64::from(ns) / 1e3);
            let median = at(0.5).ok_or("no byte came back")?;
            let extras = at(0.99).map(|p99| ("p99 us", p99)).into_iter().collect();
            Sample { value: median, extras, ..Sample::default() }
        }
    };
    let segments = retransmitted(from)? - again;
    sample.extras.push(("segments sent again", segments));
    sample.extras.push((
        "carrier's % of a processor",
        (scene.carrier.used() - carried) as f64 / 1e7 / start.elapsed().as_secs_f64(),
    ));
    sample.cpu_share = used()
        .zip(before)
        .map(|(after, before)| (after - before) as f64 / 1e9 / start.elapsed().as_secs_f64());
    Ok(sample)
}

/// TCP segments that a machine has sent more than once.
fn retransmitted(place: Placement<'_>) -> Result<f64> {
    let table = inside(place.netns, || std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, figures) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
    let column = names.split_whitespace().position(|name| name == "RetransSegs");
    let figure = column.and_then(|at| figures.split_whitespace().nth(at));
    Ok(figure.ok_or("the kernel does not count segments sent again")?.parse()?)
}
