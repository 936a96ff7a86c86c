//! What the cutters are given, and where they put what they make.
//!
//! `segment.rs` and `fragment.rs` cut; `repair.rs` decides that and how. A cutter gets a frame that
//! has been checked, and calls [`Emit`] for each piece, in order.

use crate::net::vnet_hdr::HEADER;
use crate::offload::packet::Packet;

/// What [`repair`](crate::offload::repair()) calls for each frame: the header that the receiver sees, then
/// the frame in two parts, of which the first has at most [`HEAD`](crate::offload::HEAD) bytes.
pub type Emit<'a> = dyn FnMut(&[u8; HEADER], &[u8], &[u8]) + 'a;

/// A frame that has been checked, and how it is to be cut.
pub(crate) struct Cut<'a> {
    pub frame: &'a [u8],
    pub packet: Packet,
    /// The pseudo-header's sum for the whole, and the length that it holds.
    pub pseudo: u16,
    pub length: u16,
    /// Most payload bytes of a piece, not 0.
    pub size: usize,
    /// Whether the receiver completes checksums.
    pub partial: bool,
}
