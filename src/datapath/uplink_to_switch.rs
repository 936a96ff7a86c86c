//! From the uplink into the switch: what the parent has received.
//!
//! A turn takes batches (`arrivals.rs`); the table decides who gets each frame, and it is copied
//! into the receivers' rings. All ports of the parent depend on the socket, so one guest must not
//! hold it up: a frame for which a receiver has no buffers waits in a queue of the receiver's own,
//! or is lost.

use std::time::Instant;

use crate::datapath::egress::Origin;
use crate::datapath::forwarding_view::{ForwardingView, SwitchHandle};
use crate::datapath::scratch::Scratch;
use crate::datapath::work_limit::{BATCH, TURN_BYTES, TURN_FRAMES};
use crate::uplink::wire::Uplink;
use crate::worker::task::Outcome;

/// Runs one turn over what has arrived at a socket of this parent.
pub fn turn(
    uplink: &mut dyn Uplink,
    switch: &SwitchHandle,
    view: &ForwardingView,
    now: Instant,
    scratch: &mut Scratch,
) -> Outcome {
    let Scratch { arrivals, fanout, .. } = scratch;
    let (mut done, mut bytes, mut budget) = (0, 0, BATCH);
    fanout.rx().begin_turn();
    while done < TURN_FRAMES && bytes < TURN_BYTES {
        let (mut batch, received) = arrivals.receive(uplink, budget, &view.table);
        batch.note_sources(switch.stations(), &view.table, now);
        bytes += batch.bytes();
        let copies = fanout.deliver(view, &batch, Origin::Wire);
        // A storm of broadcasts is taken in small bites: the guests want their turns too.
        budget = if copies > 4 * BATCH { BATCH / 16 } else { BATCH };
        done += copies.max(received.frames.len()).max(1);
        if !received.more {
            return Outcome::Idle;
        }
    }
    Outcome::More
}
