//! Working memory of sending to the wire.
//!
//! Made once for each worker, as all of its scratch: lists that are lent empty for each batch, and room for the copies
//! of small frames. How they are used is in `tx_send.rs`.

use crate::datapath::tx_frame::{SMALL, Small};
use crate::net::counters::DropReason;
use crate::uplink::send_frame::SendScratch;
use crate::virtqueue::guest_slice::Readable;
use crate::virtqueue::reuse::Reused;

/// Working memory of sending.
pub struct WireScratch {
    /// Which of the frames for the wire it did not take, and why.
    pub(crate) lost: Vec<(usize, DropReason)>,
    pub(crate) pieces: Reused<Readable>,
    pub(crate) frames: SendScratch,
    pub(crate) small: Vec<Small>,
}

impl WireScratch {
    /// Memory for a batch of so many frames, which have so many pieces together.
    pub(crate) fn new(frames: usize, pieces: usize) -> WireScratch {
        WireScratch {
            lost: Vec::with_capacity(frames),
            pieces: Reused::with_capacity(frames + pieces),
            frames: SendScratch::new(frames),
            small: vec![[0; SMALL]; frames],
        }
    }
}
