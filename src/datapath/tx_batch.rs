//! A batch of frames from one guest, taken apart before any of them is moved.
//!
//! Looking at all frames first and copying afterwards lets the misses of one frame's descriptor, header
//! and buffer overlap with the next one's, and lets a receiver be locked once for all that is for it.
//!
//! Every frame's virtio-net header and Ethernet header are copied and judged (`tx_frame.rs`), and used from there.
//! Chains complete in order, so an entry stays in the batch even when its frame is dropped.

use crate::datapath::frame::Frame;
use crate::datapath::port::PortData;
use crate::datapath::tx_frame::{TxAction, TxFrame};
use crate::datapath::wire_scratch::WireScratch;
use crate::datapath::work_limit::{BATCH, WorkLimit};
use crate::net::counters::DropReason;
use crate::net::ethernet::ETHERNET;
use crate::net::vnet_hdr;
use crate::net::vnet_hdr::{HEADER, MAX_FRAME};
use crate::switch::{PortId, Receivers, Table, Verdict};
use crate::virtqueue::chain::{ChainId, Popped};
use crate::virtqueue::copy::prefetch;
use crate::virtqueue::fetch::get;
use crate::virtqueue::guest_slice::{GuestSlice, Readable};
use crate::virtqueue::reuse::Reused;
use crate::virtqueue::ring::Queue;
use crate::virtqueue::vring::BatchEnd;

/// Room for the pieces of a batch. A chain may have as many as its ring is long, each split once.
const PIECES: usize = 8192;
/// Most pieces the kernel takes in one message (`UIO_MAXIOV`).
const IOV_MAX: usize = 1024;

/// Working memory of a batch.
pub struct TxScratch {
    entries: Vec<TxFrame>,
    pieces: Reused<Readable>,
    /// For the one frame of a batch that lies in more pieces than the kernel takes.
    spill: Vec<u8>,
    pub(crate) send: WireScratch,
}

impl Default for TxScratch {
    fn default() -> TxScratch {
        TxScratch {
            entries: Vec::with_capacity(BATCH),
            pieces: Reused::with_capacity(PIECES),
            spill: vec![0; MAX_FRAME],
            send: WireScratch::new(BATCH, PIECES),
        }
    }
}

/// A batch of frames, whose pieces borrow the ring that they were taken from.
pub struct TxBatch<'s> {
    /// The frames, in the order in which they were sent.
    pub entries: &'s mut Vec<TxFrame>,
    pub(crate) pieces: &'s mut Vec<GuestSlice<'s>>,
    pub(crate) send: &'s mut WireScratch,
    /// A frame lies in more pieces than the kernel takes.
    spilt: bool,
    /// Bytes of the chains.
    bytes: usize,
    /// A frame of it costs more than others of its length.
    special: bool,
}

impl TxScratch {
    /// Takes frames from the ring, until they use up the budget of frames, bytes or descriptors, and copies
    /// the front of each. The descriptors are charged. Returns why it ended.
    pub fn fill<'s>(
        &'s mut self,
        queue: &mut Queue<'s>,
        features: u64,
        budget: &mut WorkLimit,
    ) -> (TxBatch<'s>, BatchEnd) {
        let TxScratch { entries, pieces, spill, send } = self;
        entries.clear();
        let pieces = pieces.lend();
        let mut batch = TxBatch { entries, pieces, send, spilt: false, bytes: 0, special: false };
        let before = queue.read_since(0);
        let end = batch.take(queue, *budget);
        budget.descriptors = budget.descriptors.saturating_sub(queue.read_since(before));
        // In a loop of its own: it does little but wait for lines that the guest's processor has, and the
        // closer those loads stand the more of them are under way at a time.
        let header = vnet_hdr::header_len(features);
        for entry in batch.entries.iter_mut() {
            if let TxAction::Undecided = entry.fate {
                entry.open(batch.pieces, header);
            }
        }
        if batch.spilt {
            batch.join(spill);
        }
        (batch, end)
    }
}

impl<'s> TxBatch<'s> {
    /// Takes chains from the ring.
    fn take(&mut self, queue: &mut Queue<'s>, budget: WorkLimit) -> BatchEnd {
        let longest = 2 * usize::from(queue.size());
        let before = queue.read_since(0);
        let (most, room) = (budget.frames.min(BATCH), budget.bytes);
        let mut bytes = 0;
        loop {
            let TxBatch { entries, pieces, .. } = self;
            queue.pop_single(|chain, piece: GuestSlice<'s>| {
                let full = entries.len() >= most || bytes >= room;
                if full || pieces.len() == pieces.capacity() {
                    return false;
                }
                let first = pieces.len();
                prefetch(piece);
                pieces.push(piece);
                entries.push(TxFrame::new(chain, TxAction::Undecided, first..first + 1));
                if let Some(entry) = entries.last_mut() {
                    entry.len = piece.len();
                }
                bytes += piece.len();
                true
            });
            self.bytes = bytes;
            if entries.len() >= most
                || bytes >= room
                || pieces.capacity() - pieces.len() < longest
                || queue.read_since(before) >= budget.descriptors
            {
                break;
            }
            let first = self.pieces.len();
            match queue.pop(1, u32::MAX, self.pieces) {
                Popped::Empty => return BatchEnd::Empty,
                Popped::Costly => break,
                Popped::Broken(fault) => return BatchEnd::Broken(fault),
                Popped::Bad(id) => self.add(id, TxAction::DropReason(DropReason::BadChain), first),
                Popped::Chain(chain) => {
                    if chain.pieces >= IOV_MAX && std::mem::replace(&mut self.spilt, true) {
                        queue.undo_pop(1);
                        break;
                    }
                    self.add(chain.id, TxAction::Undecided, first);
                    if let Some(entry) = self.entries.last_mut() {
                        entry.len = chain.bytes;
                    }
                    bytes += chain.bytes;
                }
            }
        }
        BatchEnd::Full
    }

    /// Joins the pieces of the one entry that has too many in the spill buffer.
    fn join(&mut self, spill: &'s mut [u8]) {
        let long = |entry: &&mut TxFrame| entry.pieces.len() >= IOV_MAX;
        let Some(entry) = self.entries.iter_mut().find(long) else { return };
        let Some(body) = self.pieces.get_mut(entry.pieces.clone()) else { return };
        let rest = entry.len.saturating_sub(ETHERNET).min(spill.len());
        let Some(spill) = spill.get_mut(..rest) else { return };
        let whole = GuestSlice::from(&*get(body, spill).into_inner());
        if let Some(first) = body.first_mut() {
            *first = whole;
        }
        entry.pieces = entry.pieces.start..entry.pieces.start + 1;
    }

    fn add(&mut self, chain: ChainId, fate: TxAction, first: usize) {
        self.entries.push(TxFrame::new(chain, fate, first..self.pieces.len()));
    }

    /// Decides what happens to each frame where the kernel forwards.
    pub fn admit(&mut self, port: &PortData, features: u64) {
        let longest = port.longest_frame();
        self.decide(|entry, pieces| entry.admit(pieces, port, features, longest));
    }

    /// Decides what happens to each frame where we forward.
    pub fn judge(&mut self, port: &PortData, id: PortId, table: &Table, features: u64) {
        let longest = port.longest_frame();
        self.decide(|entry, pieces| entry.judge(pieces, port, id, table, features, longest));
    }

    /// Drops what is not dropped already.
    pub fn discard(&mut self, reason: DropReason) {
        self.decide(|_, _| TxAction::DropReason(reason));
    }

    #[inline]
    fn decide(&mut self, mut fate: impl FnMut(&mut TxFrame, &[GuestSlice<'_>]) -> TxAction) {
        let mut special = false;
        for entry in self.entries.iter_mut() {
            if let TxAction::Undecided = entry.fate {
                entry.fate = fate(entry, self.pieces);
                special |= entry.is_special();
            }
        }
        self.special = special;
    }

    /// Leaves so many frames in the batch as the budget has room for, but at least one, and charges them; one for
    /// many receivers counts `flood` times. Returns how many were put out, to go back into the ring.
    pub fn limit(&mut self, budget: &mut WorkLimit, flood: usize) -> usize {
        if !self.special {
            // What counts once was taken by the budget.
            budget.charge(self.entries.len(), self.bytes, 0);
            return 0;
        }
        let mut keep = 0;
        for entry in self.entries.iter() {
            if keep > 0 && budget.frames_are_spent() {
                break;
            }
            let copies = match entry.fate {
                TxAction::Go(Verdict { to: Receivers::Many(_), .. }) => flood.max(1),
                _ => 1,
            };
            budget.charge(copies, entry.len * copies, entry.segments() * copies);
            keep += 1;
        }
        let out = self.entries.len() - keep;
        self.entries.truncate(keep);
        out
    }

    /// An entry as a frame to be delivered.
    pub fn frame<'a>(&'a self, entry: &'a TxFrame) -> Option<Frame<'a>> {
        let head = entry.front.get(HEADER..)?;
        let body = self.pieces.get(entry.pieces.clone())?;
        Some(Frame { header: &entry.header, head, body, len: entry.len })
    }
}
