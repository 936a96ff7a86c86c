//! The control side's requests to the host: every call that needs a privilege, in one trait.
//!
//! The control side holds facts and descriptors; the host does the rest. Arguments and results are
//! plain data ([`MacvtapSpec`], [`LinkInfo`], [`Difference`]) or stand for descriptors: a
//! [`Macvtap`] is facts, a lock and tap queues, a [`DeviceLock`] is a listening socket, a
//! [`HostFilter`] a BPF link, a [`MacGuard`] a pipe. No verb takes a callback, and none concerns a
//! frame. So a process of its own, which keeps the privileges while the rest gives them up, can
//! stand behind the trait: descriptors pass over a Unix socket, and the rest is a message.
//!
//! [`LocalHost`](crate::host::local::LocalHost) does it in this process, by netlink.

use std::io;
use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::host::address::HostAddress;
use crate::host::device_lock::DeviceLock;
use crate::host::foresight::Foresight;
use crate::host::host_filter::{HostFilter, HostFilterRule};
use crate::host::link::LinkInfo;
use crate::host::mac_guard::MacGuard;
use crate::host::macvtap::Macvtap;
use crate::host::macvtap::upkeep::Difference;
use crate::host::parent::Parent;
use crate::host::spec::{MacvtapSpec, Wanted};
use crate::host::watch::LinkWatch;
use crate::net::mac::Mac;

/// The host, as the control side sees it.
pub trait Host {
    /// The device with that index, if there is one.
    fn link_by_index(&mut self, index: u32) -> io::Result<Option<LinkInfo>>;

    /// The device of exactly that name or alternative name, if there is one.
    fn link_by_name(&mut self, name: &str) -> io::Result<Option<LinkInfo>>;

    /// The device that the user means by `given`: also "mac0@eth0", as `ip` prints it.
    fn link_given_as(&mut self, given: &str) -> io::Result<Option<LinkInfo>>;

    /// Only the device that carries the ports of parent `name`: the real parent where a macvlan is
    /// named.
    fn parent_device(&mut self, name: &str) -> Result<LinkInfo>;

    /// The parent `name` with its master and all kernel ports that it carries.
    fn parent(&mut self, name: &str) -> Result<Parent>;

    /// Which machine has the address on this parent, in words, if the host knows.
    fn address_holder(&mut self, parent: &LinkInfo, mac: Mac) -> io::Result<Option<String>>;

    /// Subscribes to news of devices and addresses.
    fn watch(&mut self) -> Result<LinkWatch>;

    /// Judges a port of a kernel device beside those that were judged before.
    fn foresee_kernel_port(&mut self, ports: &mut Foresight, spec: &MacvtapSpec) -> Result<()>;

    /// Judges the port `name` in userspace likewise. Returns its parent.
    fn foresee_userspace_port(
        &mut self,
        ports: &mut Foresight,
        name: &str,
        parent: &str,
        wanted: &Wanted<'_>,
    ) -> Result<LinkInfo>;

    /// Creates or adopts a port's kernel device and opens its queues.
    fn open_port(&mut self, spec: &MacvtapSpec) -> Result<Macvtap>;

    /// Ends the use of kernel devices: a created one is deleted, an adopted one put back. Goes on
    /// after a failure; returns all of them.
    fn close_ports(&mut self, ports: Vec<Macvtap>) -> Vec<Error>;

    /// Gives a port's device another address; in passthru mode the parent with it.
    fn set_port_mac(&mut self, port: &mut Macvtap, mac: Mac) -> Result<()>;

    /// Sets again the settings of a port's device that another program has changed.
    fn repair_port(&mut self, port: &mut Macvtap, found: &[Difference]) -> Result<()>;

    /// Whether the host may have IPv6 addresses on a port's device.
    fn may_have_ipv6(&mut self, port: &Macvtap) -> bool;

    /// Takes the host's IPv6 addresses off a port's device again.
    fn forbid_ipv6(&mut self, port: &Macvtap) -> Result<()>;

    /// Takes an address of the host's off its device.
    fn delete_address(&mut self, address: &HostAddress) -> io::Result<()>;

    /// Sets a device's MTU, in bytes.
    fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()>;

    /// Takes a parent for userspace ports with these demands: returns the right to it, and its
    /// facts.
    fn open_parent(&mut self, name: &str, wanted: &Wanted<'_>) -> Result<(Parent, DeviceLock)>;

    /// Sets a device's hardware address.
    fn set_mac(&mut self, index: u32, mac: Mac) -> io::Result<()>;

    /// Starts a guardian, which gives a device its address back when this process has ended.
    fn guard_mac(&mut self, index: u32, original: Mac) -> Result<MacGuard>;

    /// Keeps frames of a device from the host's own stack, for as long as the filter is kept.
    fn filter_host(&mut self, index: u32, rule: HostFilterRule<'_>) -> io::Result<HostFilter>;

    /// Opens a packet socket to receive by, which is not bound yet.
    fn receiving_socket(&mut self) -> io::Result<OwnedFd>;

    /// Opens a packet socket to send by, which is not bound yet.
    fn sending_socket(&mut self) -> io::Result<OwnedFd>;
}
