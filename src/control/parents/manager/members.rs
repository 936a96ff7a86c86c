//! The userspace ports of one parent, by their number in the switch.
//!
//! The forwarding table and the filters follow from the ports as they are now. The number of a port
//! that has left is given to the next one; in between its place in the table is empty.

use std::time::Instant;

use crate::control::deadline::sooner;
use crate::control::parents::bridge_port::{Behind, BridgePort};
use crate::datapath::forwarding_view::ForwardingView;
use crate::error::{Error, Result};
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::switch::{ParentFacts, PortId, Table};

/// The ports of one parent.
#[derive(Default)]
pub struct Members(Vec<Option<BridgePort>>);

impl Members {
    /// All ports.
    pub fn iter(&self) -> impl Iterator<Item = &BridgePort> + Clone {
        self.0.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut BridgePort> {
        self.0.iter_mut().flatten()
    }

    /// The port with this number.
    pub fn get(&self, id: PortId) -> Option<&BridgePort> {
        self.0.get(usize::from(id)).and_then(Option::as_ref)
    }

    /// A number for a new port; `object` is the port in the words of a message.
    ///
    /// # Errors
    /// All numbers are taken.
    pub fn free_id(&self, object: &str) -> Result<PortId> {
        let index = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        PortId::try_from(index).ok().filter(|&id| id < PortId::MAX).ok_or_else(|| {
            Error::limit(object, "its parent has 65535 ports already", "use another parent")
        })
    }

    /// Puts a port in the place of this number, which [`Members::free_id`] has returned.
    pub fn insert(&mut self, id: PortId, port: BridgePort) {
        let index = usize::from(id);
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(port);
    }

    /// Takes a port out.
    pub fn remove(&mut self, id: PortId) -> Option<BridgePort> {
        self.0.get_mut(usize::from(id)).and_then(Option::take)
    }

    /// Refuses an address that a sibling in this process has.
    ///
    /// # Errors
    /// One has it.
    pub fn check_mac(&self, object: &str, mac: Mac) -> Result<()> {
        match self.iter().find(|member| member.mac() == mac && member.object() != object) {
            Some(sibling) => Err(Error::mac_taken(
                object,
                format!("MAC address {mac} belongs to {} on the same parent", sibling.object()),
                "choose another address; every port of a parent needs its own",
            )),
            None => Ok(()),
        }
    }

    /// Refuses a second port beside one in passthru mode.
    ///
    /// # Errors
    /// There would be two.
    pub fn check_passthru(&self, object: &str, mode: Mode) -> Result<()> {
        let alone =
            |member: &&BridgePort| mode == Mode::Passthru || member.mode() == Mode::Passthru;
        match self.iter().find(alone) {
            Some(sibling) => Err(Error::parent_in_use(
                object,
                format!(
                    "shares its parent with {}, but passthru mode needs it alone",
                    sibling.object()
                ),
                "use another parent, or another mode for both",
            )),
            None => Ok(()),
        }
    }

    /// Whether a port is in passthru mode.
    pub fn has_passthru(&self) -> bool {
        self.iter().any(|member| member.mode() == Mode::Passthru)
    }

    /// Whether a guest is there to receive.
    pub fn any_up(&self) -> bool {
        self.iter().any(BridgePort::is_up)
    }

    /// Whether a port receives frames to the host's own address.
    pub fn want_host_unicast(&self) -> bool {
        self.iter().any(|member| matches!(member.mode(), Mode::Passthru | Mode::Source))
    }

    /// The addresses that the NIC has to let in.
    pub fn unicast(&self) -> Vec<Mac> {
        self.iter().filter_map(BridgePort::filter).collect()
    }

    /// Whether the table must follow a port now, and when it must follow another one.
    pub fn behind(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let (mut changed, mut later) = (false, None);
        for member in self.iter_mut() {
            match member.behind(now) {
                Behind::No => {}
                Behind::Now => changed = true,
                Behind::Until(time) => later = sooner(later, Some(time)),
            }
        }
        (changed, later)
    }

    /// A table of the ports as they are now.
    pub fn view(&mut self, facts: ParentFacts) -> ForwardingView {
        self.iter_mut().for_each(BridgePort::show);
        let members = || self.0.iter().map(Option::as_ref);
        let rules =
            members().map(|member| member.map_or_else(BridgePort::nobody, BridgePort::rules));
        let egress_ports =
            members().map(|member| member.map(BridgePort::egress_port).unwrap_or_default());
        let table = Table::new(rules.collect(), facts);
        ForwardingView { table, egress_ports: egress_ports.collect() }
    }
}
