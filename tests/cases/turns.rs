//! A worker's turns are bounded, and a worker never waits for a guest or a front-end.
//!
//! Every case has a neighbour: another port of the same process whose guest sits with the same worker
//! (`--workers 1`). Whatever the first guest or its front-end does, the neighbour loses no frame, and the control
//! side answers. Each case is tried with both port types.

use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;

use crate::common::frames;
use crate::common::rig::{LAN_MAC, MACS, Rig, SECOND, fresh_tag};
use crate::common::vmm::{QemuOptions, req};

/// Port 0 for the deed, port 1 for the neighbour, one worker for both.
pub fn rig(kind: &str) -> Rig {
    let mut rig = Rig::with(&[kind, "--workers=1"]);
    rig.bystander();
    rig
}

pub const KINDS: [&str; 2] = ["--type=macvtap", "--type=macvlan"];

/// The neighbour has its network, and the process ends when it is told to.
pub fn unharmed(mut rig: Rig) {
    rig.unharmed();
    rig.backend.signal(Signal::SIGTERM);
    assert!(rig.backend.wait_exit(5 * SECOND).success(), "the process does not end in order");
}

/// An eventfd whose counter is full, so that a write to it blocks.
fn full() -> EventFd {
    let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
    eventfd.write(u64::MAX - 1).unwrap();
    eventfd
}

/// The front-end owns the open file: it takes away again what was set on it.
fn block(eventfd: &EventFd) {
    let flags = OFlag::from_bits_retain(fcntl(eventfd, FcntlArg::F_GETFL).unwrap());
    fcntl(eventfd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).unwrap();
}

/// Before: the worker stood in the write indefinitely, with the ring's lock; neighbours got 0 of 40 frames, and
/// SIGTERM had no effect.
#[test]
fn bug_s6_full_call_descriptor_that_blocks() {
    for kind in KINDS {
        let mut rig = rig(kind);
        let (mut vmm, mut driver) = rig.guest(&QemuOptions::default());
        let call = full();
        for ring in [0u64, 1] {
            vmm.tell(req::SET_VRING_CALL, &ring.to_le_bytes(), &[call.as_fd().as_raw_fd()]);
        }
        vmm.sync();
        block(&call);
        driver.pairs[0].rx.enable_calls();
        driver.pairs[0].tx.enable_calls();
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
    for kind in KINDS {
        let mut rig = rig(kind);
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
