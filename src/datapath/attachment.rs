//! A port's place in its parent's switch.

use std::io;
use std::sync::Arc;

use crate::datapath::egress::Origin;
use crate::datapath::fanout::{Fanout, FrameBatch};
use crate::datapath::forwarding_view::SwitchHandle;
use crate::datapath::frame::Frame;
use crate::datapath::uplink_queue::UplinkQueue;
use crate::net::ethernet::EthernetHeader;
use crate::net::vnet_hdr::HEADER;
use crate::switch;
use crate::switch::{Groups, PortId, Receivers};

/// Where a queue pair is attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The parent's ports.
    pub switch: Arc<SwitchHandle>,
    /// Which of them this is.
    pub port: PortId,
    /// The way out, at the pair's own worker.
    pub uplink_queue: Arc<UplinkQueue>,
    /// The multicast groups that the guest has joined, where they matter.
    pub groups: Option<Arc<Groups>>,
}

impl Attachment {
    /// Sends one frame (without header) as if the guest had, from the control side.
    ///
    /// # Errors
    /// The parent is not there or does not take it; siblings got it all the same.
    pub fn inject(&self, frame: &[u8]) -> io::Result<()> {
        let Some(ethernet) = frame.first_chunk() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let view = self.switch.view();
        let head = EthernetHeader::of(ethernet);
        let verdict = switch::from_guest(&view.table, self.port, &head, frame.len(), false);
        let single = Single { frame, head, to: verdict.to };
        Fanout::default().deliver(&view, &single, Origin::Sibling);
        if !verdict.wire {
            return Ok(());
        }
        let sent = self.uplink_queue.with(|queue| queue.send_one(frame));
        sent.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }
}

/// One frame in our own memory.
struct Single<'a> {
    frame: &'a [u8],
    head: EthernetHeader,
    to: Receivers,
}

impl FrameBatch for Single<'_> {
    fn count(&self) -> usize {
        1
    }

    fn receivers(&self, _index: usize) -> Receivers {
        self.to
    }

    fn head(&self, _index: usize) -> EthernetHeader {
        self.head
    }

    fn flow(&self, _index: usize) -> u32 {
        0
    }

    fn frame(&self, _index: usize) -> Option<Frame<'_>> {
        Some(Frame { header: &[0; HEADER], head: self.frame, body: &[], len: self.frame.len() })
    }
}
