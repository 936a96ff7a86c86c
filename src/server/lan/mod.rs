//! The parents that have ports in userspace, by the name under which they were configured.
//!
//! | file | idea |
//! | --- | --- |
//! | `keeper` | a parent with its ports: table, filters, loss and return |
//! | `held` | the parent itself, in our hands, and how it is left |
//! | `deaf` | what the host's own stack must not hear |
//! | `member` | a port among its siblings |

mod deaf;
mod held;
mod keeper;
mod member;

use std::collections::BTreeMap;
use std::time::Instant;

use super::core::Core;
use super::sooner;
use crate::config::{Config, Kind, PortConfig};
use crate::error::Result;
use crate::mac::Mac;
use crate::queue::pool::{Pool, Seat};
use crate::switch::PortId;
use crate::uplink::{LinkEvent, Netlink};
pub(super) use deaf::not_deaf;
use keeper::LanKeeper;
pub(super) use keeper::socket_failed;

/// A port's place: which parent, which number. Given back with [`Lans::leave`].
#[derive(Debug)]
pub struct LanPort {
    parent: String,
    id: PortId,
}

/// All parents with ports in userspace.
#[derive(Default)]
pub struct Lans {
    lans: BTreeMap<String, LanKeeper>,
    /// The most queue pairs that any port of a parent has.
    widest: BTreeMap<String, u16>,
}

impl Lans {
    /// For the ports of this configuration; no parent is opened yet.
    pub fn new(config: &Config) -> Lans {
        let mut widest = BTreeMap::new();
        for port in config.ports.iter().filter(|port| port.kind == Kind::Macvlan) {
            let most = widest.entry(port.parent.clone()).or_default();
            *most = port.queue_pairs.max(*most);
        }
        Lans { lans: BTreeMap::new(), widest }
    }

    /// Seats for a port's queue pairs, near those of its siblings. Opens the parent for the first.
    ///
    /// # Errors
    /// The parent cannot be had: not there, not Ethernet, in use by another process.
    pub fn seats(
        &mut self,
        config: &PortConfig,
        netlink: &mut Netlink,
        pool: &mut Pool,
    ) -> Result<Vec<Seat>> {
        if !self.lans.contains_key(&config.parent) {
            let pairs = self.widest.get(&config.parent).copied().unwrap_or(config.queue_pairs);
            let lan = LanKeeper::open(&config.parent, usize::from(pairs), netlink, pool)?;
            self.lans.insert(config.parent.clone(), lan);
        }
        let Some(lan) = self.lans.get(&config.parent) else { return Ok(Vec::new()) };
        Ok((0..usize::from(config.queue_pairs)).map(|index| lan.seat(index, pool)).collect())
    }

    /// Makes a port one of its parent's, and plugs its queue pairs in.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had on this parent; the message says why.
    pub fn join(&mut self, core: &Core, netlink: &mut Netlink) -> Result<LanPort> {
        let parent = core.config.parent.clone();
        let id = match self.lans.get_mut(&parent) {
            Some(lan) => lan.join(core, netlink)?,
            None => PortId::MAX,
        };
        Ok(LanPort { parent, id })
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, port: &LanPort) -> Mac {
        self.lans.get(&port.parent).map(|lan| lan.own_mac(port.id)).unwrap_or_default()
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, port: &LanPort, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        match self.lans.get_mut(&port.parent) {
            Some(lan) => lan.set_mac(port.id, netlink, mac),
            None => Ok(()),
        }
    }

    /// What the guest of a port had joined is forgotten with it.
    pub fn forget_guest(&mut self, port: &LanPort) {
        if let Some(lan) = self.lans.get_mut(&port.parent) {
            lan.forget_guest(port.id);
        }
    }

    /// Takes a port out.
    pub fn leave(&mut self, port: LanPort, core: &Core) {
        if let Some(lan) = self.lans.get_mut(&port.parent) {
            lan.leave(port.id, core);
        }
    }

    /// Lets tables and filters follow what has changed: ports that joined, left, came up or went down.
    ///
    /// # Errors
    /// The kernel cannot do what a port's mode promises.
    pub fn refresh(&mut self) -> Result<()> {
        self.lans.values_mut().try_for_each(LanKeeper::refresh)
    }

    /// Logs what was lost on the way from each wire.
    pub fn tell_losses(&self) {
        self.lans.values().for_each(LanKeeper::tell_losses);
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, netlink: &mut Netlink) {
        for lan in self.lans.values_mut() {
            lan.note(event, netlink);
        }
    }

    /// Finds lost parents again, where that is due. Returns when to ask again.
    pub fn restore(&mut self, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        self.lans.values_mut().fold(None, |next, lan| sooner(next, lan.restore(netlink, now)))
    }

    /// Gives everything back. After the ports.
    pub fn close(&mut self, netlink: &mut Netlink) {
        for lan in std::mem::take(&mut self.lans).into_values() {
            lan.close(netlink);
        }
    }
}
