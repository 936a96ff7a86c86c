//! The parents that have ports in userspace.
//!
//! A device has several names: its own, alternative ones, and that of a macvlan on it, which stands for it.
//! Ports that give different names of one device are siblings all the same. Therefore a parent is known by
//! its interface index, which the kernel is asked for when a name is seen for the first time; afterwards the
//! name stands for the [`LanKeeper`], which keeps its parent when names change.
//!
//! | file | idea |
//! | --- | --- |
//! | `keeper` | a parent with its ports: table, filters, loss and return |
//! | `held` | the parent itself, in our hands, and how it is left |
//! | `deaf` | what the host's own stack must not hear |
//! | `member` | a port among its siblings |
//! | `allowance` | how often a port may have the table made anew |

mod allowance;
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
use crate::uplink::{LinkEvent, LinkInfo, Netlink, Parent};
pub(super) use deaf::not_deaf;
use keeper::LanKeeper;
pub(super) use keeper::socket_failed;

/// A port's place: which parent, which number. Given back with [`Lans::leave`].
#[derive(Debug)]
pub struct LanPort {
    lan: usize,
    id: PortId,
}

/// All parents with ports in userspace.
#[derive(Default)]
pub struct Lans {
    lans: Vec<LanKeeper>,
    /// Which of them a configured name stands for.
    names: BTreeMap<String, usize>,
    /// The most queue pairs that any port has whose parent is given by this name.
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
        Lans { widest, ..Lans::default() }
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
        let lan = match self.names.get(&config.parent) {
            Some(&lan) => lan,
            None => self.open(&config.parent, netlink, pool)?,
        };
        let Some(lan) = self.lans.get(lan) else { return Ok(Vec::new()) };
        Ok((0..usize::from(config.queue_pairs)).map(|index| lan.seat(index, pool)).collect())
    }

    /// Opens the parent with this name, or finds that it is open under another one.
    fn open(&mut self, name: &str, netlink: &mut Netlink, pool: &mut Pool) -> Result<usize> {
        let index = Parent::device(netlink, name)?.index;
        if let Some(lan) = self.lans.iter().position(|lan| lan.index() == Some(index)) {
            self.lans[lan].add_name(name);
            self.names.insert(name.to_owned(), lan);
            return Ok(lan);
        }
        // Its lanes are made once, also for the ports that give another of its names.
        let mut pairs = 1;
        for (other, most) in &self.widest {
            if other == name || Parent::device(netlink, other).is_ok_and(|o| o.index == index) {
                pairs = pairs.max(*most);
            }
        }
        self.lans.push(LanKeeper::open(name, usize::from(pairs), netlink, pool)?);
        self.names.insert(name.to_owned(), self.lans.len() - 1);
        Ok(self.lans.len() - 1)
    }

    /// Makes a port one of its parent's, and plugs its queue pairs in.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had on this parent; the message says why.
    pub fn join(&mut self, core: &Core, netlink: &mut Netlink) -> Result<LanPort> {
        let lan = self.names.get(&core.config.parent).copied().unwrap_or(usize::MAX);
        let id = match self.lans.get_mut(lan) {
            Some(lan) => lan.join(core, netlink)?,
            None => PortId::MAX,
        };
        Ok(LanPort { lan, id })
    }

    /// The port's parent, while it is there.
    pub fn parent(&self, port: &LanPort) -> Option<LinkInfo> {
        self.lans.get(port.lan).and_then(LanKeeper::parent)
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, port: &LanPort) -> Mac {
        self.lans.get(port.lan).map(|lan| lan.own_mac(port.id)).unwrap_or_default()
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, port: &LanPort, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        match self.lans.get_mut(port.lan) {
            Some(lan) => lan.set_mac(port.id, netlink, mac),
            None => Ok(()),
        }
    }

    /// What the guest of a port had joined is forgotten with it.
    pub fn forget_guest(&mut self, port: &LanPort) {
        if let Some(lan) = self.lans.get_mut(port.lan) {
            lan.forget_guest(port.id);
        }
    }

    /// Takes a port out.
    pub fn leave(&mut self, port: LanPort, core: &Core) {
        if let Some(lan) = self.lans.get_mut(port.lan) {
            lan.leave(port.id, core);
        }
    }

    /// Lets tables and filters follow what has changed: ports that joined, left, came up or went down.
    ///
    /// # Errors
    /// The kernel cannot do what a port's mode promises.
    pub fn refresh(&mut self) -> Result<()> {
        self.lans.iter_mut().try_for_each(LanKeeper::refresh)
    }

    /// Makes what takes long and is made once, before the tables of the first guests.
    pub fn prepare(&mut self) {
        self.lans.iter_mut().for_each(LanKeeper::make_long_frames);
    }

    /// Logs what was lost on the way from each wire.
    pub fn tell_losses(&self) {
        self.lans.iter().for_each(LanKeeper::tell_losses);
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, netlink: &mut Netlink) {
        for lan in &mut self.lans {
            lan.note(event, netlink);
        }
    }

    /// Finds lost parents again, where that is due. Returns when to ask again.
    pub fn restore(&mut self, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        self.lans.iter_mut().fold(None, |next, lan| sooner(next, lan.restore(netlink, now)))
    }

    /// Gives everything back. After the ports.
    pub fn close(&mut self, netlink: &mut Netlink) {
        for lan in std::mem::take(&mut self.lans) {
            lan.close(netlink);
        }
    }
}
