//! From the guest into the switch: the guest's transmit ring, where we forward.
//!
//! A turn takes batches. All frames of a batch are read and decided upon (`tx_batch.rs`). Those for
//! the wire leave in one `sendmmsg`, then those for siblings are copied into the siblings' rings
//! (`fanout.rs`), then the chains are marked used and the index is published once.
//!
//! The wire comes first because it may push back. The batch is then cut before the first frame that
//! the wire did not take, and the rest, siblings' frames included, goes back into the ring as if it
//! had never been read. The same happens to frames that would make the turn too long: a broadcast
//! counts as many frames as there are ports, so that a guest that floods gets no more of the
//! worker's time than another one. So no frame leaves twice, none is lost for lack of room, and
//! chains complete in order.

use crate::datapath::attachment::Attachment;
use crate::datapath::egress::Origin;
use crate::datapath::fanout::FrameBatch;
use crate::datapath::frame::Frame;
use crate::datapath::port::PortData;
use crate::datapath::scratch::Scratch;
use crate::datapath::turn_end::TurnEnd;
use crate::datapath::tx_batch::TxBatch;
use crate::datapath::tx_frame::TxAction;
use crate::datapath::tx_send;
use crate::datapath::work_limit::WorkLimit;
use crate::net::counters::DropReason;
use crate::net::ethernet::EthernetHeader;
use crate::switch;
use crate::switch::{Groups, Membership, Receivers};
use crate::virtqueue::fetch::Fetched;
use crate::virtqueue::vring::{BatchEnd, RingLog, Vring};

/// What is looked at of a membership report, in bytes: a frame of the usual MTU.
const REPORT: usize = 1518;

/// The frames of a batch that go their way, and the queue pair that they come from.
struct Sent<'a> {
    batch: &'a TxBatch<'a>,
    count: usize,
    flow: u32,
}

impl FrameBatch for Sent<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn receivers(&self, index: usize) -> Receivers {
        match self.batch.entries.get(index).map(|entry| &entry.fate) {
            Some(TxAction::Go(verdict)) => verdict.to,
            _ => Receivers::None,
        }
    }

    fn head(&self, index: usize) -> EthernetHeader {
        self.batch.entries.get(index).map(|entry| entry.head).unwrap_or_default()
    }

    /// A guest keeps a flow on one of its queues, and so do we.
    #[inline]
    fn flow(&self, _index: usize) -> u32 {
        self.flow
    }

    fn frame(&self, index: usize) -> Option<Frame<'_>> {
        self.batch.entries.get(index).and_then(|entry| self.batch.frame(entry))
    }
}

/// Notes which multicast groups a guest joins and leaves by this frame, if it is a report.
fn note_groups(groups: &Groups, frame: &Frame<'_>, whole: &mut [u8]) {
    let Some(copy) = whole.get_mut(..frame.len.min(REPORT)) else { return };
    let Some(copy) = Fetched::with_head(frame.head, frame.body, copy) else { return };
    switch::memberships(&copy, |membership| match membership {
        Membership::Join(group) => groups.join(group),
        Membership::Leave(group) => groups.leave(group),
    });
}

/// Runs one turn of queue pair `index`'s transmit ring. The ring is enabled and runs. With
/// `busy_poll` the guest is not asked to kick at the end.
pub fn turn(
    vring: &mut Vring,
    attachment: &Attachment,
    port: &PortData,
    index: u16,
    busy_poll: bool,
    scratch: &mut Scratch,
    name: &dyn RingLog,
) -> TurnEnd {
    let view = attachment.switch.view();
    let mut budget = WorkLimit::TURN;
    let mut moved = false;
    scratch.fanout.rx().begin_turn();
    if let Some(ring) = &mut vring.ring {
        ring.disable_notification();
    }
    loop {
        if budget.is_spent() {
            return TurnEnd::More;
        }
        let Vring { ring: Some(ring), counters, features, .. } = &mut *vring else {
            return TurnEnd::Idle;
        };
        let Scratch { batch, fanout, .. } = scratch;
        let mut queue = ring.queue();
        let (mut batch, end) = batch.fill(&mut queue, *features, &mut budget);
        batch.judge(port, attachment.port, &view.table, *features);
        let late = batch.limit(&mut budget, view.table.len());
        let cut = tx_send::send(&mut batch, attachment.uplink_queue.shared());
        let all = batch.entries.len();
        moved |= all > 0;
        if let Some(groups) = &attachment.groups {
            let whole = &mut fanout.rx().whole;
            for entry in batch.entries.iter().take(cut) {
                if matches!(entry.fate, TxAction::Go(_)) && switch::worth_a_look(&entry.head) {
                    batch.frame(entry).iter().for_each(|frame| note_groups(groups, frame, whole));
                }
            }
        }
        let sent = Sent { batch: &batch, count: cut, flow: u32::from(index) };
        fanout.deliver(&view, &sent, Origin::Sibling);
        for entry in batch.entries.iter().take(cut) {
            match &entry.fate {
                TxAction::Go(verdict) => match (entry.lost, verdict.why) {
                    (None, None) => counters.frame(entry.len),
                    (Some(reason), _) => counters.drop(reason),
                    (None, Some(_)) => counters.drop(DropReason::NotForwarded),
                },
                TxAction::DropReason(reason) => counters.drop(*reason),
                TxAction::Undecided => {}
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
        if end == BatchEnd::Empty && busy_poll {
            return TurnEnd::Polling { moved };
        }
        if vring.rests(end, name) {
            return TurnEnd::Idle;
        }
    }
}

#[cfg(test)]
mod tests;
