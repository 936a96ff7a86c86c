//! P12 and P20: the cost of a thousand connected, idle guests: wakes, processor time, memory.
//!
//! What can go wrong: a process still has work to do just after a connection, and its wakes then
//! are not idleness. So the case waits a second before it counts.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::CaseTerms;
use super::guests::OURS;
use crate::crowd;
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::dpdk::Dpdk;
use crate::peers::ours::{Ours, Setup, Wire};
use crate::{Result, host};

/// Ports.
const CROWD: usize = 1000;

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    let time = terms.time;
    vec![
        Case {
            id: "P12",
            title: format!("{CROWD} connected guests that are idle: processor time"),
            unit: "% of a processor",
            better: Better::Lower,
            goal: Goal::new("5 wakes a second, 0.1 % of a processor", |outcome| {
                let ours = outcome.row(OURS)?;
                let wakes = ours.extra("wakes a second")?.median;
                Some(wakes <= 5.0 && ours.value()?.median <= 0.1)
            }),
            contenders: vec![
                Contender::new(OURS, Role::Ours, move || idle(time)),
                Contender::new("DPDK net_vhost, 2 guests", Role::Peer, move || dpdk(time)),
            ],
            conditions:
                "Processor time and voluntary context switches (wakes) of all threads, measured \
                         from one second after the last guest has connected. A process that polls \
                         never sleeps, so it has no wakes"
                    .to_owned(),
        },
        Case {
            id: "P20",
            title: "memory of an idle port with a connected guest".to_owned(),
            unit: "KiB",
            better: Better::Lower,
            goal: Goal::new("32 KiB for each port, 8 MiB for the process with one", |outcome| {
                let ours = outcome.row(OURS)?;
                let base = ours.extra("MiB with one port")?.median;
                Some(ours.value()?.median <= 32.0 && base <= 8.0)
            }),
            contenders: vec![Contender::new(OURS, Role::Ours, memory)],
            conditions: format!(
                "Resident memory without the memory shared with guests (RssAnon and RssFile of /proc/PID/status), one \
                 queue pair: {CROWD} ports with connected guests minus one port with one, divided by {}",
                CROWD - 1
            ),
        },
    ]
}

fn watch(pid: u32, time: Duration) -> Result<Sample> {
    sleep(Duration::from_secs(1));
    let (start, sleeps, used) = (Instant::now(), crowd::sleeps(pid)?, host::used(pid));
    sleep(time);
    let seconds = start.elapsed().as_secs_f64();
    Ok(Sample {
        value: (host::used(pid) - used) as f64 / 1e7 / seconds,
        extras: vec![
            ("wakes a second", (crowd::sleeps(pid)? - sleeps) / seconds),
            ("threads", crowd::threads(pid)?),
        ],
        ..Sample::default()
    })
}

fn idle(time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    let ours = Ours::start(&wire, &Setup { ports: CROWD, ..Setup::default() })?;
    let _guests = crowd::connect(ours.sockets());
    watch(ours.pid(), time)
}

fn dpdk(time: Duration) -> Result<Sample> {
    let dpdk = Dpdk::start(2, 1)?;
    let _guests = crowd::connect(dpdk.sockets());
    watch(dpdk.pid(), time)
}

fn memory() -> Result<Sample> {
    let wire = Wire::new(1500);
    let of = |ports: usize| -> Result<(f64, f64)> {
        let ours = Ours::start(&wire, &Setup { ports, ..Setup::default() })?;
        let empty = crowd::own_memory(ours.pid())?;
        let _guests = crowd::connect(ours.sockets());
        sleep(Duration::from_millis(500));
        Ok((empty, crowd::own_memory(ours.pid())?))
    };
    let ((start, one), (_, all)) = (of(1)?, of(CROWD)?);
    Ok(Sample {
        value: (all - one) / (CROWD - 1) as f64,
        extras: vec![("MiB before any guest", start / 1024.0), ("MiB with one port", one / 1024.0)],
        ..Sample::default()
    })
}
