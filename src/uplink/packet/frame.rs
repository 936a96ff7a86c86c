//! One frame from the socket: checked, and put into the shape that a guest gets.
//!
//! ```text
//!   ┌ virtio_net_hdr (10) ┬ Ethernet (14) ┬ body        and beside it: the VLAN tag
//! ```
//!
//! Three things have to be put right:
//!
//! **The VLAN tag.** The kernel always takes the outermost tag out of the frame, and reports it
//! beside. A guest wants it back, priority tags (VID 0) too. The frame is then 4 bytes longer in
//! front, so `csum_start` and `hdr_len` of the virtio-net header, which count from the frame's
//! start, move along.
//!
//! **The header** is the legacy one in the host's byte order; a guest gets 12 bytes in little endian.
//! `num_buffers` is the receiver's to fill in.
//!
//! **SCTP's checksum** is not the one that F_NEEDS_CSUM stands for: `sctp.rs`.
//!
//! The kernel is trusted, but this file parses its bytes as if it were not: every offset is checked
//! against the frame, and a frame that does not fit is [`FrameRead::Unusable`].

use crate::net::vlan::{TAG, Tag};
use crate::net::vnet_hdr::{HEADER, MAX_FRAME, VIRTIO_NET_HDR_F_NEEDS_CSUM, VnetHeader};
use crate::offload;
use crate::uplink::packet::{flow, sctp};
use crate::uplink::received::{FrameHead, Received};

/// The longest frame, in bytes.
pub(crate) const LONGEST: usize = MAX_FRAME - HEADER;

/// The content of a place.
#[derive(Debug)]
pub enum FrameRead<'a> {
    /// A frame.
    Frame(Received<'a>),
    /// Only the beginning of a frame.
    Truncated,
    /// No frame, or none that could be passed on.
    Unusable,
}

/// The kernel's data in `place`: a header and a frame, `whole` or not, and a tag beside.
pub fn read(place: &mut [u8], whole: bool, tag: Option<Tag>) -> FrameRead<'_> {
    if !whole {
        return FrameRead::Truncated;
    }
    frame(place, tag).map_or(FrameRead::Unusable, FrameRead::Frame)
}

fn frame(place: &mut [u8], tag: Option<Tag>) -> Option<Received<'_>> {
    let (short, frame) = place.split_first_chunk_mut()?;
    let mut header = VnetHeader::from_ne(short);
    if header.needs_csum() {
        if header.csum_end() > frame.len() {
            return None;
        }
        if header.csum_offset == sctp::CHECKSUM {
            sctp::complete(frame.get_mut(header.csum_start.into()..)?)?;
            header.flags &= !VIRTIO_NET_HDR_F_NEEDS_CSUM;
            (header.csum_start, header.csum_offset) = (0, 0);
        }
    }
    if tag.is_some() {
        shift(&mut header, TAG as u16)?;
    }
    let (ethernet, body) = frame.split_first_chunk()?;
    let hash = flow::hash(ethernet, body);
    let head = FrameHead::new(ethernet, tag);
    let is_gso = header.is_gso();
    let mut header = header.to_le();
    if is_gso {
        mark_length(&mut header, &head, body);
    }
    Some(Received { header, head, body, hash })
}

/// Notes a wrong UDP length in the header ([`offload::mark_length`]). Apart from the frames that
/// are not segmented.
#[inline(never)]
fn mark_length(header: &mut [u8; HEADER], head: &FrameHead, body: &[u8]) {
    let len = head.len() + body.len();
    offload::mark_length(header, len, |at| {
        // UDP is behind the Ethernet header and the tag.
        let at = at.checked_sub(head.len()).and_then(|at| body.get(at..)?.first_chunk());
        at.copied().unwrap_or_default()
    });
}

/// Adapts a header to a frame that has become longer in front by so many bytes.
fn shift(header: &mut VnetHeader, by: u16) -> Option<()> {
    if header.needs_csum() {
        header.csum_start = header.csum_start.checked_add(by)?;
    }
    if header.hdr_len != 0 {
        // A hint (how much the kernel had in one piece): its largest value is as good.
        header.hdr_len = header.hdr_len.saturating_add(by);
    }
    Some(())
}

/// The number at `at`, in the host's byte order, if it is inside.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
