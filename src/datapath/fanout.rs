//! Handing a batch of frames to their receivers, receiver by receiver.
//!
//! The frames of a batch may be for different ports. They are grouped first, so that every receiver
//! is locked, published and called once for all its frames; within a receiver they keep their
//! order. A frame for many receivers ends a group: the frames before it are delivered before it, so
//! a broadcast never overtakes them or falls behind. (In the kernel it can: there it goes through a
//! work queue.)
//!
//! Only one receiver is locked at a time, so two senders cannot wait for each other.

use crate::datapath::deliver::RxScratch;
use crate::datapath::egress::Origin;
use crate::datapath::flood::Flood;
use crate::datapath::forwarding_view::ForwardingView;
use crate::datapath::frame::Frame;
use crate::datapath::work_limit::BATCH;
use crate::net::ethernet::EthernetHeader;
use crate::switch::{Receivers, Selection};
use crate::virtqueue::guest_slice::GuestSlice;
use crate::virtqueue::reuse::{Family, Reused};

/// Frames whose receivers the switch has decided.
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

/// A frame for one receiver: port and queue, then the frame's place in the batch.
type FanoutEntry = (usize, usize, usize);

/// Lists of [`Frame`] that keep their memory.
struct FrameList;

impl Family for FrameList {
    type Item<'a> = Frame<'a>;
}

/// Working memory.
pub struct Fanout {
    entries: Vec<FanoutEntry>,
    /// The frames for one receiver.
    frames: Reused<FrameList>,
    flood: Flood,
    rx: RxScratch,
}

impl Default for Fanout {
    fn default() -> Fanout {
        Fanout {
            entries: Vec::with_capacity(BATCH),
            frames: Reused::with_capacity(BATCH),
            flood: Flood::default(),
            rx: RxScratch::default(),
        }
    }
}

impl Fanout {
    /// The copying half, for a turn that needs its memory between two batches.
    pub fn rx(&mut self) -> &mut RxScratch {
        &mut self.rx
    }

    /// Delivers all frames. Returns how many copies were made of them, or tried.
    pub fn deliver(
        &mut self,
        view: &ForwardingView,
        batch: &impl FrameBatch,
        from: Origin,
    ) -> usize {
        self.entries.clear();
        let mut copies = 0;
        // Frames come in runs: where the last one went is where the next one goes.
        let mut last = None;
        for index in 0..batch.count() {
            match batch.receivers(index) {
                Receivers::None => {}
                Receivers::One(port) => {
                    let port = usize::from(port);
                    let way = (port, batch.flow(index));
                    let queue = match last {
                        Some((same, queue)) if same == way => queue,
                        _ => {
                            let Some(egress_port) = view.egress_ports.get(port) else { continue };
                            let queue = egress_port.queue(way.1);
                            last = Some((way, queue));
                            queue
                        }
                    };
                    self.entries.push((port, queue, index));
                    copies += 1;
                }
                Receivers::Many(selection) => {
                    self.flush(view, batch, from);
                    copies += self.flood(view, batch, index, selection, from);
                }
            }
        }
        self.flush(view, batch, from);
        copies
    }

    /// Delivers what was collected for single receivers.
    fn flush(&mut self, view: &ForwardingView, batch: &impl FrameBatch, from: Origin) {
        let same = |pair: &[FanoutEntry]| matches!(pair, [a, b] if (a.0, a.1) == (b.0, b.1));
        if !self.entries.windows(2).all(same) {
            self.entries.sort_unstable();
        }
        let frames = self.frames.lend();
        for group in self.entries.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let Some(&(port, queue, _)) = group.first() else { continue };
            let Some(egress) =
                view.egress_ports.get(port).and_then(|egress_port| egress_port.queues.get(queue))
            else {
                continue;
            };
            frames.clear();
            frames.extend(group.iter().filter_map(|&(_, _, index)| batch.frame(index)));
            egress.deliver(frames, from, &mut self.rx, None);
        }
        self.entries.clear();
    }

    /// Delivers one frame to many. Returns to how many.
    fn flood(
        &mut self,
        view: &ForwardingView,
        batch: &impl FrameBatch,
        index: usize,
        selection: Selection,
        from: Origin,
    ) -> usize {
        let Some(mut frame) = batch.frame(index) else { return 0 };
        let head = batch.head(index);
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
            let Some(egress) = egress_port.queues.get(egress_port.queue(batch.flow(index))) else {
                continue;
            };
            egress.deliver(&[frame], from, &mut self.rx, Some(&mut self.flood));
            copies += 1;
        }
        if let Some((flat, _)) = flat {
            self.flood.give_back(flat);
        }
        copies
    }
}

#[cfg(test)]
mod tests;
