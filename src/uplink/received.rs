//! Frames from the wire, as an uplink hands them over: a batch of them, which lies in the uplink's
//! memory.
//!
//! A batch borrows its uplink, so the uplink receives nothing while one of its frames is in use.

use std::fmt;
use std::ops::{AddAssign, Deref};

use crate::net::ethernet::ETHERNET;
use crate::net::vlan::{TAG, Tag};
use crate::net::vnet_hdr::HEADER;

/// Length of the two addresses at a frame's start, in bytes.
const ADDRESSES: usize = 12;

/// The result of one call to [`Uplink::receive`](crate::uplink::wire::Uplink::receive).
#[derive(Clone, Copy, Debug)]
pub struct ReceivedBatch<'a> {
    /// The frames, oldest first.
    pub frames: &'a [Received<'a>],
    /// True when more may wait: the batch was as long as it could be.
    pub more: bool,
}

/// A frame from the wire, as a guest should see it: `header`, then `head`, then `body`.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// `virtio_net_hdr` of virtio 1, little endian; `num_buffers` is to be filled in, and may hold
    /// a note of [`mark_length`](crate::offload::mark_length).
    pub header: [u8; HEADER],
    /// The Ethernet header, with the outermost VLAN tag if there was one.
    pub head: FrameHead,
    /// The rest of the frame, in the uplink's memory.
    pub body: &'a [u8],
    /// A hash of the frame's addresses and ports: frames of one flow have the same.
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
    /// An Ethernet header as it came, and the tag that belongs behind its addresses.
    pub fn new(ethernet: &[u8; ETHERNET], tag: Option<Tag>) -> FrameHead {
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

/// Frames from the wire that did not arrive, since the uplink was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Dropped by the kernel: too many waited.
    pub dropped: u64,
    /// Longer than 64 KiB (BIG TCP), so that only its beginning came.
    pub truncated: u64,
    /// No whole Ethernet frame, or one that the virtio-net header cannot describe (LRO, SCTP
    /// segmentation), or whose description contradicts itself.
    pub unusable: u64,
}

impl AddAssign for Losses {
    fn add_assign(&mut self, other: Losses) {
        self.dropped += other.dropped;
        self.truncated += other.truncated;
        self.unusable += other.unusable;
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Losses { dropped, truncated, unusable } = self;
        write!(f, "{dropped} buffer full, {truncated} truncated, {unusable} unusable")
    }
}
