//! One frame from the socket: checked, and put into the shape that a guest gets.
//!
//! ```text
//!   ┌ virtio_net_hdr (10) ┬ Ethernet (14) ┬ body        and beside it: the VLAN tag
//! ```
//!
//! Three things have to be put right:
//!
//! **The VLAN tag.** The kernel takes the outermost tag out of the frame, whatever the NIC can do, and
//! tells it beside. A guest wants it back, priority tags (VID 0) too. The frame is then 4 bytes longer
//! in front, so `csum_start` and `hdr_len` of the virtio-net header, which count from the frame's
//! start, move along.
//!
//! **The header** is the legacy one in the host's byte order; a guest gets 12 bytes in little endian.
//! `num_buffers` is the receiver's to fill in.
//!
//! **SCTP's checksum** is not the one that F_NEEDS_CSUM stands for: `sctp.rs`.
//!
//! The kernel is trusted, but this file parses its bytes as if it were not: every offset is checked
//! against the frame, and what does not fit is [`Entry::Unusable`].

use std::ops::Deref;

use crate::net::vlan::{MAX_TAGS, TAG};
use crate::offload;
use crate::uplink::packet::{flow, sctp};

const F_NEEDS_CSUM: u8 = 1;
pub(crate) const ETHERNET: usize = 14;
const ADDRESSES: usize = 12;
/// The virtio-net header that the kernel puts in front: without `num_buffers`.
pub(crate) const SHORT_HEADER: usize = 10;
/// The longest frame, in bytes: IPv6 with 64 KiB behind its header, Ethernet and VLAN tags.
pub(crate) const LONGEST: usize = ETHERNET + MAX_TAGS * TAG + 40 + 65535;

/// A frame from the wire, as a guest should see it: `header`, then `head`, then `body`.
#[derive(Debug)]
pub struct Received<'a> {
    /// `virtio_net_hdr` of virtio 1, little endian; `num_buffers` is to be filled in, and may hold a note of
    /// [`offload::mark_length`].
    pub header: [u8; 12],
    /// The Ethernet header, with the outermost VLAN tag if there was one.
    pub head: FrameHead,
    /// What follows, where the kernel has put it.
    pub body: &'a [u8],
    /// The flow hash (`flow.rs`).
    pub hash: u32,
}

impl Received<'_> {
    /// The frame's length without the virtio-net header, in bytes.
    pub fn len(&self) -> usize {
        self.head.len().saturating_add(self.body.len())
    }

    /// Never: there is always an Ethernet header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// An Ethernet header of 14 bytes, or 18 with a VLAN tag.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    bytes: [u8; ETHERNET + TAG],
    tagged: bool,
}

impl FrameHead {
    fn new(ethernet: &[u8; ETHERNET], tag: Option<Tag>) -> FrameHead {
        let mut bytes = [0; ETHERNET + TAG];
        let (addresses, kind) = ethernet.split_at(ADDRESSES);
        let tag_bytes = tag.as_ref().map_or(&[][..], |tag| &tag.0);
        for (to, from) in bytes.iter_mut().zip(addresses.iter().chain(tag_bytes).chain(kind)) {
            *to = *from;
        }
        FrameHead { bytes, tagged: tag.is_some() }
    }
}

impl Deref for FrameHead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.tagged { &self.bytes } else { self.bytes.get(..ETHERNET).unwrap_or_default() }
    }
}

/// A VLAN tag as it stands in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag([u8; TAG]);

impl Tag {
    pub(crate) fn new(kind: u16, tci: u16) -> Tag {
        let ([a, b], [c, d]) = (kind.to_be_bytes(), tci.to_be_bytes());
        Tag([a, b, c, d])
    }
}

/// What a place holds.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    Frame(Received<'a>),
    /// Only the beginning of a frame.
    Truncated,
    /// No frame, or none that could be passed on.
    Unusable,
}

/// What the kernel has put in `place`: a header and a frame, `whole` or not, and a tag beside.
pub(crate) fn read(place: &mut [u8], whole: bool, tag: Option<Tag>) -> Entry<'_> {
    if !whole {
        return Entry::Truncated;
    }
    frame(place, tag).map_or(Entry::Unusable, Entry::Frame)
}

fn frame(place: &mut [u8], tag: Option<Tag>) -> Option<Received<'_>> {
    let (short, frame) = place.split_first_chunk_mut()?;
    let mut header = Header::read(short)?;
    if header.flags & F_NEEDS_CSUM != 0 {
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        if end > frame.len() {
            return None;
        }
        if header.csum_offset == sctp::CHECKSUM {
            sctp::complete(frame.get_mut(header.csum_start.into()..)?)?;
            header.flags &= !F_NEEDS_CSUM;
            (header.csum_start, header.csum_offset) = (0, 0);
        }
    }
    if tag.is_some() {
        header.shift(TAG as u16)?;
    }
    let (ethernet, body) = frame.split_first_chunk()?;
    let hash = flow::hash(ethernet, body);
    let head = FrameHead::new(ethernet, tag);
    let mut header = header.write();
    if header[1] != 0 {
        mark_length(&mut header, &head, body);
    }
    Some(Received { header, head, body, hash })
}

/// Notes a wrong UDP length in the header ([`offload::mark_length`]). Apart from the frames that are not segmented.
#[inline(never)]
fn mark_length(header: &mut [u8; 12], head: &FrameHead, body: &[u8]) {
    let len = head.len() + body.len();
    offload::mark_length(header, len, |at| {
        // UDP is behind the Ethernet header and the tag.
        let at = at.checked_sub(head.len()).and_then(|at| body.get(at..)?.first_chunk());
        at.copied().unwrap_or_default()
    });
}

/// A `virtio_net_hdr` in numbers.
#[derive(Debug)]
struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Header {
    fn read(bytes: &[u8; SHORT_HEADER]) -> Option<Header> {
        Some(Header {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: u16_at(bytes, 2)?,
            gso_size: u16_at(bytes, 4)?,
            csum_start: u16_at(bytes, 6)?,
            csum_offset: u16_at(bytes, 8)?,
        })
    }

    /// The frame has become longer in front by so many bytes.
    fn shift(&mut self, by: u16) -> Option<()> {
        if self.flags & F_NEEDS_CSUM != 0 {
            self.csum_start = self.csum_start.checked_add(by)?;
        }
        if self.hdr_len != 0 {
            // A hint (how much the kernel had in one piece): its largest value is as good.
            self.hdr_len = self.hdr_len.saturating_add(by);
        }
        Some(())
    }

    fn write(&self) -> [u8; 12] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, 0, 0]
    }
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
