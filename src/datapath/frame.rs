//! A frame on its way through the switch.
//!
//! The sender's header and the frame's first bytes were copied and judged. A [`Frame`] refers to
//! these private copies, and to the rest where the sender left it: in a guest's memory, or in a
//! buffer of the uplink's. The receiver copies all of it once, into its own buffers.

use crate::net::vnet_hdr::HEADER;
use crate::virtqueue::fetch::Fetched;
use crate::virtqueue::guest_slice::GuestSlice;

/// A frame on its way: its checked header, its first bytes, and the rest of it.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// What the sender says about checksum and segmentation.
    pub header: &'a [u8; HEADER],
    /// The first bytes, in our own memory: at least the Ethernet header that was judged.
    pub head: &'a [u8],
    /// The rest, in the sender's memory.
    pub body: &'a [GuestSlice<'a>],
    /// Length of head and body, in bytes.
    pub len: usize,
}

impl Frame<'_> {
    /// Makes one contiguous private copy of the frame; `None` when it is longer than the memory.
    pub fn collect<'a>(&self, into: &'a mut [u8]) -> Option<Fetched<'a>> {
        let whole = into.get_mut(..self.len)?;
        Fetched::with_head(self.head, self.body, whole)
    }
}
