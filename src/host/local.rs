//! The host, reached from this very process: the verbs of [`Host`] by netlink, sysfs and system
//! calls.
//!
//! A network namespace belongs to a thread. The control thread makes the value and calls it, so all
//! verbs mean that thread's namespace.

use std::io;
use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::host::address::HostAddress;
use crate::host::device_lock::{DeviceLock, LockName};
use crate::host::foresight::Foresight;
use crate::host::host_filter::{HostFilter, HostFilterRule};
use crate::host::link::LinkInfo;
use crate::host::mac_guard::MacGuard;
use crate::host::macvtap::Macvtap;
use crate::host::macvtap::closing::close_all;
use crate::host::macvtap::upkeep::Difference;
use crate::host::neighbours::Neighbours;
use crate::host::netlink::Netlink;
use crate::host::packet_socket;
use crate::host::parent::Parent;
use crate::host::spec::{MacvtapSpec, Wanted};
use crate::host::verbs::Host;
use crate::host::watch::LinkWatch;
use crate::net::mac::Mac;

/// The host, without a process in between.
#[derive(Debug)]
pub struct LocalHost {
    netlink: Netlink,
    neighbours: Neighbours,
}

impl LocalHost {
    /// The calling thread's network namespace.
    ///
    /// # Errors
    /// There can be no netlink socket.
    pub fn open() -> Result<LocalHost> {
        Ok(LocalHost { netlink: Netlink::open()?, neighbours: Neighbours::default() })
    }
}

impl Host for LocalHost {
    fn link_by_index(&mut self, index: u32) -> io::Result<Option<LinkInfo>> {
        self.netlink.link_by_index(index)
    }

    fn link_by_name(&mut self, name: &str) -> io::Result<Option<LinkInfo>> {
        self.netlink.link_by_name(name)
    }

    fn link_given_as(&mut self, given: &str) -> io::Result<Option<LinkInfo>> {
        self.netlink.link_given_as(given)
    }

    fn parent_device(&mut self, name: &str) -> Result<LinkInfo> {
        Parent::device(&mut self.netlink, name)
    }

    fn parent(&mut self, name: &str) -> Result<Parent> {
        Parent::find(&mut self.netlink, name, "")
    }

    fn address_holder(&mut self, parent: &LinkInfo, mac: Mac) -> io::Result<Option<String>> {
        let holder = self.neighbours.holder(&mut self.netlink, parent, mac)?;
        Ok(holder.map(str::to_owned))
    }

    fn watch(&mut self) -> Result<LinkWatch> {
        LinkWatch::open()
    }

    fn foresee_kernel_port(&mut self, ports: &mut Foresight, spec: &MacvtapSpec) -> Result<()> {
        ports.kernel_port(&mut self.netlink, spec)
    }

    fn foresee_userspace_port(
        &mut self,
        ports: &mut Foresight,
        name: &str,
        parent: &str,
        wanted: &Wanted<'_>,
    ) -> Result<LinkInfo> {
        ports.userspace_port(&mut self.netlink, name, parent, wanted)
    }

    fn open_port(&mut self, spec: &MacvtapSpec) -> Result<Macvtap> {
        Macvtap::open(&mut self.netlink, spec)
    }

    fn close_ports(&mut self, ports: Vec<Macvtap>) -> Vec<Error> {
        close_all(ports, &mut self.netlink)
    }

    fn set_port_mac(&mut self, port: &mut Macvtap, mac: Mac) -> Result<()> {
        port.set_mac(&mut self.netlink, mac)
    }

    fn repair_port(&mut self, port: &mut Macvtap, found: &[Difference]) -> Result<()> {
        port.repair(&mut self.netlink, found)
    }

    fn may_have_ipv6(&mut self, port: &Macvtap) -> bool {
        port.has_ipv6()
    }

    fn forbid_ipv6(&mut self, port: &Macvtap) -> Result<()> {
        port.forbid_ipv6()
    }

    fn delete_address(&mut self, address: &HostAddress) -> io::Result<()> {
        self.netlink.delete_address(address)
    }

    fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.netlink.set_mtu(index, mtu)
    }

    fn open_parent(&mut self, name: &str, wanted: &Wanted<'_>) -> Result<(Parent, DeviceLock)> {
        let found = Parent::device(&mut self.netlink, name)?;
        let lock = DeviceLock::take(&LockName::parent(&found.name, found.index))?;
        // A predecessor that was killed may have left the parent with its guest's address: its
        // guardian puts that right, and only then is the address the parent's own.
        MacGuard::settle(found.index)?;
        let parent = Parent::find(&mut self.netlink, name, "")?;
        parent.check(wanted)?;
        parent.warn();
        Ok((parent, lock))
    }

    fn set_mac(&mut self, index: u32, mac: Mac) -> io::Result<()> {
        self.netlink.set_mac(index, mac)
    }

    fn guard_mac(&mut self, index: u32, original: Mac) -> Result<MacGuard> {
        MacGuard::start(index, original)
    }

    fn filter_host(&mut self, index: u32, rule: HostFilterRule<'_>) -> io::Result<HostFilter> {
        HostFilter::attach(index, rule)
    }

    fn receiving_socket(&mut self) -> io::Result<OwnedFd> {
        packet_socket::receiving()
    }

    fn sending_socket(&mut self) -> io::Result<OwnedFd> {
        packet_socket::sending()
    }
}
