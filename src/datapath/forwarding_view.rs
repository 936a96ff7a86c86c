//! A parent's switch, as the data path sees it.
//!
//! All userspace ports of one parent share a [`SwitchHandle`]. What the workers need of it is a
//! snapshot ([`ForwardingView`]): the forwarding table and, for every port of the table, where its
//! frames are delivered. The control side makes a new snapshot when anything changes and swaps it
//! in whole; a turn works with the one that it took at its beginning, and takes the lock for just
//! that. A frame may thus be forwarded by a table that was replaced an instant ago, never by half
//! of one.
//!
//! A view refers to queue pairs, and a queue pair to the `SwitchHandle` through its
//! [`Attachment`](crate::datapath::attachment::Attachment): the control side breaks this circle
//! when it takes the attachment away.

use std::sync::Arc;

use crate::datapath::egress::EgressPort;
use crate::net::mac::Mac;
use crate::switch::{ParentFacts, Stations, Table};
use crate::worker::snapshot::Snapshot;

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
    view: Snapshot<ForwardingView>,
    stations: Arc<Stations>,
}

impl SwitchHandle {
    /// The present snapshot.
    pub fn view(&self) -> Arc<ForwardingView> {
        self.view.get()
    }

    /// The machines that were seen on the parent's wire.
    pub fn stations(&self) -> &Arc<Stations> {
        &self.stations
    }

    /// Control: swaps in another snapshot.
    pub fn show(&self, view: ForwardingView) {
        self.view.set(view);
    }
}
