//! An uplink that several threads share: the workers that send over it and the control thread.

use std::io;
use std::sync::MutexGuard;

use crate::uplink::send_frame::SendFrame;
use crate::uplink::wire::Uplink;
use crate::worker::priority_mutex::PriorityMutex;
use crate::worker::task::TurnId;

/// An uplink, or none while the parent is away, and what waits for it.
#[derive(Default)]
pub(crate) struct UplinkState {
    pub(crate) uplink: Option<Box<dyn Uplink>>,
    /// Turns of the queue pairs that wait for room.
    pub(crate) waiting: Vec<TurnId>,
}

/// The same, under its lock.
#[derive(Default)]
pub(crate) struct SharedUplink(pub(crate) PriorityMutex<UplinkState>);

impl SharedUplink {
    /// Worker: the uplink, for one batch that is sent over it.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked(self.0.deliver())
    }
}

/// The uplink, while no other worker and not the control thread uses it.
pub(crate) struct Locked<'a>(MutexGuard<'a, UplinkState>);

impl Locked<'_> {
    /// As [`Uplink::send`]; none without an uplink.
    pub(crate) fn send(&mut self, frames: &mut [SendFrame<'_>]) -> Option<io::Result<usize>> {
        self.0.uplink.as_mut().map(|uplink| uplink.send(frames))
    }
}
