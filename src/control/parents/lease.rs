//! A parent that exists, with this process's right to it.
//!
//! Every change on the host hangs on a descriptor of this process and ends with it, in any way: the
//! right to the parent with a listening socket, the host's filters with the links of their
//! programs, filters and promiscuity with the uplink queues' sockets. The one exception is the MAC
//! address of a passthru parent that has adopted its guest's; a guardian process puts that back
//! ([`MacGuard`]).

use std::io;

use crate::control::parents::bridge_port::BridgePort;
use crate::control::parents::host_filters::HostFilters;
use crate::error::{Error, Result};
use crate::host::device_lock::DeviceLock;
use crate::host::link::LinkInfo;
use crate::host::mac_guard::MacGuard;
use crate::host::parent::Parent;
use crate::host::spec::Wanted;
use crate::host::verbs::Host;
use crate::net::mac::Mac;

/// The address of a guest on its parent.
struct BorrowedMac {
    own: Mac,
    given: Mac,
    guard: MacGuard,
}

/// A parent that this process holds.
pub struct ParentLease {
    /// The device, by its last news.
    pub link: LinkInfo,
    /// The frames that the host does not receive.
    pub host_filters: HostFilters,
    /// The kernel's answer about the device and its own ports, while it is valid.
    seen: Option<Parent>,
    borrowed: Option<BorrowedMac>,
    _owner: DeviceLock,
}

impl ParentLease {
    /// Takes the device `name` for ports with these demands.
    ///
    /// # Errors
    /// It does not exist, another process has it, or it cannot have such ports.
    pub fn take(name: &str, wanted: &Wanted<'_>, host: &mut dyn Host) -> Result<ParentLease> {
        let (parent, owner) = host.open_parent(name, wanted)?;
        let (link, seen) = (parent.link.clone(), Some(parent));
        Ok(ParentLease {
            link,
            host_filters: HostFilters::default(),
            seen,
            borrowed: None,
            _owner: owner,
        })
    }

    /// Refuses demands that cannot be met beside the parent and the kernel's own ports. The kernel
    /// is asked for those once, until [`ParentLease::look_again`]: a thousand ports that come
    /// together ask three questions, not three thousand.
    pub fn check(&mut self, wanted: &Wanted<'_>, host: &mut dyn Host) -> Result<()> {
        let seen = match &mut self.seen {
            Some(seen) => seen,
            seen => seen.insert(host.parent(&self.link.name)?),
        };
        seen.check(wanted)
    }

    /// The kernel's own ports on the parent, and the bridge or the like that it is a port of, as
    /// seen when it was taken.
    pub fn seen(&self) -> Option<&Parent> {
        self.seen.as_ref()
    }

    /// The earlier answer about the kernel's ports may not be true any more.
    pub fn look_again(&mut self) {
        self.seen = None;
    }

    /// True when the parent is up and has carrier.
    pub fn is_up(&self) -> bool {
        self.link.up && self.link.running
    }

    /// News about the device. Returns its former description.
    pub fn update(&mut self, link: &LinkInfo) -> LinkInfo {
        // Another program has given it an address: that one stays.
        self.borrowed.take_if(|borrowed| borrowed.given != link.mac);
        std::mem::replace(&mut self.link, link.clone())
    }

    /// Whether the device has its own address, not a guest's.
    pub fn has_own_mac(&self) -> bool {
        self.borrowed.is_none()
    }

    /// Gives the parent a guest's address, or its own back.
    ///
    /// # Errors
    /// The guardian cannot be started, or the device does not take the address.
    pub fn set_mac(&mut self, host: &mut dyn Host, mac: Mac) -> Result<()> {
        let own = self.borrowed.as_ref().map_or(self.link.mac, |borrowed| borrowed.own);
        if let Some(borrowed) = &mut self.borrowed {
            borrowed.guard.announce(mac).map_err(|error| self.refused(mac, &error))?;
        } else if mac != own {
            // Before the change: if this process is killed afterwards, it is undone.
            let mut guard = host.guard_mac(self.link.index, own)?;
            guard.announce(mac).map_err(|error| self.refused(mac, &error))?;
            self.borrowed = Some(BorrowedMac { own, given: own, guard });
        }
        host.set_mac(self.link.index, mac).map_err(|error| self.refused(mac, &error))?;
        self.link.mac = mac;
        match &mut self.borrowed {
            Some(borrowed) if mac != own => borrowed.given = mac,
            _ => self.borrowed = None,
        }
        Ok(())
    }

    /// Gives the parent the address that the user chose for its passthru port, as the kernel does.
    ///
    /// # Errors
    /// Those of [`ParentLease::set_mac`].
    pub fn give(&mut self, member: &BridgePort, host: &mut dyn Host) -> Result<()> {
        match member.chosen_mac() {
            Some(mac) if mac != self.link.mac => self.set_mac(host, mac),
            _ => Ok(()),
        }
    }

    /// Gives the parent its own address back, if it has a guest's.
    ///
    /// # Errors
    /// The device does not take it.
    pub fn give_back_mac(&mut self, host: &mut dyn Host) -> Result<()> {
        match &self.borrowed {
            Some(borrowed) => {
                let own = borrowed.own;
                self.set_mac(host, own)
            }
            None => Ok(()),
        }
    }

    fn refused(&self, mac: Mac, error: &io::Error) -> Error {
        Error::system(
            format!("parent {}", self.link.name),
            format!("its address cannot become {mac}: {error}"),
            "see whether its driver allows that: ip link set DEV address MAC",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::host::link::ETHERNET;
    use crate::net::mode::Mode;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn host() -> FakeHost {
        let link = LinkInfo {
            index: 7,
            name: "eth0".into(),
            mac: OWN,
            mtu: 1500,
            hardware: ETHERNET,
            ..LinkInfo::default()
        };
        FakeHost { links: vec![link], ..FakeHost::default() }
    }

    fn wanted() -> Wanted<'static> {
        Wanted { object: "port vm1", mode: Mode::Passthru, mac: None, mtu: None }
    }

    #[test]
    fn a_guardian_watches_before_the_address_changes_and_leaves_when_it_is_back() {
        let mut host = host();
        let mut lease = ParentLease::take("eth0", &wanted(), &mut host).unwrap();
        lease.set_mac(&mut host, GUEST).unwrap();
        assert!(!lease.has_own_mac());
        // A second change needs no second guardian.
        lease.set_mac(&mut host, Mac([2, 0, 0, 0, 0, 3])).unwrap();
        lease.give_back_mac(&mut host).unwrap();
        assert!(lease.has_own_mac());
        let expected = [
            "open parent eth0",
            "guard MAC 02:00:00:00:00:01 of 7",
            "set MAC of 7 to 02:00:00:00:00:02",
            "set MAC of 7 to 02:00:00:00:00:03",
            "set MAC of 7 to 02:00:00:00:00:01",
        ];
        assert_eq!(host.asked, expected);
    }

    #[test]
    fn an_address_that_another_program_has_set_stays() {
        let mut host = host();
        let mut lease = ParentLease::take("eth0", &wanted(), &mut host).unwrap();
        lease.set_mac(&mut host, GUEST).unwrap();
        let other = LinkInfo { mac: Mac([2, 0, 0, 0, 0, 9]), ..lease.link.clone() };
        lease.update(&other);
        lease.give_back_mac(&mut host).unwrap();
        assert_eq!(host.asked.len(), 3, "{:?}", host.asked);
    }
}
