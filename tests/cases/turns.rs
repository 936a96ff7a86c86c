//! A worker's turns are bounded, and a worker never waits for a guest or a front-end.
//!
//! Every case has a neighbour: another port of the same process, served by the same worker
//! (`--workers 1`). Whatever the first guest or its front-end does, the neighbour loses no frame,
//! and the control side answers. Each case is tried with both port types.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;

use testkit::driver::{D_INDIRECT, D_NEXT, D_WRITE, Desc, Queue};
use testkit::frames;
use testkit::rig::{LAN_MAC, MACS, Macvlan, Macvtap, PortType, Rig, SECOND, fresh_tag};
use testkit::ring::Ring;
use testkit::vmm::{QemuOptions, req};

/// Port 0 for the deed, port 1 for the neighbour, one worker for both.
pub fn rig(ports: PortType) -> Rig {
    let mut rig = Rig::with(ports, &["--workers=1"]);
    rig.bystander();
    rig
}

pub const TYPES: [PortType; 2] = [Macvtap, Macvlan];

/// A guest's processor that makes every chain of a ring available again as fast as it is given
/// back, and kicks. It does not wait for the used index: it sees the used element before.
pub struct Storm {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Most chains that were given back with no new used index in between.
    unpublished: Arc<AtomicU64>,
}

impl Storm {
    /// Each chain of the ring begins with the descriptor of its number.
    pub fn start(queue: &Queue) -> Storm {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ring) = (Arc::clone(&stop), Ring::clone(queue));
        let kick = queue.kick.try_clone().expect("the kick descriptor, again");
        let unpublished = Arc::new(AtomicU64::new(0));
        let most = Arc::clone(&unpublished);
        let done = ring.offer_all();
        let thread = std::thread::spawn(move || {
            let (mut last, mut run) = (0, 0);
            let each = || {
                let index = ring.used_idx();
                run = if index == last { run + 1 } else { 0 };
                last = index;
                most.fetch_max(run, Ordering::Relaxed);
            };
            ring.offer_again(done, &stopped, each, || drop(kick.write(1)));
        });
        Storm { stop, thread: Some(thread), unpublished }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().expect("joined once").join();
    }
}

/// The neighbour has its network, and the process ends at SIGTERM.
pub fn unharmed(mut rig: Rig) {
    rig.unharmed();
    rig.backend.signal(Signal::SIGTERM);
    assert!(rig.backend.wait_exit(5 * SECOND).success(), "the process does not end in order");
}

const NOWHERE: u64 = 0x7f00_0000_0000;

/// Descriptors of an indirect table that a ring of 256 may have.
const TABLE: u16 = 256;

/// How the last descriptor of a chain makes all of it unusable. Those before it are right, and have
/// no bytes: so each chain keeps the worker for a while, and the guest's processor can keep up with
/// it.
fn last(case: usize, at: u64, good: u16) -> Option<(&'static str, Desc)> {
    let desc = |addr, len, flags, next| Desc { addr, len, flags, next: Some(next) };
    let all = [
        ("no bytes", desc(at, 0, good, 0)),
        ("the wrong access", desc(at, 100, good ^ D_WRITE, 0)),
        ("an address outside", desc(NOWHERE, 100, good, 0)),
        ("a loop", desc(at, 0, good | D_NEXT, 0)),
        ("a next one outside the table", desc(at, 0, good | D_NEXT, TABLE)),
        ("a table inside the table", desc(at, 16, D_INDIRECT, 0)),
    ];
    all.get(case).copied()
}

/// A ring full of each kind of them in turn, for as long as the neighbour exchanges a few frames.
fn only_unusable(ports: PortType, to_guest: bool) {
    for case in 0.. {
        let mut rig = rig(ports);
        let (vmm, driver) = rig.guest(&QemuOptions::default());
        let pair = &driver.pairs[0];
        let (ring, good) = if to_guest { (&pair.rx, D_WRITE) } else { (&pair.tx, 0) };
        let at = driver.mem.alloc(16 * u64::from(TABLE));
        let Some((what, last)) = last(case, at, good) else { break };
        for index in 0..TABLE {
            let flags = good | D_NEXT;
            let next = Desc { addr: at, len: 0, flags, next: Some(index + 1) };
            let desc = if index + 1 < TABLE { next } else { last };
            driver.mem.write(at + 16 * u64::from(index), &desc.bytes());
        }
        let whole = Desc { addr: at, len: 16 * u32::from(TABLE), flags: D_INDIRECT, next: None };
        (0..ring.size).for_each(|head| ring.write_desc(head, &whole));
        eprintln!("{ports:?}, to the guest {to_guest}: {what}");
        let storm = Storm::start(ring);
        // On a busy machine both processors are seldom there at once, but in a while they are.
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            (0..20).for_each(|_| rig.wire.try_send(&frames::tagged(MACS[0], LAN_MAC, 0, 60)));
            rig.unharmed();
        }
        let unpublished = storm.unpublished.load(Ordering::Relaxed);
        assert!(unpublished <= 600, "{what}: {unpublished} chains in one turn, none published");
        // The control side gets at the ring, and the next guest has its network.
        drop((storm, vmm, driver));
        rig.guest(&QemuOptions::default());
        unharmed(rig);
    }
}

/// Before: one delivery, or one turn, for as long as the guest went on, with the ring's lock.
/// Neighbours got 0 of 40 frames, and SIGTERM had no effect. On a busy machine the guest's
/// processor pauses and such a turn ends, so the test also counts the chains of a turn: there were
/// millions.
#[test]
fn bug_s1_receive_ring_of_unusable_chains_macvtap() {
    only_unusable(TYPES[0], true);
}

#[test]
fn bug_s1_receive_ring_of_unusable_chains_macvlan() {
    only_unusable(TYPES[1], true);
}

/// Before: bounded, but by frames. A turn read 256 chains of up to 1025 descriptors.
#[test]
fn bug_s1_transmit_ring_of_unusable_chains() {
    TYPES.iter().for_each(|&ports| only_unusable(ports, false));
}

/// An eventfd whose counter is full, so that a write to it blocks.
fn full() -> EventFd {
    let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
    eventfd.write(u64::MAX - 1).unwrap();
    eventfd
}

/// The front-end owns the open file: it can clear a flag again that the back-end has set.
fn block(eventfd: &EventFd) {
    let flags = OFlag::from_bits_retain(fcntl(eventfd, FcntlArg::F_GETFL).unwrap());
    fcntl(eventfd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).unwrap();
}

/// Before: the worker stood in the write indefinitely, with the ring's lock; neighbours got 0 of 40
/// frames, and SIGTERM had no effect.
#[test]
fn bug_s6_full_call_descriptor_that_blocks() {
    for ports in TYPES {
        let mut rig = rig(ports);
        let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
        let call = full();
        for ring in [0u64, 1] {
            vmm.tell(req::SET_VRING_CALL, &ring.to_le_bytes(), &[call.as_fd().as_raw_fd()]);
        }
        vmm.sync();
        block(&call);
        driver.pairs[0].rx.calls_on(0);
        driver.pairs[0].tx.calls_on(0);
        driver.send(0, &[frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60)]);
        rig.wire.send(&frames::tagged(MACS[0], LAN_MAC, fresh_tag(), 60));
        rig.unharmed();
        // The control side signals too: at every new call descriptor of a ring that runs.
        vmm.tell(req::SET_VRING_CALL, &0u64.to_le_bytes(), &[call.as_fd().as_raw_fd()]);
        vmm.sync();
        unharmed(rig);
    }
}

/// Before: as with the call descriptor, at the moment when the ring is stopped.
#[test]
fn bug_s6_full_error_descriptor_that_blocks() {
    for ports in TYPES {
        let mut rig = rig(ports);
        let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
        let error = full();
        for ring in [0, 1] {
            vmm.set_vring_err(ring, error.as_fd().as_raw_fd());
        }
        vmm.sync();
        block(&error);
        let tx = &mut driver.pairs[0].tx;
        tx.set_avail_idx(tx.avail_idx().wrapping_add(0x8000));
        tx.kick();
        unharmed(rig);
    }
}
