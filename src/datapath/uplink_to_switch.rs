//! From the uplink into the switch: what the parent has received.
//!
//! A turn takes batches: the kernel copies the frames into memory of ours (`uplink/packet`), where they
//! stay until the next batch; the table decides who gets each, and they are copied into the receivers'
//! rings. The socket is everybody's, and one guest must not hold it up: what a receiver has no buffers for
//! waits in a queue of its own, or is lost.

use std::time::Instant;

use crate::datapath::fanout::{FrameBatch, Origin};
use crate::datapath::forwarding_view::{ForwardingView, SwitchHandle};
use crate::datapath::frame::Frame;
use crate::datapath::scratch::Scratch;
use crate::datapath::work_limit::{BATCH, TURN_BYTES, TURN_FRAMES};
use crate::net::ethernet::EthernetHeader;
use crate::net::vnet_hdr::HEADER;
use crate::switch;
use crate::switch::Receivers;
use crate::uplink::packet::PacketQueue;
use crate::uplink::packet::frame::FrameHead as Front;
use crate::uplink::packet::frame::Received;
use crate::virtqueue::guest_slice::GuestSlice;
use crate::virtqueue::reuse::{Family, Reused};
use crate::worker::task::Outcome;

/// A frame that has arrived, still where the kernel put it.
#[derive(Clone, Copy)]
struct Arrival<'q> {
    header: [u8; HEADER],
    front: Front,
    head: EthernetHeader,
    body: [GuestSlice<'q>; 1],
    flow: u32,
    to: Receivers,
}

/// Lists of [`Arrival`] that keep their memory.
struct ArrivalList;

impl Family for ArrivalList {
    type Item<'a> = Arrival<'a>;
}

/// Memory for a batch of frames that have arrived, and how many full batches there were.
pub struct ArrivalScratch(Reused<ArrivalList>, u32);

impl Default for ArrivalScratch {
    fn default() -> ArrivalScratch {
        ArrivalScratch(Reused::with_capacity(BATCH), 0)
    }
}

/// A batch of frames that have arrived.
struct Arrivals<'q>(&'q [Arrival<'q>]);

impl FrameBatch for Arrivals<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn receivers(&self, index: usize) -> Receivers {
        self.0.get(index).map_or(Receivers::None, |arrival| arrival.to)
    }

    fn head(&self, index: usize) -> EthernetHeader {
        self.0.get(index).map(|arrival| arrival.head).unwrap_or_default()
    }

    fn flow(&self, index: usize) -> u32 {
        self.0.get(index).map_or(0, |arrival| arrival.flow)
    }

    fn frame(&self, index: usize) -> Option<Frame<'_>> {
        let Arrival { header, front, body, .. } = self.0.get(index)?;
        let len = front.len() + body.iter().map(|piece| piece.len()).sum::<usize>();
        Some(Frame { header, head: front, body, len })
    }
}

impl Arrivals<'_> {
    /// Whether sources of this batch are noted. `full` counts the full batches.
    #[inline]
    fn is_noted(&self, full: &mut u32) -> bool {
        if self.0.len() > ALL_NOTED {
            *full = full.wrapping_add(1);
            return full.is_multiple_of(4);
        }
        !self.0.is_empty()
    }

    fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|arrival| arrival.body.iter().map(|piece| piece.len()).sum::<usize>())
            .sum()
    }
}

impl<'q> Arrival<'q> {
    fn new(received: &Received<'q>, view: &ForwardingView) -> Option<Arrival<'q>> {
        let head = EthernetHeader::of(received.head.first_chunk()?);
        let verdict = switch::from_wire(&view.table, &head);
        Some(Arrival {
            header: received.header,
            front: received.head,
            head,
            body: [GuestSlice::from(received.body)],
            flow: received.hash,
            to: verdict.to,
        })
    }
}

/// Most frames of a batch whose sources are all noted. Of more, one is, in one batch of four.
const ALL_NOTED: usize = 4;

/// Notes who was heard on the wire: see `switch/stations.rs`. What a switch has reflected is a port's own.
#[inline(never)]
fn note_sources(
    arrivals: &[Arrival<'_>],
    switch: &SwitchHandle,
    view: &ForwardingView,
    now: Instant,
) {
    let first = if arrivals.len() > ALL_NOTED { arrivals.len() - 1 } else { 0 };
    for source in arrivals.iter().skip(first).map(|arrival| arrival.head.src) {
        if view.table.find(source).is_none() {
            switch.stations().note(source, now);
        }
    }
}

/// Runs one turn over what has arrived at a socket of this parent.
pub fn turn(
    queue: &mut PacketQueue,
    switch: &SwitchHandle,
    view: &ForwardingView,
    now: Instant,
    scratch: &mut Scratch,
) -> Outcome {
    let Scratch { arrivals, spread, .. } = scratch;
    let (mut done, mut bytes, mut budget) = (0, 0, BATCH);
    spread.carry().begin_turn();
    while done < TURN_FRAMES && bytes < TURN_BYTES {
        let list = arrivals.0.lend();
        let progress = queue.receive_batch(budget, &mut |received| {
            // What is for nobody, most of it on a busy LAN, is not carried any further.
            if let Some(arrival) = Arrival::new(&received, view)
                && arrival.to != Receivers::None
            {
                list.push(arrival);
            }
        });
        let batch = Arrivals(list);
        if batch.is_noted(&mut arrivals.1) {
            note_sources(batch.0, switch, view, now);
        }
        bytes += batch.bytes();
        let copies = spread.deliver(view, &batch, Origin::Wire);
        // A storm of broadcasts is taken in small bites: the guests want their turns too.
        budget = if copies > 4 * BATCH { BATCH / 16 } else { BATCH };
        done += copies.max(progress.frames).max(1);
        if !progress.more {
            return Outcome::Idle;
        }
    }
    Outcome::More
}
