//! One frame of a batch: what is known of it, and what happens to it.
//!
//! Opened, it has a copy of the virtio-net header and of the Ethernet header; judged, it has a fate. The judged
//! copies are what leaves, whoever the receiver is: the guest may write to its own memory meanwhile. A header that
//! asks for the impossible (virtio 1.2, 5.1.6.2) or an address that is not the guest's costs the guest this frame.
//!
//! A frame may be as long as the MTU, its Ethernet header and its VLAN tags, of which one is allowed for without a look:
//! `is_skb_forwardable` does the same. The kernel's macvtap measures nothing on the way to the wire; we
//! keep a guest from sending what the LAN's MTU does not allow, but not for its tags.

use std::ops::Range;

use super::copy::{get, get_at, take_both, take_front};
use super::vnet::{self, ETHERNET, GSO_NONE, HEADER, MAX_FRAME, Verdict as Checked};
use crate::offload;
use crate::port::{MacJudgement, PortData};
use crate::stats::Drop;
use crate::switch::vlan::{self, MAX_TAGS, TAG};
use crate::switch::{self, Head, LOOK, PortId, Receivers, Table, Verdict};

/// What happens to a frame.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Not known yet.
    Undecided,
    /// It goes where the switch says.
    Go(Verdict),
    /// It is dropped.
    Drop(Drop),
}

/// One frame of a batch.
#[derive(Debug)]
pub struct Entry {
    /// The chain's id for the used ring.
    pub chain: u16,
    /// What happens to it.
    pub fate: Fate,
    /// The checked virtio-net header.
    pub(super) header: [u8; HEADER],
    /// Room for the header as the kernel wants it, then the Ethernet header.
    pub(super) front: [u8; HEADER + ETHERNET],
    /// Length of the frame without the virtio-net header, in bytes.
    pub len: usize,
    /// Its addresses.
    pub head: Head,
    /// The wire did not take it, for this reason.
    pub lost: Option<Drop>,
    /// Its pieces: one place for `front`, then what follows it in the guest's memory.
    pub(super) pieces: Range<usize>,
}

impl Entry {
    pub(super) fn new(chain: u16, fate: Fate, pieces: Range<usize>) -> Entry {
        Entry {
            chain,
            fate,
            header: [0; HEADER],
            front: [0; HEADER + ETHERNET],
            len: 0,
            head: Head::default(),
            lost: None,
            pieces,
        }
    }

    /// Copies the front of the chain and checks its lengths. `len` is that of the whole chain before.
    pub(super) fn open(&mut self, pieces: &mut [libc::iovec], header: usize) {
        let bytes = self.len;
        self.len = bytes.saturating_sub(header);
        if self.len < ETHERNET {
            self.fate = Fate::Drop(Drop::Short);
            return;
        }
        if bytes > MAX_FRAME {
            self.fate = Fate::Drop(Drop::Long);
            return;
        }
        let Some(pieces) = pieces.get_mut(self.pieces.start + 1..self.pieces.end) else { return };
        let Some(ethernet) = self.front.last_chunk_mut() else { return };
        if header == HEADER {
            take_both(pieces, &mut self.header, ethernet);
        } else {
            take_front(pieces, self.header.get_mut(..header).unwrap_or_default());
            take_front(pieces, ethernet);
        }
        self.head = Head::of(ethernet);
    }

    /// Whether it costs more than others of its length, when it was judged.
    #[inline]
    pub(super) fn is_special(&self) -> bool {
        let many = matches!(self.fate, Fate::Go(Verdict { to: Receivers::Many(_), .. }));
        many | (self.header[1] != GSO_NONE)
    }

    /// How many segments the kernel or we cut it into, about. Its header was checked.
    pub(super) fn segments(&self) -> usize {
        let [_, gso, _, _, size0, size1, ..] = self.header;
        let size = usize::from(u16::from_le_bytes([size0, size1]));
        if gso == GSO_NONE { 0 } else { self.len.checked_div(size).unwrap_or(0) }
    }

    /// Whether the switch sends it out.
    pub(super) fn is_for_the_wire(&self) -> bool {
        matches!(self.fate, Fate::Go(verdict) if verdict.wire)
    }

    /// Judges header, length and kind: whether the frame is to be segmented, or why it is dropped.
    #[inline(always)]
    fn check(
        &mut self,
        pieces: &[libc::iovec],
        port: &PortData,
        features: u64,
        longest: usize,
    ) -> Result<bool, Drop> {
        // By far the most are no longer than the MTU allows, to a station, and finished.
        if vnet::asks_for_nothing(&self.header)
            && self.len <= longest
            && !switch::may_be_link_control(&self.head)
        {
            self.header = [0; HEADER];
            return Ok(false);
        }
        self.check_closely(pieces, port, features, longest)
    }

    /// The same for any frame. Not inlined, so that the usual frames do not pay for its variables.
    #[inline(never)]
    fn check_closely(
        &mut self,
        pieces: &[libc::iovec],
        port: &PortData,
        features: u64,
        longest: usize,
    ) -> Result<bool, Drop> {
        let segmented = match vnet::check(&mut self.header, self.len, features) {
            Checked::Bad => return Err(Drop::BadHeader),
            Checked::Plain if self.len > longest && self.is_long(pieces, longest) => {
                return Err(Drop::Long);
            }
            Checked::Plain => false,
            Checked::Segmented => {
                self.mark_length(pieces);
                true
            }
        };
        if switch::may_be_link_control(&self.head)
            && port.is_guarded()
            && self.is_link_control(pieces)
        {
            return Err(Drop::LinkControl);
        }
        Ok(segmented)
    }

    /// Whether the frame concerns the cable only.
    #[cold]
    #[inline(never)]
    fn is_link_control(&self, pieces: &[libc::iovec]) -> bool {
        switch::is_link_control(&self.head, self.behind(pieces, &mut [0; LOOK]))
    }

    /// What follows the Ethernet header, as far as it is looked at. The guest may change it afterwards.
    fn behind<'a>(&self, pieces: &[libc::iovec], copy: &'a mut [u8; LOOK]) -> &'a [u8] {
        let body = pieces.get(self.pieces.start + 1..self.pieces.end).unwrap_or_default();
        let copy = copy.get_mut(..self.len.saturating_sub(ETHERNET).min(LOOK)).unwrap_or_default();
        get(body, copy);
        copy
    }

    /// Notes a wrong UDP length ([`offload::mark_length`]).
    fn mark_length(&mut self, pieces: &[libc::iovec]) {
        let body = pieces.get(self.pieces.start + 1..self.pieces.end).unwrap_or_default();
        offload::mark_length(&mut self.header, self.len, |at| {
            let mut length = [0; 2];
            get_at(body, at.saturating_sub(ETHERNET), &mut length);
            length
        });
    }

    /// Whether a frame beyond `longest` is too long with all its VLAN tags: one of them is in `longest`.
    #[cold]
    #[inline(never)]
    fn is_long(&self, pieces: &[libc::iovec], longest: usize) -> bool {
        if self.len > longest + TAG * MAX_TAGS {
            return true;
        }
        let depth = vlan::depth(self.head.ethertype, self.behind(pieces, &mut [0; LOOK]));
        self.len > longest + TAG * depth.saturating_sub(1)
    }

    /// Decides what happens to the frame where the kernel forwards: what is in order is for the device.
    pub(super) fn admit(
        &mut self,
        pieces: &[libc::iovec],
        port: &PortData,
        features: u64,
        longest: usize,
    ) -> Fate {
        match self.check(pieces, port, features, longest) {
            Err(reason) => Fate::Drop(reason),
            Ok(_) if port.judge_source(self.head.src) == MacJudgement::Foreign => {
                Fate::Drop(Drop::ForeignMac)
            }
            Ok(_) => Fate::Go(Verdict { wire: true, to: Receivers::None, why: None }),
        }
    }

    /// Decides what happens to the frame where we forward.
    pub(super) fn judge(
        &mut self,
        pieces: &[libc::iovec],
        port: &PortData,
        id: PortId,
        table: &Table,
        features: u64,
        longest: usize,
    ) -> Fate {
        let segmented = match self.check(pieces, port, features, longest) {
            Ok(segmented) => segmented,
            Err(reason) => return Fate::Drop(reason),
        };
        let source = self.head.src;
        // Judged first, so that the control side is told of a guest that wants a sibling's address.
        if !port.is_settled(source)
            && (port.judge_source(source) == MacJudgement::Foreign
                || port.is_unsettled(source) && table.is_taken(source, id))
        {
            return Fate::Drop(Drop::ForeignMac);
        }
        Fate::Go(switch::from_guest(table, id, &self.head, self.len, segmented))
    }
}
