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

use crate::datapath::port::PortData;
use crate::datapath::port::mac_policy::MacJudgement;
use crate::net::counters::DropReason;
use crate::net::ethernet::ETHERNET;
use crate::net::ethernet::EthernetHeader;
use crate::net::vlan::{MAX_TAGS, TAG};
use crate::net::vnet_hdr::HeaderVerdict as Checked;
use crate::net::vnet_hdr::{HEADER, LEGACY_HEADER, MAX_FRAME, VnetHeader};
use crate::net::{vlan, vnet_hdr};
use crate::switch::{LOOK, PortId, Receivers, Table, Verdict};
use crate::virtqueue::chain::ChainId;
use crate::virtqueue::fetch::{Fetched, get, get_at, take_both};
use crate::virtqueue::guest_slice::GuestSlice;
use crate::{offload, switch};

/// Bytes of a message that is copied before it is sent, header included: four cache lines.
pub(crate) const SMALL: usize = 256;
/// Room for one.
pub(crate) type Small = [u8; SMALL];

/// What happens to a frame.
#[derive(Clone, Copy, Debug)]
pub enum TxAction {
    /// Not known yet.
    Undecided,
    /// It goes where the switch says.
    Go(Verdict),
    /// It is dropped.
    DropReason(DropReason),
}

/// One frame of a batch.
#[derive(Debug)]
pub struct TxFrame {
    /// Its chain, to be given back.
    pub chain: ChainId,
    /// What happens to it.
    pub fate: TxAction,
    /// The checked virtio-net header.
    pub(crate) header: [u8; HEADER],
    /// Room for the header as the kernel wants it, then the Ethernet header.
    pub(crate) front: [u8; HEADER + ETHERNET],
    /// Length of the frame without the virtio-net header, in bytes.
    pub len: usize,
    /// Its addresses.
    pub head: EthernetHeader,
    /// The wire did not take it, for this reason.
    pub lost: Option<DropReason>,
    /// Its pieces in the batch's list: what follows `front`, in the guest's memory.
    pub(crate) pieces: Range<usize>,
}

/// Copies a legacy driver's header and the Ethernet header. Apart, so that the usual frames do not pay for it.
#[cold]
#[inline(never)]
fn take_legacy<'b>(
    pieces: &mut [GuestSlice<'_>],
    header: &'b mut [u8; LEGACY_HEADER],
    ethernet: &'b mut [u8; ETHERNET],
) -> Fetched<'b, [u8; ETHERNET]> {
    take_both(pieces, header, ethernet).1
}

impl TxFrame {
    pub(crate) fn new(chain: ChainId, fate: TxAction, pieces: Range<usize>) -> TxFrame {
        TxFrame {
            chain,
            fate,
            header: [0; HEADER],
            front: [0; HEADER + ETHERNET],
            len: 0,
            head: EthernetHeader::default(),
            lost: None,
            pieces,
        }
    }

    /// Copies the front of the chain and checks its lengths. `len` is that of the whole chain before.
    pub(crate) fn open(&mut self, pieces: &mut [GuestSlice<'_>], header: usize) {
        let bytes = self.len;
        self.len = bytes.saturating_sub(header);
        if self.len < ETHERNET {
            self.fate = TxAction::DropReason(DropReason::Short);
            return;
        }
        if bytes > MAX_FRAME {
            self.fate = TxAction::DropReason(DropReason::Long);
            return;
        }
        let Some(pieces) = pieces.get_mut(self.pieces.clone()) else { return };
        let Some(ethernet) = self.front.last_chunk_mut() else { return };
        let ethernet = match (header, self.header.first_chunk_mut()) {
            (LEGACY_HEADER, Some(short)) => take_legacy(pieces, short, ethernet),
            _ => take_both(pieces, &mut self.header, ethernet).1,
        };
        self.head = EthernetHeader::of(&ethernet);
    }

    /// The frame as the kernel gets it, with the judged header in front: a small one in one piece in the next memory of
    /// `small`, others as their front, and the rest where it is. `LEN` is the length of the header.
    #[inline]
    pub(crate) fn parts<'a, const LEN: usize>(
        &'a mut self,
        pieces: &'a [GuestSlice<'a>],
        small: &mut impl Iterator<Item = &'a mut Small>,
    ) -> Option<(&'a [u8], &'a [GuestSlice<'a>])> {
        let body = pieces.get(self.pieces.clone())?;
        let front = self.front.get_mut(HEADER - LEN..)?;
        *front.first_chunk_mut::<LEN>()? = *self.header.first_chunk::<LEN>()?;
        if LEN + self.len > SMALL {
            return Some((front, body));
        }
        let whole = small.next()?.get_mut(..LEN + self.len)?;
        Some((Fetched::with_head(front, body, whole)?.into_inner(), &[]))
    }

    /// Whether it costs more than others of its length, when it was judged.
    #[inline]
    pub(crate) fn is_special(&self) -> bool {
        let many = matches!(self.fate, TxAction::Go(Verdict { to: Receivers::Many(_), .. }));
        many | VnetHeader::from_le(&self.header).is_gso()
    }

    /// How many segments the kernel or we cut it into, about. Its header was checked.
    pub(crate) fn segments(&self) -> usize {
        let header = VnetHeader::from_le(&self.header);
        let size = usize::from(header.gso_size);
        if header.is_gso() { self.len.checked_div(size).unwrap_or(0) } else { 0 }
    }

    /// Whether the switch sends it out.
    pub(crate) fn is_for_the_wire(&self) -> bool {
        matches!(self.fate, TxAction::Go(verdict) if verdict.wire)
    }

    /// Judges header, length and kind: whether the frame is to be segmented, or why it is dropped.
    #[inline(always)]
    fn check(
        &mut self,
        pieces: &[GuestSlice<'_>],
        port: &PortData,
        features: u64,
        longest: usize,
    ) -> Result<bool, DropReason> {
        // By far the most are no longer than the MTU allows, to a station, and finished.
        if vnet_hdr::asks_for_nothing(&self.header)
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
        pieces: &[GuestSlice<'_>],
        port: &PortData,
        features: u64,
        longest: usize,
    ) -> Result<bool, DropReason> {
        let segmented = match vnet_hdr::check(&mut self.header, self.len, features) {
            Checked::Bad => return Err(DropReason::BadHeader),
            Checked::Plain if self.len > longest && self.is_long(pieces, longest) => {
                return Err(DropReason::Long);
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
            return Err(DropReason::LinkControl);
        }
        Ok(segmented)
    }

    /// Whether the frame concerns the cable only.
    #[cold]
    #[inline(never)]
    fn is_link_control(&self, pieces: &[GuestSlice<'_>]) -> bool {
        switch::is_link_control(&self.head, self.behind(pieces, &mut [0; LOOK]))
    }

    /// What follows the Ethernet header, as far as it is looked at. The guest may change it afterwards.
    fn behind<'a>(&self, pieces: &[GuestSlice<'_>], copy: &'a mut [u8; LOOK]) -> &'a [u8] {
        let body = pieces.get(self.pieces.clone()).unwrap_or_default();
        let copy = copy.get_mut(..self.len.saturating_sub(ETHERNET).min(LOOK)).unwrap_or_default();
        get(body, copy).into_inner()
    }

    /// Notes a wrong UDP length ([`offload::mark_length`]).
    fn mark_length(&mut self, pieces: &[GuestSlice<'_>]) {
        let body = pieces.get(self.pieces.clone()).unwrap_or_default();
        offload::mark_length(&mut self.header, self.len, |at| {
            let mut length = [0; 2];
            get_at(body, at.saturating_sub(ETHERNET), &mut length);
            length
        });
    }

    /// Whether a frame beyond `longest` is too long with all its VLAN tags: one of them is in `longest`.
    #[cold]
    #[inline(never)]
    fn is_long(&self, pieces: &[GuestSlice<'_>], longest: usize) -> bool {
        if self.len > longest + TAG * MAX_TAGS {
            return true;
        }
        let depth = vlan::depth(self.head.ethertype, self.behind(pieces, &mut [0; LOOK]));
        self.len > longest + TAG * depth.saturating_sub(1)
    }

    /// Decides what happens to the frame where the kernel forwards: what is in order is for the device.
    pub(crate) fn admit(
        &mut self,
        pieces: &[GuestSlice<'_>],
        port: &PortData,
        features: u64,
        longest: usize,
    ) -> TxAction {
        match self.check(pieces, port, features, longest) {
            Err(reason) => TxAction::DropReason(reason),
            Ok(_) if port.macs.judge_source(self.head.src) == MacJudgement::Foreign => {
                TxAction::DropReason(DropReason::ForeignMac)
            }
            Ok(_) => TxAction::Go(Verdict { wire: true, to: Receivers::None, why: None }),
        }
    }

    /// Decides what happens to the frame where we forward.
    pub(crate) fn judge(
        &mut self,
        pieces: &[GuestSlice<'_>],
        port: &PortData,
        id: PortId,
        table: &Table,
        features: u64,
        longest: usize,
    ) -> TxAction {
        let segmented = match self.check(pieces, port, features, longest) {
            Ok(segmented) => segmented,
            Err(reason) => return TxAction::DropReason(reason),
        };
        let source = self.head.src;
        // Judged first, so that the control side gets the report of a guest that wants a sibling's
        // address.
        if !port.macs.is_settled(source)
            && (port.macs.judge_source(source) == MacJudgement::Foreign
                || port.macs.is_unsettled(source) && table.is_taken(source, id))
        {
            return TxAction::DropReason(DropReason::ForeignMac);
        }
        TxAction::Go(switch::from_guest(table, id, &self.head, self.len, segmented))
    }
}
