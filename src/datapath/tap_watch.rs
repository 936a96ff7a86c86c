//! The events of its tap queue that a queue pair waits for.
//!
//! The tap is level-triggered. It is watched for input only while the guest has buffers, and for
//! output only after it pushed back; otherwise the worker would spin. Both directions and the
//! control thread change what is watched, hence the lock. It is taken when that may change, not for
//! each frame.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::datapath::scratch::Scratch;
use crate::uplink::tap::TapQueue;
use crate::worker::poller::Interest;
use crate::worker::slot::WorkerSlot;

#[derive(Default)]
struct WatchState {
    tap: Option<Arc<TapQueue>>,
    input: bool,
    output: bool,
}

/// The tap queue of a pair, as registered with its worker.
#[derive(Default)]
pub struct TapWatch(Mutex<WatchState>);

impl TapWatch {
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches another tap queue, or none; for nothing yet.
    pub fn replace(
        &self,
        slot: &WorkerSlot<Scratch>,
        tap: Option<&Arc<TapQueue>>,
    ) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(old) = state.tap.take() {
            slot.poller().remove(old.as_ref());
        }
        (state.input, state.output) = (false, false);
        let Some(new) = tap else { return Ok(()) };
        slot.poller().add(new.as_ref(), Interest::empty(), slot.ready_token())?;
        state.tap = Some(Arc::clone(new));
        Ok(())
    }

    /// Sets whether frames for the guest are waited for.
    pub fn input(&self, slot: &WorkerSlot<Scratch>, wanted: bool) {
        self.change(slot, |state| state.input = wanted);
    }

    /// Sets whether room for frames from the guest is waited for.
    pub fn output(&self, slot: &WorkerSlot<Scratch>, wanted: bool) {
        self.change(slot, |state| state.output = wanted);
    }

    /// Watches the tap for nothing.
    pub fn nothing(&self, slot: &WorkerSlot<Scratch>) {
        self.change(slot, |state| (state.input, state.output) = (false, false));
    }

    /// The tap reports an error indefinitely: it is not watched again until it is replaced.
    pub fn give_up(&self, slot: &WorkerSlot<Scratch>) {
        if let Some(tap) = &self.lock().tap {
            slot.poller().remove(tap.as_ref());
        }
    }

    fn change(&self, slot: &WorkerSlot<Scratch>, change: impl FnOnce(&mut WatchState)) {
        let mut state = self.lock();
        let before = (state.input, state.output);
        change(&mut state);
        if before == (state.input, state.output) {
            return;
        }
        let Some(tap) = &state.tap else { return };
        let mut events = Interest::empty();
        events.set(Interest::EPOLLIN, state.input);
        events.set(Interest::EPOLLOUT, state.output);
        // Fails only for one that was given up.
        let _ = slot.poller().modify(tap.as_ref(), events, slot.ready_token());
    }
}
