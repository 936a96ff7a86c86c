//! Frames that have arrived from the uplink.
//!
//! They lie in the uplink's memory, where they stay until the next batch. Of each frame its judged
//! addresses and its receivers are kept here.

use std::time::Instant;

use crate::datapath::fanout::FrameBatch;
use crate::datapath::frame::Frame;
use crate::datapath::work_limit::BATCH;
use crate::net::ethernet::EthernetHeader;
use crate::switch;
use crate::switch::{Receivers, Stations, Table};
use crate::uplink::received::{Received, ReceivedBatch};
use crate::uplink::wire::Uplink;
use crate::virtqueue::guest_slice::GuestSlice;
use crate::virtqueue::reuse::{Family, Reused};

/// Most frames of a batch whose sources are all noted. Of more, one is, in one batch of four.
const ALL_NOTED: usize = 4;

/// A frame that has arrived, still where the kernel put it.
#[derive(Clone, Copy)]
struct Arrival<'q> {
    received: &'q Received<'q>,
    head: EthernetHeader,
    body: [GuestSlice<'q>; 1],
    to: Receivers,
}

/// Lists of [`Arrival`] that keep their memory.
struct ArrivalList;

impl Family for ArrivalList {
    type Item<'a> = Arrival<'a>;
}

/// Memory for a batch of frames that have arrived, and how many full batches there were.
pub struct ArrivalScratch {
    list: Reused<ArrivalList>,
    full: u32,
}

impl Default for ArrivalScratch {
    fn default() -> ArrivalScratch {
        ArrivalScratch { list: Reused::with_capacity(BATCH), full: 0 }
    }
}

impl ArrivalScratch {
    /// Receives a batch of at most `budget` frames. Kept are those that the switch has receivers
    /// for. The others, most of the frames of a busy LAN, go no further.
    pub(crate) fn receive<'s>(
        &'s mut self,
        uplink: &'s mut dyn Uplink,
        budget: usize,
        table: &Table,
    ) -> (Arrivals<'s>, ReceivedBatch<'s>) {
        let list = self.list.lend();
        let batch = uplink.receive(budget);
        for received in batch.frames {
            if let Some(arrival) = Arrival::new(received, table)
                && arrival.to != Receivers::None
            {
                list.push(arrival);
            }
        }
        (Arrivals { list, full: &mut self.full }, batch)
    }
}

/// A batch of frames that have arrived.
pub(crate) struct Arrivals<'q> {
    list: &'q [Arrival<'q>],
    full: &'q mut u32,
}

impl FrameBatch for Arrivals<'_> {
    fn count(&self) -> usize {
        self.list.len()
    }

    fn receivers(&self, index: usize) -> Receivers {
        self.list.get(index).map_or(Receivers::None, |arrival| arrival.to)
    }

    fn head(&self, index: usize) -> EthernetHeader {
        self.list.get(index).map(|arrival| arrival.head).unwrap_or_default()
    }

    fn flow(&self, index: usize) -> u32 {
        self.list.get(index).map_or(0, |arrival| arrival.received.hash)
    }

    fn frame(&self, index: usize) -> Option<Frame<'_>> {
        let Arrival { received, body, .. } = self.list.get(index)?;
        let Received { header, head, .. } = received;
        Some(Frame { header, head, body, len: received.len() })
    }
}

impl Arrivals<'_> {
    /// Notes the senders seen on the wire: see `switch/stations.rs`. A reflected frame has a port's
    /// own source address.
    #[inline]
    pub(crate) fn note_sources(&mut self, stations: &Stations, table: &Table, now: Instant) {
        if self.is_noted() {
            note_sources(self.list, stations, table, now);
        }
    }

    /// Whether sources of this batch are noted.
    #[inline]
    fn is_noted(&mut self) -> bool {
        if self.list.len() > ALL_NOTED {
            *self.full = self.full.wrapping_add(1);
            return self.full.is_multiple_of(4);
        }
        !self.list.is_empty()
    }

    /// Bytes of all bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.list.iter().map(|arrival| arrival.received.body.len()).sum()
    }
}

impl<'q> Arrival<'q> {
    fn new(received: &'q Received<'q>, table: &Table) -> Option<Arrival<'q>> {
        let head = EthernetHeader::of(received.head.first_chunk()?);
        let verdict = switch::from_wire(table, &head);
        let body = [GuestSlice::from(received.body)];
        Some(Arrival { received, head, body, to: verdict.to })
    }
}

#[inline(never)]
fn note_sources(arrivals: &[Arrival<'_>], stations: &Stations, table: &Table, now: Instant) {
    let first = if arrivals.len() > ALL_NOTED { arrivals.len() - 1 } else { 0 };
    for source in arrivals.iter().skip(first).map(|arrival| arrival.head.src) {
        if table.find(source).is_none() {
            stations.note(source, now);
        }
    }
}
