//! A loop over guests: each receives the frames that have arrived, and sends as many as it may.
//!
//! A *window* bounds what a guest may send: the frames that the back-end holds of it at a time. A
//! case may also set a rate. With a window of half the receiver's ring no frame need be dropped, so
//! the case counts what the back-end can carry. Frames leave in bursts, as from a guest whose
//! driver works in bursts. A guest with room for less waits until a burst fits.
//!
//! A *polling* guest never sleeps and asks for no calls. A *sleeping* one asks for calls when it is
//! idle, and waits for them, as a kernel does.
//!
//! A sample has four parts. The warm-up takes a tenth or longer, until as many frames have arrived
//! as there are buffers: a back-end that touches a guest's page for the first time waits for the
//! kernel to map it. Then come the measured time, a quiet moment in which the frames in flight
//! arrive, and the sums. Frames that were sent and never arrived are drops, wherever they were
//! lost.
//!
//! What can go wrong: one processor carries all guests. If it is the bottleneck, it bounds the
//! rate. The report shows what the same loop reaches with a plain copy behind it (limits/).

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::guest::{Guest, Shape};
use super::transmit::HEADER;
use crate::Result;

/// The time in which frames in flight must arrive.
const QUIET: Duration = Duration::from_millis(30);
/// The time in which guests must use all their buffers once.
const WARM: Duration = Duration::from_secs(5);

/// The offset of the last byte of the sender's address in a frame.
const SENDER: usize = 11;

/// A plan for sending.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The whole time without the quiet moment.
    pub time: Duration,
    /// Frames of a queue pair that may be in flight.
    pub window: usize,
    /// Frames of a burst.
    pub burst: usize,
    /// Frames per second of all guests together; `None`: full rate.
    pub rate: Option<f64>,
    /// Whether idle guests sleep.
    pub sleeping: bool,
}

impl Plan {
    /// As fast as they can, polling. What is in flight of frames of this size fills half of a ring
    /// of 256 buffers, and a quarter of that leaves at a time: 128 and 32 for frames that fit one
    /// buffer.
    pub fn flood(time: Duration, size: usize) -> Plan {
        let buffers = (HEADER + size).div_ceil(Shape::for_frames(size).buffer as usize);
        let window = (128 / buffers).max(1);
        Plan { time, window, burst: window.div_ceil(4), rate: None, sleeping: false }
    }

    /// The same plan in words, for the report.
    pub fn words(&self) -> String {
        let rate =
            self.rate.map_or("at full rate".to_owned(), |rate| format!("{rate} frames a second"));
        let guests = if self.sleeping { "sleep when idle" } else { "poll" };
        let (window, burst) = (self.window, self.burst);
        format!(
            "{rate}, at most {window} frames of a queue pair in flight, bursts of {burst}, guests {guests}"
        )
    }
}

/// The counts of the measured time; drops count over the whole time.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Seconds measured.
    pub seconds: f64,
    /// Frames received by all guests.
    pub received: u64,
    /// Frames sent by all guests.
    pub sent: u64,
    /// Bytes received with headers.
    pub bytes: u64,
    /// Eventfd writes by the guests.
    pub kicks: u64,
    /// Eventfd writes by the back-end.
    pub calls: u64,
    /// The meter's count: nanoseconds of the back-end's processor time.
    pub cpu: u64,
    /// Frames sent over the whole time.
    pub offered: u64,
    /// Frames received over the whole time, the quiet moment included.
    pub arrived: u64,
    /// Frames that were sent and never received, for frames with one receiver.
    pub lost: u64,
    /// Frames received by each guest in the measured time.
    pub each: Vec<u64>,
    /// Frames received over the whole time, by the last byte of the sender's address.
    pub from: Vec<u64>,
}

impl Count {
    /// Frames received per second.
    pub fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    /// Nanoseconds of processor time for each frame received.
    pub fn cpu_each(&self) -> f64 {
        self.cpu as f64 / self.received.max(1) as f64
    }

    /// Gigabits per second of the frames, without the headers of the ring.
    pub fn gigabits(&self) -> f64 {
        let bytes = self.bytes.saturating_sub(HEADER as u64 * self.received);
        bytes as f64 * 8.0 / 1e9 / self.seconds
    }

    /// The frames of each of the first guests that arrived over the whole time.
    pub fn senders(&self, guests: usize) -> Vec<u64> {
        self.from.iter().take(guests).copied().collect()
    }

    /// The share of a processor that was used, 0 to 1.
    pub fn cpu_share(&self) -> f64 {
        self.cpu as f64 / 1e9 / self.seconds
    }
}

struct Sums {
    at: Instant,
    received: Vec<u64>,
    sent: u64,
    bytes: u64,
    kicks: u64,
    calls: u64,
    cpu: u64,
}

/// Runs the guests; `meter` returns processor time in nanoseconds.
///
/// # Errors
/// Waiting for calls failed.
pub fn run(guests: &mut [Guest], plan: &Plan, meter: &mut dyn FnMut() -> u64) -> Result<Count> {
    let before = totals(guests);
    let bed = if plan.sleeping { Some(bed(guests)?) } else { None };
    let start = Instant::now();
    let warm = start + plan.time / 10;
    let buffers = before.0 + posted(guests);
    let mut end = start + plan.time + WARM;
    let mut first: Option<Sums> = None;
    let mut calls = 0;
    let mut from = vec![0; 256];
    let mut credit = 0.0;
    let mut then = start;
    loop {
        let now = Instant::now();
        let warmed = || totals(guests).0 >= buffers || now >= start + WARM;
        if first.is_none() && now >= warm && warmed() {
            end = now + plan.time * 9 / 10;
            calls += take_calls(guests);
            first = Some(sums(guests, calls, meter));
        }
        if now >= end {
            break;
        }
        if let Some(rate) = plan.rate {
            credit = f64::min(
                credit + rate * (now - then).as_secs_f64(),
                (plan.burst * guests.len() * 4) as f64,
            );
            then = now;
        }
        let mut moved = 0;
        for guest in &mut *guests {
            for pair in &mut guest.pairs {
                moved += pair.rx.drain(|eyes| from[usize::from(eyes[SENDER])] += 1);
                let Some(tx) = &mut pair.tx else { continue };
                tx.reap();
                let room = plan.window.saturating_sub(tx.out());
                if room < plan.burst.min(plan.window) {
                    continue;
                }
                let allowed = if plan.rate.is_some() { credit as usize } else { room };
                if allowed >= plan.burst.min(plan.window) {
                    let sent = tx.send(room.min(plan.burst), moved as u64);
                    credit -= sent as f64;
                    moved += sent;
                }
            }
        }
        if let (0, Some(bed)) = (moved, &bed) {
            sleep(guests, bed)?;
        }
    }
    calls += take_calls(guests);
    let last = sums(guests, calls, meter);
    let quiet = Instant::now() + QUIET;
    while Instant::now() < quiet {
        for pair in guests.iter_mut().flat_map(|guest| &mut guest.pairs) {
            pair.rx.drain(|_| ());
            if let Some(tx) = &mut pair.tx {
                tx.reap();
            }
        }
    }
    let after = totals(guests);
    let (arrived, offered) = (after.0 - before.0, after.1 - before.1);
    let first = first.ok_or("a sample of no length")?;
    let each: Vec<u64> = last.received.iter().zip(&first.received).map(|(l, f)| l - f).collect();
    Ok(Count {
        seconds: (last.at - first.at).as_secs_f64(),
        received: each.iter().sum(),
        sent: last.sent - first.sent,
        bytes: last.bytes - first.bytes,
        kicks: last.kicks - first.kicks,
        calls: last.calls - first.calls,
        cpu: last.cpu.saturating_sub(first.cpu),
        offered,
        arrived,
        lost: offered.saturating_sub(arrived),
        each,
        from,
    })
}

/// Buffers of the guests that expect frames.
fn posted(guests: &[Guest]) -> u64 {
    guests.iter().flat_map(|guest| &guest.pairs).map(|pair| u64::from(pair.rx.ring.out())).sum()
}

fn totals(guests: &[Guest]) -> (u64, u64) {
    guests.iter().map(Guest::moved).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn sums(guests: &[Guest], calls: u64, meter: &mut dyn FnMut() -> u64) -> Sums {
    let pairs = || guests.iter().flat_map(|guest| &guest.pairs);
    let tx = || pairs().flat_map(|pair| &pair.tx);
    Sums {
        at: Instant::now(),
        received: guests.iter().map(|guest| guest.moved().0).collect(),
        sent: tx().map(|tx| tx.sent).sum(),
        bytes: pairs().map(|pair| pair.rx.bytes).sum(),
        kicks: pairs().map(|p| p.rx.ring.kicks).chain(tx().map(|tx| tx.ring.kicks)).sum(),
        calls,
        cpu: meter(),
    }
}

/// The calls of all rings; read only rarely, because that is a system call.
fn take_calls(guests: &mut [Guest]) -> u64 {
    let pairs = guests.iter_mut().flat_map(|guest| &mut guest.pairs);
    pairs.map(|pair| pair.rx.ring.calls() + pair.tx.as_mut().map_or(0, |tx| tx.ring.calls())).sum()
}

/// The wait of a sleeping guest: all call eventfds, edge-triggered, so they need not be read.
fn bed(guests: &[Guest]) -> Result<Epoll> {
    let bed = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for pair in guests.iter().flat_map(|guest| &guest.pairs) {
        for fd in [Some(pair.rx.ring.call_fd()), pair.tx.as_ref().map(|tx| tx.ring.call_fd())] {
            let Some(fd) = fd else { continue };
            // SAFETY: the eventfd belongs to a guest that outlives this epoll.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.as_raw_fd()) };
            bed.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
        }
    }
    Ok(bed)
}

/// Asks for calls, looks once more, and waits for the first. A transmit ring calls when three
/// quarters are back, as Linux has it.
fn sleep(guests: &mut [Guest], bed: &Epoll) -> Result<()> {
    let mut ready = false;
    for pair in guests.iter_mut().flat_map(|guest| &mut guest.pairs) {
        pair.rx.ring.calls_on(0);
        ready |= pair.rx.ring.ready() > 0;
        if let Some(tx) = &mut pair.tx {
            let (out, back) = (tx.ring.out(), tx.ring.ready());
            tx.ring.calls_on(out.saturating_mul(3) / 4);
            ready |= tx.ring.ready() > back;
        }
    }
    if !ready {
        let mut events = [EpollEvent::empty(); 64];
        bed.wait(&mut events, EpollTimeout::from(10u8))?;
    }
    for pair in guests.iter_mut().flat_map(|guest| &mut guest.pairs) {
        pair.rx.ring.calls_off();
        if let Some(tx) = &mut pair.tx {
            tx.ring.calls_off();
        }
    }
    Ok(())
}
