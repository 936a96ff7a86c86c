//! P18 and P19: from the program's start to all sockets listening, and from a connection to the
//! first frame.
//!
//! The start counts from the moment when the process has become the program. The set-up of its
//! namespace and its processor before that belongs to the measurement. A socket listens when
//! `/proc/net/unix` says so; the existence of its path only shows that it is bound. Sockets are on
//! a tmpfs.
//!
//! A reconnect is counted twice: from `connect`, with a front-end that sends QEMU's whole message
//! sequence, and from the end of that sequence, which is SET_VRING_ENABLE.
//!
//! What can go wrong: the observer on the other processor reads `/proc` in a loop. A reading with a
//! thousand sockets takes a millisecond, which is part of the figure.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::CaseTerms;
use super::guests::OURS;
use super::outward::{self, await_uplink};
use crate::cable::{Counter, FAR, NOBODY, PARENT};
use crate::generator::{Frame, Guest, Shape, frame::mac};
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk_uplink::{DpdkUplink, Kind};
use crate::peers::ours::{Wire, program};
use crate::peers::process::Process;
use crate::{Result, host};
use testkit::frames::mac_text;

/// The program's name as the kernel cuts it.
const COMM: &str = "vhost-user-macv";
/// The pause between two frames that test whether the way is open.
const AGAIN: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// The cases of this file.
pub fn cases(_: &CaseTerms) -> Vec<Case> {
    let start = |id, ports: usize, goal: f64| {
        Case {
        id,
        title: format!("start of the program until {ports} sockets listen"),
        unit: "ms",
        better: Better::Lower,
        goal: Goal::new(format!("{goal} ms"), move |outcome| {
            Some(outcome.row(OURS)?.value()?.median <= goal)
        }),
        contenders: vec![Contender::new(OURS, Role::Ours, move || cold(ports))],
        conditions: "type=macvlan, one parent, sockets on a tmpfs, a --port for each; the program has one processor. \
            The files are in the page cache"
            .to_owned(),
    }
    };
    vec![
        start("P18", 1, 5.0),
        start("P18-1000", 1000, 80.0),
        Case {
            id: "P19",
            title: "reconnect: from SET_VRING_ENABLE to the first frame at the parent's far end"
                .to_owned(),
            unit: "ms",
            better: Better::Lower,
            goal: Goal::new("2 ms", |outcome| Some(outcome.row(OURS)?.value()?.median <= 2.0)),
            contenders: vec![
                Contender::new(OURS, Role::Ours, || {
                    let wire = Wire::new(1500);
                    reconnect(&wire, &outward::start(&wire, "macvlan")?)
                }),
                Contender::new("DPDK net_vhost, net_af_packet", Role::Peer, || {
                    let wire = Wire::new(1500);
                    reconnect(&wire, &DpdkUplink::start(&wire, Kind::AfPacket)?)
                }),
            ],
            conditions: format!(
                "The guest was connected before and has disconnected. It sends a frame every {} us \
                 until one arrives. The message sequence before is QEMU's, and its time is the \
                 front-end's",
                AGAIN.as_micros()
            ),
        },
    ]
}

fn cold(ports: usize) -> Result<Sample> {
    let wire = Wire::new(1500);
    let dir = tempfile::Builder::new().prefix("vum-bench-").tempdir_in("/dev/shm")?;
    let sockets: Vec<PathBuf> = (0..ports).map(|n| dir.path().join(n.to_string())).collect();
    let mut words: Vec<String> =
        ["--log-level", "warn", "--parent", PARENT, "--type", "macvlan"].map(String::from).into();
    for (number, socket) in sockets.iter().enumerate() {
        let (at, mac) = (socket.display(), mac_text(mac(number)));
        words.extend(["--port".to_owned(), format!("socket={at},name=b{number},mac={mac}")]);
    }
    let process = Process::start(&program(), &words, &host::BACKEND.to_string(), Some(&wire.host))?;
    let pid = process.pid();
    until(|| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with(COMM)))?;
    let start = Instant::now();
    let last = sockets.last().ok_or("no port")?;
    until(|| last.exists() && sockets.iter().all(|socket| socket.exists()))?;
    // The table shows the reader's namespace, and these sockets are in the program's.
    let table = format!("/proc/{pid}/net/unix");
    let here = dir.path().display().to_string();
    until(|| fs::read_to_string(&table).is_ok_and(|table| listening(&table, &here) == ports))?;
    let took = start.elapsed();
    Ok(Sample {
        value: took.as_secs_f64() * 1e3,
        extras: vec![("ms of processor time", host::used(pid) as f64 / 1e6)],
        ..Sample::default()
    })
}

/// How many sockets below this directory listen, by the text of `/proc/net/unix`.
pub fn listening(table: &str, dir: &str) -> usize {
    // __SO_ACCEPTCON, in the column of flags.
    const LISTENS: u32 = 0x10000;
    let listens = |line: &&str| {
        let flags = line.split_whitespace().nth(3).and_then(|w| u32::from_str_radix(w, 16).ok());
        flags.is_some_and(|flags| flags & LISTENS != 0) && line.contains(dir)
    };
    table.lines().filter(listens).count()
}

fn until(mut holds: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return Err("the program's sockets do not listen in time".into());
        }
    }
    Ok(())
}

fn reconnect(wire: &Wire, backend: &dyn Backend) -> Result<Sample> {
    let counter = Counter::new(&wire.far, FAR)?;
    let frame = Frame::sized(mac(0), NOBODY, 64);
    let connect = || Guest::connect(&backend.sockets()[0], &Shape::default(), Some(&frame));
    let mut guest = connect();
    await_uplink(&mut guest, &counter)?;
    drop(guest);
    std::thread::sleep(Duration::from_millis(200));
    let before = counter.received()?.frames;
    let start = Instant::now();
    let mut guest = connect();
    let enabled = Instant::now();
    let tx = guest.pairs[0].tx.as_mut().ok_or("a guest that sends nothing")?;
    let mut next = enabled;
    while counter.received()?.frames == before {
        let now = Instant::now();
        if now > start + PATIENCE {
            return Err("nothing is forwarded after the reconnect".into());
        }
        if now >= next {
            tx.reap();
            tx.send(1, 0);
            next = now + AGAIN;
        }
    }
    Ok(Sample {
        value: enabled.elapsed().as_secs_f64() * 1e3,
        extras: vec![("ms from connect", start.elapsed().as_secs_f64() * 1e3)],
        ..Sample::default()
    })
}
