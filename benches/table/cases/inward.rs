//! P6, P7, P8: from the LAN through the parent to a guest.
//!
//! One thread on the guest's processor is the LAN's sender and the guest in turns: it sends 64
//! frames by `sendmmsg` at the far end, then looks at the guest's ring. So neither waits for the
//! other's time slice, as two threads on one processor would. A window bounds the frames in flight,
//! so none need be lost. The limits are read under the same window.
//!
//! A veth's sender pays for the kernel's receive path up to the copy into the reader's ring: that
//! path runs in the sender's time. So the sender bounds the rates, and a reader's cost shows in its
//! processor time for each frame.
//!
//! What can go wrong: a lost frame would occupy the window indefinitely. If no frame has arrived
//! for 20 ms, the frames in flight count as lost.

use std::time::{Duration, Instant};

use super::CaseTerms;
use super::guests::OURS;
use super::outward::{SUPER, at_least, figure, start};
use crate::cable::{self, FAR, NOBODY, PARENT};
use crate::generator::{Frame, Guest, Shape, frame::mac};
use crate::limits::sendmmsg::Sender;
use crate::limits::tap;
use crate::limits::tpacket::{self, Version};
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk_uplink::{DpdkUplink, Kind};
use crate::peers::ours::Wire;
use crate::spinning::Spinning;
use crate::{Result, host};
use testkit::frames::Mac;

/// Frames in flight: fewer than the queue of a macvtap holds (500).
const FEW: usize = 400;
/// Frames in flight if the reader has a ring: more than a block of it holds, fewer than the ring.
const MANY: usize = 1000;
/// Super-frames in flight.
const LARGE: usize = 24;
/// Frames in flight are lost if no frame has arrived for this time.
const PATIENCE: Duration = Duration::from_millis(20);

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    // A case has many contenders: half a sample of each is enough.
    let time = terms.time / 2;
    let v3 = "TPACKET_V3 reader";
    let packet = |size: usize| {
        let mut contenders = vec![
            Contender::new(OURS, Role::Ours, move || ours("macvlan", size, MANY, time)),
            Contender::new(v3, Role::Limit, move || ring(Version::V3, size, time)),
            Contender::new("TPACKET_V2 reader", Role::Limit, move || ring(Version::V2, size, time)),
        ];
        for kind in [Kind::AfPacket, Kind::AfXdp] {
            contenders
                .push(Contender::new(kind.name(), Role::Peer, move || dpdk(kind, size, time)));
        }
        contenders
    };
    let tap = |size: usize| {
        vec![
            Contender::new(OURS, Role::Ours, move || ours("macvtap", size, FEW, time)),
            Contender::new("read loop", Role::Limit, move || read(size, FEW, time)),
        ]
    };
    let mut cases = Vec::new();
    for (id, size) in [("P6", 64), ("P7", 1514)] {
        cases.push(Case {
            id,
            title: format!("parent to guest, {size} bytes, type=macvlan"),
            unit: "Mpps",
            better: Better::Higher,
            goal: Goal::new("90 % of the TPACKET_V3 reader", move |outcome| {
                at_least(outcome, v3, 0.9)
            }),
            contenders: packet(size),
            conditions: conditions(
                MANY,
                "reads the destination of each frame, on the back-end's processor",
            ),
        });
    }
    for (id, size) in [("P6-macvtap", 64), ("P7-macvtap", 1514)] {
        cases.push(Case {
            id,
            title: format!("parent to guest, {size} bytes, type=macvtap"),
            unit: "Mpps",
            better: Better::Higher,
            goal: Goal::new("90 % of the read loop", |outcome| at_least(outcome, "read loop", 0.9)),
            contenders: tap(size),
            conditions: conditions(
                FEW,
                "one read on a macvtap for each frame, on the back-end's processor",
            ),
        });
    }
    cases.push(Case {
        id: "P8-in",
        title: format!("parent to guest, TCP super-frames of {SUPER} bytes, not segmented"),
        unit: "Gbit/s",
        better: Better::Higher,
        goal: Goal::none(),
        contenders: vec![
            Contender::new("this program, macvlan", Role::Ours, move || {
                ours("macvlan", SUPER, LARGE, time)
            }),
            Contender::new("this program, macvtap", Role::Ours, move || {
                ours("macvtap", SUPER, LARGE, time)
            }),
            Contender::new(v3, Role::Limit, move || ring(Version::V3, SUPER, time)),
            Contender::new("read loop", Role::Limit, move || read(SUPER, LARGE, time)),
        ],
        conditions: conditions(
            LARGE,
            "as in P6; the sender copies each frame into the kernel once, on its processor",
        ),
    });
    cases
}

fn conditions(window: usize, limit: &str) -> String {
    format!(
        "Sender (sendmmsg, 64 at a time) and guest take turns in one thread on the guest's processor; at most {window} \
         frames in flight; counted in the guest's ring. Limit: {limit}"
    )
}

/// Where the frames are read.
trait Receiver {
    /// Frames and bytes read so far.
    fn received(&mut self) -> (u64, u64);
}

impl Receiver for Guest {
    fn received(&mut self) -> (u64, u64) {
        let rx = &mut self.pairs[0].rx;
        rx.drain(|_| ());
        // A header of 12 bytes stands before each frame.
        (rx.frames, rx.bytes - 12 * rx.frames)
    }
}

/// A reader of whole frames of this size.
struct Reader<'a>(&'a Spinning, usize);

impl Receiver for Reader<'_> {
    fn received(&mut self) -> (u64, u64) {
        (self.0.frames(), self.0.frames() * self.1 as u64)
    }
}

fn ours(kind: &'static str, size: usize, window: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let ours = start(&wire, kind)?;
    through(&wire, &ours, size, window, time)
}

fn dpdk(kind: Kind, size: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let dpdk = DpdkUplink::start(&wire, kind)?;
    // Its rings are short.
    through(&wire, &dpdk, size, FEW, time)
}

fn through(
    wire: &Wire,
    backend: &dyn Backend,
    size: usize,
    window: usize,
    time: Duration,
) -> Result<Sample> {
    let (pid, socket) = (backend.pid(), backend.sockets()[0].clone());
    let message = message(size, mac(0));
    let sample = cable::inside(&wire.far, || {
        let mut guest = Guest::connect(&socket, &Shape::for_frames(size), None);
        flood(&message, &mut guest, size, window, time, &mut || host::used(pid))
            .map_err(|error| error.to_string())
    })?;
    Ok(sample?)
}

fn ring(version: Version, size: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let spinning = Spinning::start(Some(wire.host.name()), host::BACKEND, move || {
        tpacket::read(PARENT, version)
    })?;
    reader(&wire, &spinning, NOBODY, size, if size > 1514 { LARGE } else { MANY }, time)
}

fn read(size: usize, window: usize, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let tap = tap::open(&cable::macvtap(&wire, "plain", mac(0)))?;
    let spinning = Spinning::start(None, host::BACKEND, move || Ok(tap::read(tap)))?;
    reader(&wire, &spinning, mac(0), size, window, time)
}

fn reader(
    wire: &Wire,
    spinning: &Spinning,
    to: Mac,
    size: usize,
    window: usize,
    time: Duration,
) -> Result<Sample> {
    let message = message(size, to);
    let sample = cable::inside(&wire.far, || {
        let mut reader = Reader(spinning, size);
        flood(&message, &mut reader, size, window, time, &mut || spinning.used())
            .map_err(|error| error.to_string())
    })?;
    Ok(sample?)
}

fn message(size: usize, to: Mac) -> Vec<u8> {
    let frame = Frame::sized(NOBODY, to, size);
    // The same address twice would be a loop.
    let mut bytes = frame.bytes;
    bytes[6..12].copy_from_slice(&[0x02, 0, 0, 0xee, 0, 2]);
    [&frame.header.bytes()[..], &bytes].concat()
}

/// Sends from the calling thread's namespace, and counts received frames.
fn flood(
    message: &[u8],
    receiver: &mut dyn Receiver,
    size: usize,
    window: usize,
    time: Duration,
    meter: &mut dyn FnMut() -> u64,
) -> Result<Sample> {
    let mut sender = Sender::new(FAR, message, true)?;
    let batch = (window / 4).clamp(1, 64);
    let base = settle(&mut sender, receiver)?;
    let start = Instant::now();
    let (mut sent, mut given_up, mut progress) = (0u64, 0u64, (start, 0));
    let mut first = None;
    let last = loop {
        let (frames, bytes) = receiver.received();
        let received = frames - base;
        let now = Instant::now();
        if received != progress.1 {
            progress = (now, received);
        } else if now - progress.0 > PATIENCE {
            given_up = sent.saturating_sub(received);
            progress.0 = now;
        }
        if first.is_none() && now - start > time / 10 {
            first = Some((now, received, bytes, meter()));
        }
        if now - start > time {
            break (now, received, bytes, meter());
        }
        let under_way = sent.saturating_sub(received).saturating_sub(given_up) as usize;
        if under_way + batch <= window {
            sent += sender.send_some(batch) as u64;
        }
    };
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(30) {
        receiver.received();
    }
    let total = receiver.received().0 - base;
    let first = first.ok_or("a sample of no length")?;
    let (frames, seconds) = (last.1 - first.1, (last.0 - first.0).as_secs_f64());
    let cpu = last.3 - first.3;
    Ok(Sample {
        value: figure(size, frames, last.2 - first.2, seconds),
        cpu_each: Some(cpu as f64 / frames.max(1) as f64),
        cpu_share: Some(cpu as f64 / 1e9 / seconds),
        lost: Some(sent.saturating_sub(total) as f64 / sent.max(1) as f64),
        extras: Vec::new(),
    })
}

/// Sends single frames until one arrives, and returns how many have arrived.
fn settle(sender: &mut Sender, receiver: &mut dyn Receiver) -> Result<u64> {
    let before = receiver.received().0;
    for _ in 0..500 {
        sender.send_some(1);
        std::thread::sleep(Duration::from_millis(10));
        if receiver.received().0 > before {
            std::thread::sleep(Duration::from_millis(20));
            return Ok(receiver.received().0);
        }
    }
    Err("nothing comes from the far end of the parent".into())
}
