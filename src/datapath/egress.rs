//! Where the switch can send.
//!
//! A sender hands over a batch receiver by receiver (`fanout.rs`). It knows a receiver only as an
//! [`Egress`]: a guest's queue pair today, a host port's tap or a tunnel later. An egress gets all
//! frames that a batch has for it in one call, so the indirect call is paid once for a receiver and
//! not for each frame.
//!
//! The parent's wire is no egress. It may push back, and the sender's batch is then cut there; an
//! egress never pushes back: what it cannot take it keeps for a while, or counts as lost.

use std::fmt::Debug;
use std::sync::Arc;

use crate::datapath::deliver::RxScratch;
use crate::datapath::flood::Flood;
use crate::datapath::frame::Frame;
use crate::datapath::port::PortData;

/// Where frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A sibling, which learns by their loss that it is too fast.
    Sibling,
    /// The wire: they may wait for buffers (`rx_backlog.rs`).
    Wire,
}

/// A receiver of frames.
pub trait Egress: Debug + Send + Sync {
    /// Takes frames in their order, or counts why not. The sender's worker calls this, whichever
    /// that is. With `flood`, there is one frame, which other receivers get too: what is done to it
    /// once serves all of them.
    fn deliver(
        &self,
        frames: &[Frame<'_>],
        from: Origin,
        scratch: &mut RxScratch,
        flood: Option<&mut Flood>,
    );
}

/// A port of a switch, as a sender sees it.
#[derive(Clone, Debug, Default)]
pub struct EgressPort {
    /// The port's facts; none where a port has left.
    pub port: Option<Arc<PortData>>,
    /// Where its frames go: one for each queue pair.
    pub queues: Vec<Arc<dyn Egress>>,
}

impl EgressPort {
    /// Which queue a flow goes to: one that can receive, if there is any. With none, the first
    /// counts why the frame was dropped.
    pub fn queue(&self, flow: u32) -> usize {
        let mut mask = self.port.as_ref().map_or(0, |port| port.receiving());
        let count = mask.count_ones();
        if count < 2 {
            // None is 0 too.
            return mask.trailing_zeros() as usize & 31;
        }
        for _ in 0..flow % count {
            mask &= mask - 1;
        }
        mask.trailing_zeros() as usize
    }
}
