//! Handing a batch of frames to their receivers, receiver by receiver.
//!
//! Frames of a batch may be for different ports. They are grouped first, so that every receiver is
//! locked, published and called once for all that it gets; within a receiver they keep their order. A
//! frame for many ends a group: what came before it is delivered before it, so a broadcast never
//! overtakes or falls behind (the kernel's does: it goes through a work queue).
//!
//! Only one receiver is locked at a time, so no two senders can wait for each other.

use crate::datapath::deliver::RxScratch;
use crate::datapath::flood::Flood;
use crate::datapath::forwarding_view::ForwardingView;
use crate::datapath::frame::Frame;
use crate::net::ethernet::EthernetHeader;
use crate::switch::{Receivers, Selection};
use crate::virtqueue::guest_slice::GuestSlice;

/// Frames that were decided upon.
pub trait FrameBatch {
    /// How many there are.
    fn count(&self) -> usize;
    /// Who gets frame `index`.
    fn receivers(&self, index: usize) -> Receivers;
    /// The addresses of frame `index`.
    fn head(&self, index: usize) -> EthernetHeader;
    /// What decides which of a receiver's queue pairs frame `index` is for.
    fn flow(&self, index: usize) -> u32;
    /// Frame `index`.
    fn frame(&self, index: usize) -> Option<Frame<'_>>;
}

/// Where frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A sibling, which learns by their loss that it is too fast.
    Sibling,
    /// The wire: they may wait for buffers (`rx_backlog.rs`).
    Wire,
}

/// A frame for one receiver: port and queue pair, then the frame's place in the batch.
type FanoutEntry = (usize, usize, usize);

/// Working memory.
#[derive(Default)]
pub struct Fanout {
    legs: Vec<FanoutEntry>,
    flood: Flood,
    carry: RxScratch,
}

impl Fanout {
    /// The copying half, for whoever needs its memory between two batches.
    pub fn carry(&mut self) -> &mut RxScratch {
        &mut self.carry
    }

    /// Delivers all frames. Returns how many copies were made of them, or tried.
    pub fn deliver(
        &mut self,
        view: &ForwardingView,
        parcels: &impl FrameBatch,
        from: Origin,
    ) -> usize {
        self.legs.clear();
        let mut copies = 0;
        // Frames come in runs: where the last one went is where the next one goes.
        let mut last = None;
        for index in 0..parcels.count() {
            match parcels.receivers(index) {
                Receivers::None => {}
                Receivers::One(port) => {
                    let port = usize::from(port);
                    let way = (port, parcels.flow(index));
                    let pair = match last {
                        Some((same, pair)) if same == way => pair,
                        _ => {
                            let Some(egress_port) = view.egress_ports.get(port) else { continue };
                            let pair = egress_port.pair(way.1);
                            last = Some((way, pair));
                            pair
                        }
                    };
                    self.legs.push((port, pair, index));
                    copies += 1;
                }
                Receivers::Many(selection) => {
                    self.flush(view, parcels, from);
                    copies += self.flood(view, parcels, index, selection, from);
                }
            }
        }
        self.flush(view, parcels, from);
        copies
    }

    /// Delivers what was collected for single receivers.
    fn flush(&mut self, view: &ForwardingView, parcels: &impl FrameBatch, from: Origin) {
        let same = |pair: &[FanoutEntry]| matches!(pair, [a, b] if (a.0, a.1) == (b.0, b.1));
        if !self.legs.windows(2).all(same) {
            self.legs.sort_unstable();
        }
        for group in self.legs.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let Some(&(port, pair, _)) = group.first() else { continue };
            let Some(pair) =
                view.egress_ports.get(port).and_then(|egress_port| egress_port.pairs.get(pair))
            else {
                continue;
            };
            let frames = group.iter().filter_map(|&(_, _, index)| parcels.frame(index));
            pair.deliver(frames, from, &mut self.carry, None);
        }
        self.legs.clear();
    }

    /// Delivers one frame to many. Returns to how many.
    fn flood(
        &mut self,
        view: &ForwardingView,
        parcels: &impl FrameBatch,
        index: usize,
        selection: Selection,
        from: Origin,
    ) -> usize {
        let Some(mut frame) = parcels.frame(index) else { return 0 };
        let head = parcels.head(index);
        let flat = self.flood.flat(&frame);
        let body;
        if let Some((flat, len)) = &flat {
            body = [GuestSlice::from(flat.get(..*len).unwrap_or_default())];
            frame.body = &body;
        }
        self.flood.begin(selection.receivers(&view.table, &head).count());
        let mut copies = 0;
        for port in selection.receivers(&view.table, &head) {
            let Some(egress_port) = view.egress_ports.get(usize::from(port)) else { continue };
            let Some(pair) = egress_port.pairs.get(egress_port.pair(parcels.flow(index))) else {
                continue;
            };
            let one = std::iter::once(frame);
            pair.deliver(one, from, &mut self.carry, Some(&mut self.flood));
            copies += 1;
        }
        if let Some((flat, _)) = flat {
            self.flood.give_back(flat);
        }
        copies
    }
}
