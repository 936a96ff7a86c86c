//! From the guest to a tap: the guest's transmit ring, where the kernel forwards.
//!
//! A turn takes batches. All frames of a batch are read and judged (`tx_batch.rs`), then each is
//! written to the tap in one system call, then the chains are marked used and the index is
//! published once. The frames are read together because their cache lines then come from the
//! guest's processor side by side, and not one by one between two system calls.
//!
//! Of the headers and addresses, the kernel gets our copy, which was judged, and not what the guest
//! may have written there since (`tx_send.rs`).
//!
//! The tap pushes back when its socket buffer is full. The batch is then cut there, the chains go
//! back into the ring and the turn ends; the next one starts when the tap is writable. No frame is
//! ever dropped for that reason. A ring that runs but is disabled must be consumed, and its frames
//! discarded (vhost-user specification, "Ring states").

use crate::datapath::port::PortData;
use crate::datapath::scratch::Scratch;
use crate::datapath::turn_end::TurnEnd;
use crate::datapath::tx_frame::TxAction;
use crate::datapath::tx_send;
use crate::datapath::work_limit::WorkLimit;
use crate::net::counters::DropReason;
use crate::net::vnet_hdr::header_len;
use crate::uplink::tap::TapQueue;
use crate::virtqueue::vring::{RingLog, Vring};

/// Runs one turn of the guest's transmit ring. With no `tap`, all its frames are dropped.
pub fn turn(
    vring: &mut Vring,
    tap: Option<&TapQueue>,
    port: &PortData,
    Scratch { batch, .. }: &mut Scratch,
    name: &dyn RingLog,
) -> TurnEnd {
    let mut budget = WorkLimit::TURN;
    if let Some(ring) = &mut vring.ring {
        ring.disable_notification();
    }
    loop {
        if budget.is_spent() {
            return TurnEnd::More;
        }
        let Vring { ring: Some(ring), counters, features, enabled, .. } = &mut *vring else {
            return TurnEnd::Idle;
        };
        let mut queue = ring.queue();
        let (mut batch, end) = batch.fill(&mut queue, *features, &mut budget);
        let device =
            if *enabled { tap.ok_or(DropReason::NoDevice) } else { Err(DropReason::Disabled) };
        match device {
            Ok(_) => batch.admit(port, *features),
            Err(reason) => batch.discard(reason),
        }
        let late = batch.limit(&mut budget, 1);
        let all = batch.entries.len();
        let cut = match device {
            Err(_) => all,
            Ok(tap) => tx_send::write(&mut batch, header_len(*features), tap),
        };
        for entry in batch.entries.iter().take(cut) {
            match (entry.fate, entry.lost) {
                (TxAction::DropReason(reason), _) | (_, Some(reason)) => counters.drop(reason),
                _ => counters.frame(entry.len),
            }
            queue.add_used(entry.chain, 0);
        }
        queue.undo_pop((all - cut + late) as u16);
        vring.publish();
        if cut < all {
            return TurnEnd::Full;
        }
        if late > 0 {
            return TurnEnd::More;
        }
        if vring.rests(end, name) {
            return TurnEnd::Idle;
        }
    }
}

#[cfg(test)]
mod tests;
