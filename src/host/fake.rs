//! A host for unit tests: it answers from a list of devices, changes nothing and records every
//! verb.
//!
//! Its descriptors are the ends of pipes and sockets, so no test with it needs a privilege.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::error::{Error, Result};
use crate::host::address::HostAddress;
use crate::host::device_lock::{DeviceLock, LockName};
use crate::host::foresight::Foresight;
use crate::host::host_filter::{HostFilter, HostFilterRule};
use crate::host::link::LinkInfo;
use crate::host::mac_guard::MacGuard;
use crate::host::macvtap::Macvtap;
use crate::host::macvtap::upkeep::Difference;
use crate::host::parent::Parent;
use crate::host::spec::{MacvtapSpec, Wanted};
use crate::host::verbs::Host;
use crate::host::watch::LinkWatch;
use crate::net::mac::Mac;

/// The devices of a test's host, and the verbs that were called.
#[derive(Default)]
pub(crate) struct FakeHost {
    /// Its network devices.
    pub(crate) links: Vec<LinkInfo>,
    /// The verbs that change something, in their order.
    pub(crate) asked: Vec<String>,
}

impl FakeHost {
    fn find(&self, wanted: impl Fn(&LinkInfo) -> bool) -> Option<LinkInfo> {
        self.links.iter().find(|link| wanted(link)).cloned()
    }

    fn ask(&mut self, verb: String) {
        self.asked.push(verb);
    }

    fn lock() -> Result<DeviceLock> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        DeviceLock::take(&LockName::device(&format!("fake {} {count}", std::process::id())))
    }
}

impl Host for FakeHost {
    fn link_by_index(&mut self, index: u32) -> io::Result<Option<LinkInfo>> {
        Ok(self.find(|link| link.index == index))
    }

    fn link_by_name(&mut self, name: &str) -> io::Result<Option<LinkInfo>> {
        Ok(self.find(|link| link.is_called(name)))
    }

    fn link_given_as(&mut self, given: &str) -> io::Result<Option<LinkInfo>> {
        self.link_by_name(given)
    }

    fn parent_device(&mut self, name: &str) -> Result<LinkInfo> {
        let found = self.find(|link| link.is_called(name));
        found.ok_or_else(|| {
            Error::parent_missing(format!("parent {name}"), "there is none", "add one")
        })
    }

    fn parent(&mut self, name: &str) -> Result<Parent> {
        let link = self.parent_device(name)?;
        let of_link = |port: &&LinkInfo| port.is_port() && port.parent == Some(link.index);
        let siblings = self.links.iter().filter(of_link).cloned().collect();
        Ok(Parent { link, master: None, siblings })
    }

    fn address_holder(&mut self, _: &LinkInfo, _: Mac) -> io::Result<Option<String>> {
        Ok(None)
    }

    fn watch(&mut self) -> Result<LinkWatch> {
        LinkWatch::open()
    }

    fn foresee_kernel_port(&mut self, _: &mut Foresight, _: &MacvtapSpec) -> Result<()> {
        Ok(())
    }

    fn foresee_userspace_port(
        &mut self,
        _: &mut Foresight,
        _: &str,
        parent: &str,
        _: &Wanted<'_>,
    ) -> Result<LinkInfo> {
        self.parent_device(parent)
    }

    fn open_port(&mut self, spec: &MacvtapSpec) -> Result<Macvtap> {
        self.ask(format!("open port {} on {}", spec.name, spec.parent));
        let parent = self.parent_device(&spec.parent)?;
        let link = LinkInfo {
            index: 100 + self.links.len() as u32,
            name: spec.name.clone(),
            mac: spec.mac.unwrap_or(parent.mac),
            mtu: spec.mtu.unwrap_or(parent.mtu),
            up: true,
            kind: Some("macvtap".into()),
            parent: Some(parent.index),
            mode: Some(spec.mode),
            ..LinkInfo::default()
        };
        self.links.push(link.clone());
        let queue = |_| {
            let flags = SockFlag::SOCK_NONBLOCK;
            socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap().0
        };
        Ok(Macvtap::created_as(link, parent, (0..spec.queues).map(queue).collect(), Self::lock()?))
    }

    fn close_ports(&mut self, ports: Vec<Macvtap>) -> Vec<Error> {
        for mut port in ports {
            self.ask(format!("close port {}", port.name()));
            self.links.retain(|link| link.index != port.ifindex());
            port.closed = true;
        }
        Vec::new()
    }

    fn set_port_mac(&mut self, port: &mut Macvtap, mac: Mac) -> Result<()> {
        self.ask(format!("set MAC of port {} to {mac}", port.name()));
        port.link.mac = mac;
        Ok(())
    }

    fn repair_port(&mut self, port: &mut Macvtap, found: &[Difference]) -> Result<()> {
        let words: Vec<String> = found.iter().map(Difference::to_string).collect();
        self.ask(format!("repair port {} ({})", port.name(), words.join(", ")));
        let wanted = port.link.clone();
        self.links.iter_mut().filter(|link| link.index == wanted.index).for_each(|link| {
            link.clone_from(&wanted);
        });
        Ok(())
    }

    fn may_have_ipv6(&mut self, _: &Macvtap) -> bool {
        true
    }

    fn forbid_ipv6(&mut self, port: &Macvtap) -> Result<()> {
        self.ask(format!("forbid IPv6 on port {}", port.name()));
        Ok(())
    }

    fn delete_address(&mut self, address: &HostAddress) -> io::Result<()> {
        self.ask(format!("delete address {} of {}", address.ip, address.index));
        Ok(())
    }

    fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.ask(format!("set MTU of {index} to {mtu}"));
        Ok(())
    }

    fn open_parent(&mut self, name: &str, wanted: &Wanted<'_>) -> Result<(Parent, DeviceLock)> {
        self.ask(format!("open parent {name}"));
        let parent = self.parent(name)?;
        parent.check(wanted)?;
        Ok((parent, Self::lock()?))
    }

    fn set_mac(&mut self, index: u32, mac: Mac) -> io::Result<()> {
        self.ask(format!("set MAC of {index} to {mac}"));
        Ok(())
    }

    fn guard_mac(&mut self, index: u32, original: Mac) -> Result<MacGuard> {
        self.ask(format!("guard MAC {original} of {index}"));
        // There is no guardian: nothing reads the messages to it.
        let sink = File::options().write(true).open("/dev/null").unwrap();
        Ok(MacGuard::over(sink))
    }

    fn filter_host(&mut self, index: u32, rule: HostFilterRule<'_>) -> io::Result<HostFilter> {
        self.ask(format!("filter host on {index}: {rule:?}"));
        Ok(HostFilter::over(OwnedFd::from(File::open("/dev/null")?)))
    }

    fn receiving_socket(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sending_socket(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
