//! A macvtap port: the kernel device and its open queues. The end of both is in `closing.rs`.
//!
//! The order in which a device comes up is the point of this file. A macvtap without an attached
//! queue passes its frames to the host's stack, which would answer for the guest; right after an
//! open all offloads are on, though no guest has agreed to any. So:
//!
//! 1. the device's lock: no other process uses the device (`device_lock.rs`);
//! 2. a leftover of a killed process is deleted; the parent and the siblings are judged
//!    (`parent.rs`);
//! 3. the device is created, down, and marked by its alias; or one that fits is adopted (`adopt.rs`);
//! 4. the host is quiesced on it (`quiesce.rs`), and gets its MAC, MTU and sources;
//! 5. all queues are opened (`device_node.rs`), and the offloads switched off;
//! 6. it goes up. Only now does the kernel compare MAC addresses (EADDRINUSE).
//!
//! If a step fails, all steps before it are undone. At the end a created device is deleted (by
//! which the kernel gives a passthru parent its own MAC address back), an adopted one put back.
//! `watch.rs` notices a device that vanishes later (with its parent, or deleted by a user); the
//! queues do not. `close` then succeeds, and a new `open` starts over.

pub mod closing;
pub(crate) mod upkeep;

use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::host::adopt::Before;
use crate::host::create::{create, lookup};
use crate::host::device_lock::{DeviceLock, LockName};
use crate::host::device_node::Node;
use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;
use crate::host::parent::Parent;
use crate::host::quiesce::HostQuiesce;
use crate::host::spec::{MacvtapSpec, Wanted};
use crate::host::{adopt, refusal, tap_setup};
use crate::net::mac::Mac;

/// A macvtap device in use, to be ended with [`Macvtap::close`].
#[derive(Debug)]
pub struct Macvtap {
    pub(crate) link: LinkInfo,
    parent: LinkInfo,
    pub(crate) before: Option<Before>,
    pub(crate) queues: Vec<OwnedFd>,
    pub(crate) closed: bool,
    _owner: DeviceLock,
    /// The right to an adopted device under the kernel's name, if the user gave an alternative one.
    _by_name: Option<DeviceLock>,
}

impl Macvtap {
    /// Creates the device, or adopts the one of that name, and opens its queues. The calling thread
    /// must be in the network namespace of `netlink`.
    ///
    /// Errors name the obstacle; nothing is left behind then.
    pub fn open(netlink: &mut Netlink, spec: &MacvtapSpec) -> Result<Macvtap> {
        let owner = DeviceLock::take(&LockName::device(&spec.name))?;
        let mut existing = lookup(netlink, &spec.name)?;
        let by_name = match &existing {
            Some(link) if link.name != spec.name => {
                Some(DeviceLock::take(&LockName::device(&link.name))?)
            }
            _ => None,
        };
        if let Some(leftover) = existing.take_if(|link| adopt::is_leftover(link)) {
            log::info!("macvtap {}: replacing what a killed process has left", spec.name);
            netlink
                .delete(leftover.index)
                .map_err(|error| refusal::of(&spec.name, "removing what is left of it", &error))?;
        }
        let parent = Parent::find(netlink, &spec.parent, &spec.name)?;
        let object = format!("macvtap {}", spec.name);
        let wanted = Wanted::of(spec, &object);
        if let Some(existing) = &existing {
            adopt::check(existing, &parent, spec)?;
        }
        parent.check(&wanted)?;
        parent.warn();
        let (link, before) = match existing {
            Some(existing) => (existing.clone(), Some(Before::new(existing))),
            None => (create(netlink, spec, &parent, &wanted)?, None),
        };
        let mut port = Macvtap {
            link,
            parent: parent.link,
            before,
            queues: Vec::new(),
            closed: false,
            _owner: owner,
            _by_name: by_name,
        };
        match port.bring_up(netlink, spec) {
            Ok(()) => Ok(port),
            Err(error) => {
                if let Err(undo) = port.close(netlink) {
                    log::warn!("{undo}");
                }
                Err(error)
            }
        }
    }

    /// A device that was created, for tests of what uses one.
    #[cfg(test)]
    pub(crate) fn created_as(
        link: LinkInfo,
        parent: LinkInfo,
        queues: Vec<OwnedFd>,
        lock: DeviceLock,
    ) -> Macvtap {
        let (before, closed) = (None, false);
        Macvtap { link, parent, before, queues, closed, _owner: lock, _by_name: None }
    }

    /// Steps 4 to 6.
    fn bring_up(&mut self, netlink: &mut Netlink, spec: &MacvtapSpec) -> Result<()> {
        let index = self.link.index;
        let quiesce = HostQuiesce::impose(netlink, &self.link, self.created())
            .map_err(|error| self.failed("quiescing it", &error))?;
        if let Some(before) = &mut self.before {
            before.quiesced(quiesce);
        }
        if let Some(mac) = spec.mac
            && mac != self.link.mac
        {
            self.set_mac(netlink, mac)?;
        }
        if let Some(mtu) = spec.mtu
            && mtu != self.link.mtu
        {
            netlink.set_mtu(index, mtu).map_err(|error| self.failed("setting its MTU", &error))?;
        }
        if !spec.sources.is_empty() && !self.created() {
            netlink
                .set_sources(index, &spec.sources)
                .map_err(|error| self.failed("setting its sources", &error))?;
        }
        self.read_back(netlink)?;
        let node = Node::find(&self.link)?;
        for _ in 0..spec.queues.max(1) {
            self.queues.push(node.open()?);
        }
        // The setting is the device's: any of its queues will do.
        if let Some(queue) = self.queues.first() {
            tap_setup::no_offloads(queue)
                .map_err(|error| self.failed("setting its offloads", &error))?;
        }
        if !self.link.up
            && let Err(error) = netlink.set_up(index, true)
        {
            return Err(self.mac_clash(netlink, self.link.mac, "bringing it up", &error));
        }
        self.read_back(netlink)
    }

    /// Takes over the kernel's description of the device.
    fn read_back(&mut self, netlink: &mut Netlink) -> Result<()> {
        match netlink.link_by_index(self.link.index) {
            Ok(Some(link)) => {
                self.link = link;
                Ok(())
            }
            Ok(None) => Err(self.gone()),
            Err(error) => Err(self.failed("looking it up", &error)),
        }
    }

    /// The queues, one per queue pair, all attached after `open`; none once they were taken.
    pub fn queues(&self) -> &[OwnedFd] {
        &self.queues
    }

    /// Hands the queues over, for `uplink/tap.rs` to read and write. Their holder closes them.
    pub fn take_queues(&mut self) -> Vec<OwnedFd> {
        mem::take(&mut self.queues)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// The device's interface index.
    pub fn ifindex(&self) -> u32 {
        self.link.index
    }

    /// The device's MAC address, as last set through here.
    pub fn mac(&self) -> Mac {
        self.link.mac
    }

    /// The MTU that is wanted for it, in bytes.
    pub fn mtu(&self) -> u32 {
        self.link.mtu
    }

    /// The (real) parent, as it was at `open`.
    pub fn parent(&self) -> &LinkInfo {
        &self.parent
    }

    /// The parent's interface index.
    pub fn parent_index(&self) -> u32 {
        self.parent.index
    }

    /// True when the device was created here, false when it was adopted.
    pub fn created(&self) -> bool {
        self.before.is_none()
    }

    /// Changes the MAC address; in passthru mode the parent's with it.
    ///
    /// Errors name the device that has the address already.
    pub fn set_mac(&mut self, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        if let Err(error) = netlink.set_mac(self.link.index, mac) {
            return Err(self.mac_clash(netlink, mac, "setting its MAC address", &error));
        }
        self.link.mac = mac;
        Ok(())
    }

    /// The error for EADDRINUSE, naming the holder of the address; other errors in their own words.
    fn mac_clash(&self, netlink: &mut Netlink, mac: Mac, what: &str, error: &io::Error) -> Error {
        if error.raw_os_error() != Some(libc::EADDRINUSE) {
            return self.failed(what, error);
        }
        let parent = Parent::find(netlink, &self.parent.name, &self.link.name).ok();
        refusal::of_address(&self.link.name, mac, parent.and_then(|parent| parent.holder(mac)))
    }

    pub(crate) fn failed(&self, what: &str, error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENOLINK) => self.gone(),
            _ => refusal::of(&self.link.name, what, error),
        }
    }

    fn gone(&self) -> Error {
        refusal::gone(&self.link.name, &self.parent.name)
    }
}
