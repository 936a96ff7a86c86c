//! A port among its siblings: its facts for the parent's forwarding table and filters.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{MacChoice, PortConfig, ReservedGroups};
use crate::control::parents::allowance::Allowance;
use crate::control::port_core::PortCore;
use crate::datapath::egress::{Egress, EgressPort};
use crate::datapath::port::PortData;
use crate::datapath::queue_pair::QueuePair;
use crate::host::link::LinkInfo;
use crate::host::spec::Wanted;
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::switch::{Groups, Rules};

/// Whether the table must be made anew for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It shows the port as it is.
    No,
    /// It must.
    Now,
    /// It must, but not before this time.
    Until(Instant),
}

/// A port of a parent.
pub struct BridgePort {
    config: PortConfig,
    data: Arc<PortData>,
    pairs: Vec<Arc<QueuePair>>,
    groups: Arc<Groups>,
    /// The address that the next guest gets.
    own_mac: Cell<Mac>,
    /// State and address as the table has them.
    shown: Option<(bool, Mac)>,
    allowance: Allowance,
}

impl BridgePort {
    /// The port with this address.
    pub fn new(core: &PortCore, mac: Mac) -> BridgePort {
        core.data.set_device(mac, core.data.mtu());
        let groups = if core.config.compat { Groups::only() } else { Groups::all() };
        BridgePort {
            config: core.config.clone(),
            data: Arc::clone(&core.data),
            pairs: core.pairs.clone(),
            groups: Arc::new(groups),
            own_mac: Cell::new(mac),
            shown: None,
            allowance: Allowance::default(),
        }
    }

    /// The port in the words of a message.
    pub fn object(&self) -> String {
        format!("port {}", self.config.name)
    }

    /// How it shares the parent.
    pub fn mode(&self) -> Mode {
        self.config.mode
    }

    /// Its address now.
    pub fn mac(&self) -> Mac {
        self.data.mac()
    }

    /// The address that the user chose for a passthru port, and so for its parent.
    pub fn chosen_mac(&self) -> Option<Mac> {
        match self.config.mac {
            MacChoice::Given(mac) if self.mode() == Mode::Passthru => Some(mac),
            _ => None,
        }
    }

    /// The address that was printed for it.
    pub fn own_mac(&self) -> Mac {
        self.own_mac.get()
    }

    /// Its guest is there to receive.
    pub fn is_up(&self) -> bool {
        self.data.receiving() != 0
    }

    /// It has another address.
    pub fn set_mac(&self, mac: Mac) {
        self.data.set_device(mac, self.data.mtu());
    }

    /// Its MTU on a parent with this one, in bytes.
    pub fn mtu_on(&self, parent: u32) -> u32 {
        self.config.mtu.map_or(parent, |own| own.min(parent))
    }

    /// The groups that the guest's reports are to be noted in, where the switch asks for them.
    pub fn snooped(&self) -> Option<Arc<Groups>> {
        self.config.compat.then(|| Arc::clone(&self.groups))
    }

    /// The senders whose frames only this port gets.
    pub fn taken_away(&self) -> &[Mac] {
        if self.config.nodst { &self.config.sources } else { &[] }
    }

    /// Forgets the groups that the guest had joined: it has disconnected.
    pub fn forget_guest(&self) {
        self.groups.clear();
    }

    /// Its demands on a parent; `object` is the port in the words of a message.
    pub fn wants<'a>(&self, object: &'a str) -> Wanted<'a> {
        let mac = Some(self.mac());
        Wanted { object, mode: self.mode(), mac, mtu: self.config.mtu }
    }

    /// On another parent: a refusal on the one before does not hold here.
    pub fn moved_to(&self, link: &LinkInfo) {
        self.data.macs.deny(None);
        self.parent_changed(link, true);
    }

    /// Adopts the parent's MTU, and in passthru mode its address; `own` means that it is not the
    /// guest's.
    pub fn parent_changed(&self, link: &LinkInfo, own: bool) {
        let mac = if self.mode() == Mode::Passthru { link.mac } else { self.mac() };
        if own && self.mode() == Mode::Passthru && self.chosen_mac().is_none() {
            self.own_mac.set(mac);
        }
        let mtu = self.mtu_on(link.mtu);
        if (mac, mtu) != (self.mac(), self.data.mtu()) {
            let new = self.data.mtu() == 0;
            self.data.set_device(mac, mtu);
            if new {
                // Reported with all other changes of it.
                return;
            }
            self.data.log.info(format_args!("now has MAC {mac}, MTU {mtu}"));
        }
    }

    /// Whether the table is behind, and when it may follow: a guest that comes and goes in a loop
    /// gets [ten tables a second](Allowance).
    pub fn behind(&mut self, now: Instant) -> Behind {
        let is = Some((self.is_up(), self.mac()));
        if self.shown == is {
            return Behind::No;
        }
        match self.allowance.take(now) {
            Ok(()) => Behind::Now,
            Err(later) => Behind::Until(later),
        }
    }

    /// The table is made anew with the port as it is.
    pub fn show(&mut self) {
        self.shown = Some((self.is_up(), self.mac()));
    }

    /// The switch's facts of the port.
    pub fn rules(&self) -> Rules {
        Rules {
            mode: self.mode(),
            mac: self.mac(),
            up: self.is_up(),
            compat: self.config.compat,
            sources: self.config.sources.clone(),
            nodst: self.config.nodst,
            reserved: self.config.reserved_groups == ReservedGroups::Deliver,
            mtu: self.data.mtu(),
            groups: Arc::clone(&self.groups),
        }
    }

    /// The place where its frames are delivered.
    pub fn egress_port(&self) -> EgressPort {
        let queues = self.pairs.iter().map(|pair| Arc::clone(pair) as Arc<dyn Egress>);
        EgressPort { port: Some(Arc::clone(&self.data)), queues: queues.collect() }
    }

    /// The table's entry where a port has left.
    pub fn nobody() -> Rules {
        Rules {
            mode: Mode::Bridge,
            mac: Mac::default(),
            up: false,
            compat: false,
            sources: Vec::new(),
            nodst: false,
            reserved: false,
            mtu: 0,
            groups: Arc::new(Groups::only()),
        }
    }

    /// The address that the NIC has to let in for the port: its own while it is up. A passthru port
    /// receives everything.
    pub fn filter(&self) -> Option<Mac> {
        (self.is_up() && self.mode() != Mode::Passthru).then(|| self.mac())
    }
}
