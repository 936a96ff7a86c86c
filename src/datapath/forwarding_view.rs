//! A port's place in its parent's switch, as the data path sees it.
//!
//! All userspace ports of one parent share a [`SwitchHandle`]. What the workers need of it is a snapshot
//! ([`ForwardingView`]): the forwarding table and, for every port of the table, where its frames are delivered. The
//! control side makes a new snapshot when anything changes and swaps it in whole; a turn works with the
//! one that it took at its beginning, and takes the lock for just that. A frame may thus be forwarded by
//! a table that was replaced an instant ago, never by half of one.
//!
//! A view refers to queue pairs, and their lines refer to the `SwitchHandle` through their [`Attachment`]: the circle
//! is opened when the control side takes the attachment away.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::datapath::fanout::{Fanout, FrameBatch, Origin};
use crate::datapath::frame::Frame;
use crate::datapath::port::PortData;
use crate::datapath::queue_pair::QueuePair;
use crate::datapath::uplink_queue::UplinkQueue;
use crate::net::ethernet::EthernetHeader;
use crate::net::mac::Mac;
use crate::net::vnet_hdr::HEADER;
use crate::switch;
use crate::switch::{Groups, ParentFacts, PortId, Receivers, Stations, Table};

/// A port of a view.
#[derive(Clone, Debug, Default)]
pub struct EgressPort {
    /// The port's facts; none where a port has left.
    pub port: Option<Arc<PortData>>,
    /// Its queue pairs.
    pub pairs: Vec<Arc<QueuePair>>,
}

impl EgressPort {
    /// Which queue pair a flow goes to: one that can receive, if there is any. With none, the first
    /// counts why the frame was dropped.
    pub fn pair(&self, flow: u32) -> usize {
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

/// A snapshot of a parent's ports.
#[derive(Debug)]
pub struct ForwardingView {
    /// Who gets what.
    pub table: Table,
    /// The ports of the table, by their number.
    pub egress_ports: Vec<EgressPort>,
}

impl Default for ForwardingView {
    /// No ports, no wire.
    fn default() -> ForwardingView {
        let nowhere = ParentFacts { mac: Mac::default(), up: false, mtu: 0 };
        ForwardingView { table: Table::new(Vec::new(), nowhere), egress_ports: Vec::new() }
    }
}

/// The userspace ports of one parent.
#[derive(Debug, Default)]
pub struct SwitchHandle {
    view: Mutex<Arc<ForwardingView>>,
    stations: Arc<Stations>,
}

impl SwitchHandle {
    /// The present snapshot.
    pub fn view(&self) -> Arc<ForwardingView> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The machines that were heard on the parent's wire.
    pub fn stations(&self) -> &Arc<Stations> {
        &self.stations
    }

    /// Control: swaps in another snapshot.
    pub fn show(&self, view: ForwardingView) {
        let old = {
            let mut present = self.view.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *present, Arc::new(view))
        };
        // Outside the lock: this may be the last reference to a queue pair.
        drop(old);
    }
}

/// Where a queue pair is plugged in.
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
