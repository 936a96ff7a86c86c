//! The parents that have ports in userspace.
//!
//! A device has several names: its own, alternative ones, and that of a macvlan on it, which stands
//! for it. Ports that give different names of one device are siblings all the same. Therefore a
//! parent is known by its interface index, which the kernel is asked for when a name is seen for
//! the first time; afterwards the name stands for the [`ParentManager`], which keeps its parent
//! when names change.
//!
//! | file | idea |
//! | --- | --- |
//! | [`manager`] | a parent with its ports: table, filters, loss and return |
//! | [`lease`] | the parent itself, while this process has the right to it, and how it is given back |
//! | [`host_filters`] | the frames that the host's own stack must not receive |
//! | [`bridge_port`] | a port among its siblings |
//! | [`allowance`] | how often a port may have the table made anew |

pub(crate) mod allowance;
pub(crate) mod bridge_port;
pub(crate) mod host_filters;
pub(crate) mod lease;
pub(crate) mod manager;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::config::{Config, Kind, PortConfig};
use crate::control::deadline::sooner;
use crate::control::parents::manager::ParentManager;
use crate::control::port_core::PortCore;
use crate::datapath::scratch::Scratch;
use crate::error::Result;
use crate::host::link::LinkInfo;
use crate::host::verbs::Host;
use crate::host::watch::LinkEvent;
use crate::net::mac::Mac;
use crate::switch::PortId;
use crate::worker::pool::Pool;
use crate::worker::slot::WorkerSlot;

/// A port's place: which parent, which number. Given back with [`Parents::leave`].
#[derive(Debug)]
pub struct UserspacePort {
    switch: usize,
    id: PortId,
}

/// All parents with ports in userspace.
#[derive(Default)]
pub struct Parents {
    parents: Vec<ParentManager>,
    /// The parent that each configured name stands for.
    names: BTreeMap<String, usize>,
    /// The most queue pairs that any port has whose parent is given by this name.
    widest: BTreeMap<String, u16>,
}

impl Parents {
    /// For the ports of this configuration; no parent is opened yet.
    pub fn new(config: &Config) -> Parents {
        let mut widest = BTreeMap::new();
        for port in config.ports.iter().filter(|port| port.kind == Kind::Macvlan) {
            let most = widest.entry(port.parent.clone()).or_default();
            *most = port.queue_pairs.max(*most);
        }
        Parents { widest, ..Parents::default() }
    }

    /// Worker slots for a port's queue pairs, at the workers of its siblings. Opens the parent for
    /// the first.
    ///
    /// # Errors
    /// The parent cannot be had: not there, not Ethernet, in use by another process.
    pub fn slots(
        &mut self,
        config: &PortConfig,
        host: &mut dyn Host,
        pool: &mut Pool<Scratch>,
    ) -> Result<Vec<WorkerSlot<Scratch>>> {
        let switch = match self.names.get(&config.parent) {
            Some(&switch) => switch,
            None => self.open(&config.parent, host, pool)?,
        };
        let Some(switch) = self.parents.get(switch) else { return Ok(Vec::new()) };
        Ok((0..usize::from(config.queue_pairs)).map(|index| switch.slot(index, pool)).collect())
    }

    /// Opens the parent with this name, or finds that it is open under another one.
    fn open(&mut self, name: &str, host: &mut dyn Host, pool: &mut Pool<Scratch>) -> Result<usize> {
        let index = host.parent_device(name)?.index;
        if let Some(switch) = self.parents.iter().position(|switch| switch.index() == Some(index)) {
            self.parents[switch].add_name(name);
            self.names.insert(name.to_owned(), switch);
            return Ok(switch);
        }
        // Its uplink queues are made once, also for the ports that give another of its names.
        let mut pairs = 1;
        for (other, most) in &self.widest {
            if other == name || host.parent_device(other).is_ok_and(|o| o.index == index) {
                pairs = pairs.max(*most);
            }
        }
        self.parents.push(ParentManager::open(name, usize::from(pairs), host, pool)?);
        self.names.insert(name.to_owned(), self.parents.len() - 1);
        Ok(self.parents.len() - 1)
    }

    /// Makes a port one of its parent's, and attaches its queue pairs to the switch.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had on this parent; the message has the reason.
    pub fn join(&mut self, core: &PortCore, host: &mut dyn Host) -> Result<UserspacePort> {
        let switch = self.names.get(&core.config.parent).copied().unwrap_or(usize::MAX);
        let id = match self.parents.get_mut(switch) {
            Some(switch) => switch.join(core, host)?,
            None => PortId::MAX,
        };
        Ok(UserspacePort { switch, id })
    }

    /// The port's parent, while it is there.
    pub fn parent(&self, port: &UserspacePort) -> Option<LinkInfo> {
        self.parents.get(port.switch).and_then(ParentManager::parent)
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, port: &UserspacePort) -> Mac {
        self.parents.get(port.switch).map(|switch| switch.own_mac(port.id)).unwrap_or_default()
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, port: &UserspacePort, host: &mut dyn Host, mac: Mac) -> Result<()> {
        match self.parents.get_mut(port.switch) {
            Some(switch) => switch.set_mac(port.id, host, mac),
            None => Ok(()),
        }
    }

    /// Forgets the groups that a port's guest had joined.
    pub fn forget_guest(&mut self, port: &UserspacePort) {
        if let Some(switch) = self.parents.get_mut(port.switch) {
            switch.forget_guest(port.id);
        }
    }

    /// Takes a port out.
    pub fn leave(&mut self, port: UserspacePort, core: &PortCore) {
        if let Some(switch) = self.parents.get_mut(port.switch) {
            switch.leave(port.id, core);
        }
    }

    /// Brings tables and filters up to date with the ports: those that joined, left, came up or
    /// went down.
    ///
    /// # Errors
    /// The kernel cannot do what a port's mode promises.
    pub fn refresh(&mut self, host: &mut dyn Host) -> Result<()> {
        self.parents.iter_mut().try_for_each(|parent| parent.refresh(host))
    }

    /// Makes parts that take long and are made once, before the tables of the first guests.
    pub fn prepare(&mut self, host: &mut dyn Host) {
        self.parents.iter_mut().for_each(|parent| parent.make_long_frames(host));
    }

    /// Logs the losses on the way from each wire.
    pub fn report_losses(&self) {
        self.parents.iter().for_each(ParentManager::report_losses);
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, host: &mut dyn Host) {
        for switch in &mut self.parents {
            switch.note(event, host);
        }
    }

    /// Finds lost parents again, where that is due. Returns when to ask again.
    pub fn restore(&mut self, host: &mut dyn Host, now: Instant) -> Option<Instant> {
        self.parents.iter_mut().fold(None, |next, switch| sooner(next, switch.restore(host, now)))
    }

    /// Gives everything back. After the ports.
    pub fn close(&mut self, host: &mut dyn Host) {
        for switch in std::mem::take(&mut self.parents) {
            switch.close(host);
        }
    }
}
