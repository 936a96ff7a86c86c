//! The ports of one parent, as the switch sees them: an immutable snapshot.
//!
//! Whenever a port comes, goes, connects or changes, the control side builds a new table and the
//! workers swap it in whole; no decision ever sees half a change. Building may allocate, deciding
//! may not. So everything that a decision would have to search for is laid out here: the address
//! lookup, the ports of each mode, and for each source address the ports that list it.
//!
//! Ports that are not up appear in none of these, as in the kernel, whose hash table holds only the
//! ports that are up (`macvlan_open`). Two exceptions are the kernel's as well: a passthru port
//! owns its parent's frames even while it is down, and a source port with `nodst` that is down
//! still takes the frames of its list away from the others, without getting them.
//!
//! `config/siblings.rs` judges which configurations make sense (one passthru port, no address
//! twice). In this file nonsense only must not do harm: of two ports with one address the first one
//! is found, and of two passthru ports the first one counts.

use std::sync::Arc;

use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::switch::groups::Groups;
use crate::switch::lookup::Lookup;
use crate::switch::port_id::{NO_PORT, PortId};

/// The switch's facts of one port.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How it shares the parent.
    pub mode: Mode,
    /// Its address.
    pub mac: Mac,
    /// A guest is there to send and receive.
    pub up: bool,
    /// The kernel's behaviour exactly, see the [module's text](super).
    pub compat: bool,
    /// Mode `source`: the senders it takes frames from. Without meaning in other modes.
    pub sources: Vec<Mac>,
    /// Mode `source`: no other port gets the frames of these senders (`MACVLAN_FLAG_NODST`).
    pub nodst: bool,
    /// It gets frames from the wire to reserved groups
    /// ([`Head::is_reserved`](crate::net::ethernet::EthernetHeader::is_reserved)). Compat ports get
    /// them if they have joined them, too.
    pub reserved: bool,
    /// In bytes, without Ethernet header. Only compat ports are limited by it.
    pub mtu: u32,
    /// The groups that its guest has joined. Only used for compat ports; the others take every
    /// group.
    pub groups: Arc<Groups>,
}

/// The switch's facts of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentFacts {
    /// Its address.
    pub mac: Mac,
    /// It is up and has carrier.
    pub up: bool,
    /// In bytes, without Ethernet header. Unicast between compat ports is limited by it.
    pub mtu: u32,
}

/// A sender that some source ports list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    mac: Mac,
    /// Its part of `Table::listing`.
    pub(crate) list: (u32, u32),
    /// One of the ports that list it, up or not, keeps its frames from all others.
    pub(crate) nodst: bool,
}

/// An immutable snapshot of a parent's ports.
#[derive(Clone, Debug)]
pub struct Table {
    ports: Vec<Rules>,
    parent: ParentFacts,
    lookup: Lookup,
    by_mode: [Vec<PortId>; Mode::ALL.len()],
    passthru: Option<PortId>,
    senders: Vec<Sender>,
    listing: Vec<PortId>,
}

impl Table {
    /// A table of these ports; their places are their [`PortId`]s. More than 65535 are ignored.
    pub fn new(mut ports: Vec<Rules>, parent: ParentFacts) -> Table {
        ports.truncate(usize::from(NO_PORT));
        let up = || (0..NO_PORT).zip(&ports).filter(|(_, rules)| rules.up);
        let addresses: Vec<_> = up().map(|(id, rules)| (rules.mac, id)).collect();
        let of_mode = |mode| up().filter(move |(_, rules)| rules.mode == mode).map(|(id, _)| id);
        let by_mode = Mode::ALL.map(|mode| of_mode(mode).collect());
        let passthru = (0..NO_PORT).zip(&ports).find(|(_, rules)| rules.mode == Mode::Passthru);
        let passthru = passthru.map(|(id, _)| id);
        let lookup = Lookup::new(&addresses);
        let (senders, listing) = senders(&ports);
        Table { ports, parent, lookup, by_mode, passthru, senders, listing }
    }

    /// Number of ports, those that are down included.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// True when the parent has no port.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// One port's rules.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Rules> {
        self.ports.get(usize::from(id))
    }

    /// The parent's facts.
    #[inline]
    pub fn parent(&self) -> ParentFacts {
        self.parent
    }

    /// The port that is up and has this address.
    #[inline]
    pub fn find(&self, mac: Mac) -> Option<PortId> {
        self.lookup.get(mac)
    }

    /// Whether this address belongs to another owner than port `by`: the parent, or a port that is
    /// up.
    pub fn is_taken(&self, mac: Mac, by: PortId) -> bool {
        // A passthru port always has its parent's address, and no siblings.
        self.passthru.is_none()
            && (mac == self.parent.mac || self.find(mac).is_some_and(|other| other != by))
    }

    /// The ports of a mode that are up.
    pub(crate) fn of_mode(&self, mode: Mode) -> &[PortId] {
        // `Mode::ALL` has the modes in the order of their declaration; see the test.
        self.by_mode.get(mode as usize).map_or(&[], Vec::as_slice)
    }

    /// The port that owns the parent, up or not.
    pub(crate) fn passthru(&self) -> Option<PortId> {
        self.passthru
    }

    /// The source ports' list entry for this sender.
    #[inline]
    pub(crate) fn sender(&self, mac: Mac) -> Option<Sender> {
        if self.senders.is_empty() {
            return None;
        }
        let at = self.senders.binary_search_by_key(&mac, |sender| sender.mac).ok()?;
        self.senders.get(at).copied()
    }

    /// The source ports that are up, for a list from [`Table::sender`].
    pub(crate) fn listing(&self, (from, to): (u32, u32)) -> &[PortId] {
        self.listing.get(from as usize..to as usize).unwrap_or(&[])
    }
}

/// The list of each sender: the senders in order of their addresses, and for each of them its
/// ports, in `listing`.
fn senders(ports: &[Rules]) -> (Vec<Sender>, Vec<PortId>) {
    let source_ports = (0..NO_PORT).zip(ports).filter(|(_, rules)| rules.mode == Mode::Source);
    let mut pairs: Vec<(Mac, PortId, &Rules)> = source_ports
        .flat_map(|(id, rules)| rules.sources.iter().map(move |&mac| (mac, id, rules)))
        .collect();
    pairs.sort_unstable_by_key(|&(mac, id, _)| (mac, id));
    pairs.dedup_by_key(|&mut (mac, id, _)| (mac, id));

    let (mut senders, mut listing) = (Vec::new(), Vec::new());
    for same in pairs.chunk_by(|one, other| one.0 == other.0) {
        let Some(&(mac, ..)) = same.first() else { continue };
        let from = listing.len() as u32;
        listing.extend(same.iter().filter(|(.., rules)| rules.up).map(|&(_, id, _)| id));
        let nodst = same.iter().any(|(.., rules)| rules.nodst);
        senders.push(Sender { mac, list: (from, listing.len() as u32), nodst });
    }
    (senders, listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Mac = Mac([2, 0, 0, 0, 9, 9]);

    fn rules(mode: Mode, last: u8, up: bool) -> Rules {
        let mac = Mac([2, 0, 0, 0, 0, last]);
        let groups = Arc::new(Groups::all());
        Rules {
            mode,
            mac,
            up,
            compat: false,
            sources: vec![],
            nodst: false,
            reserved: true,
            mtu: 1500,
            groups,
        }
    }

    fn table(ports: Vec<Rules>) -> Table {
        Table::new(ports, ParentFacts { mac: Mac([2, 0, 0, 0, 0, 0xff]), up: true, mtu: 1500 })
    }

    #[test]
    fn every_mode_has_its_list_and_down_ports_are_in_none() {
        let ports: Vec<_> = (0..).zip(Mode::ALL).map(|(n, mode)| rules(mode, n, true)).collect();
        let all = table(ports);
        for (id, mode) in (0..).zip(Mode::ALL) {
            assert_eq!(all.of_mode(mode), [id]);
        }
        let down = table(vec![rules(Mode::Bridge, 1, false)]);
        assert_eq!(down.of_mode(Mode::Bridge), [0; 0]);
        assert_eq!(down.find(Mac([2, 0, 0, 0, 0, 1])), None);
    }

    #[test]
    fn an_address_is_taken_by_the_parent_and_by_others_that_are_up() {
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let ports = vec![rules(Mode::Bridge, 1, true), rules(Mode::Bridge, 2, false)];
        let two = table(ports);
        assert!(two.is_taken(mac(1), 1) && !two.is_taken(mac(1), 0));
        assert!(!two.is_taken(mac(2), 0) && !two.is_taken(mac(3), 0));
        assert!(two.is_taken(mac(0xff), 0));
        assert!(!table(vec![rules(Mode::Passthru, 1, true)]).is_taken(mac(0xff), 0));
    }

    #[test]
    fn a_sender_listed_twice_is_listed_once_and_a_down_port_still_keeps_it() {
        let mut one = rules(Mode::Source, 1, true);
        one.sources = vec![SENDER, SENDER];
        let mut other = rules(Mode::Source, 2, false);
        other.sources = vec![SENDER];
        other.nodst = true;
        let mut bridge = rules(Mode::Bridge, 3, true);
        bridge.sources = vec![SENDER];
        let table = table(vec![one, other, bridge]);
        let sender = table.sender(SENDER).unwrap();
        assert_eq!(table.listing(sender.list), [0]);
        assert!(sender.nodst);
        assert!(table.sender(Mac([2, 0, 0, 0, 0, 1])).is_none());
    }
}
