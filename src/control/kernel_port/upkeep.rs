//! Changes by another program to a port's device are put right.
//!
//! Network managers set up each device that they find: they set it up or down, give it addresses,
//! change its MTU. The kernel reports every change. This file compares it with the wanted device
//! (`host/macvtap/upkeep.rs` finds the differences), puts it right, and reports it in one line with
//! the remedy. `patience.rs` limits how often: two programs that correct each other would never
//! end. Settings that the configuration of an adopted device leaves open are taken over.
//!
//! What can go wrong: news is older than our own last change. Therefore the kernel is asked for the
//! present state before a setting is changed.

use std::net::IpAddr;
use std::time::Instant;

use crate::config::MacChoice;
use crate::control::patience::{Patience, RepairVerdict};
use crate::control::port_core::PortCore;
use crate::host::address::HostAddress;
use crate::host::link::LinkInfo;
use crate::host::macvtap::Macvtap;
use crate::host::macvtap::upkeep::{Difference, differences};
use crate::host::verbs::Host;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// The result of a query of the device.
pub(crate) enum Looked {
    /// This is its state by now. A new address is the port's own from now on.
    Shown { link: Box<LinkInfo>, own_mac: Option<Mac> },
    /// It has vanished.
    Vanished,
    /// The kernel does not answer.
    Unknown,
}

/// The upkeep of one port's device.
#[derive(Default)]
pub(crate) struct Upkeep {
    patience: Patience,
}

impl Upkeep {
    /// The time of the next check of a device that was left alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.patience.due()
    }

    /// The device has changed, or this is news of our own change.
    pub(crate) fn look_after(
        &mut self,
        core: &PortCore,
        device: &mut Macvtap,
        news: &LinkInfo,
        host: &mut dyn Host,
    ) -> Looked {
        if differences(device.wanted(), news).is_empty() {
            return Looked::Shown { link: Box::new(news.clone()), own_mac: None };
        }
        // News may be older than our own last change, and the parent's MTU may have changed first.
        if let Ok(Some(parent)) = host.link_by_index(device.parent_index()) {
            let wanted = wanted_mtu(core, device, parent.mtu);
            device.want_mtu(wanted);
        }
        let mut is = match host.link_by_index(device.ifindex()) {
            Ok(Some(is)) => is,
            Ok(None) => return Looked::Vanished,
            Err(error) => {
                core.data.log.warn(format_args!("its device: {error}"));
                return Looked::Unknown;
            }
        };
        let found = differences(device.wanted(), &is);
        let (open, ours): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|difference| is_open(core, device, difference));
        let mut own_mac = None;
        for difference in open {
            device.accept(&difference, &is);
            match difference {
                Difference::Mac(mac) => own_mac = Some(mac),
                Difference::Mtu(_) => {}
                other => core.data.log.info(format_args!(
                    "another program has changed its device ({other}), which its configuration leaves open"
                )),
            }
        }
        if !ours.is_empty() {
            self.repair(core, device, &ours, host);
            if let Ok(Some(now)) = host.link_by_index(device.ifindex()) {
                is = now;
            }
        }
        Looked::Shown { link: Box::new(is), own_mac }
    }

    fn repair(
        &mut self,
        core: &PortCore,
        device: &mut Macvtap,
        found: &[Difference],
        host: &mut dyn Host,
    ) {
        let name = device.name().to_owned();
        let words: Vec<String> = found.iter().map(Difference::to_string).collect();
        let result = match self.patience.judge(Instant::now()) {
            RepairVerdict::PutRight => host.repair_port(device, found),
            RepairVerdict::LeaveAlone => return,
            RepairVerdict::GiveUp => {
                return core.data.log.warn(format_args!(
                    "another program has changed its device {name} again ({}), for the sixth time in a \
                     minute; it is left alone for ten minutes; {}",
                    words.join(", "),
                    unmanaged(&name)
                ));
            }
        };
        match result {
            Ok(()) => core.data.log.warn(format_args!(
                "another program has changed its device {name} ({}); it was corrected; {}",
                words.join(", "),
                unmanaged(&name)
            )),
            Err(error) => core.data.log.warn(format_args!(
                "another program has changed its device {name} ({}): {error}",
                words.join(", ")
            )),
        }
    }

    /// The host has an address on the device, and would send on the guest's wire.
    pub(crate) fn take_away(
        &mut self,
        core: &PortCore,
        device: &Macvtap,
        address: &HostAddress,
        host: &mut dyn Host,
    ) {
        let ip = address.ip;
        // On an adopted device an IPv4 address is the user's own business: the host cannot use it
        // there.
        let spared = if ip.is_ipv4() { !device.created() } else { !host.may_have_ipv6(device) };
        if spared || self.patience.judge(Instant::now()) != RepairVerdict::PutRight {
            return;
        }
        let done = match ip {
            IpAddr::V4(_) => host.delete_address(address).map_err(|error| error.to_string()),
            IpAddr::V6(_) => host.forbid_ipv6(device).map_err(|error| error.to_string()),
        };
        let name = device.name();
        match done {
            Ok(()) => core.data.log.warn(format_args!(
                "another program has given its device {name} the host's address {ip}; it was \
                 removed; {}",
                unmanaged(name)
            )),
            Err(error) => core.data.log.warn(format_args!(
                "another program has given its device {name} the host's address {ip}: {error}"
            )),
        }
    }
}

/// The wanted MTU of the device on a parent with this one, in bytes.
pub(crate) fn wanted_mtu(core: &PortCore, device: &Macvtap, parent: u32) -> u32 {
    match core.config.mtu {
        Some(own) => own.min(parent),
        None if device.created() => parent,
        None => device.mtu().min(parent),
    }
}

/// Whether the configuration leaves this setting to the program that has changed it.
fn is_open(core: &PortCore, device: &Macvtap, difference: &Difference) -> bool {
    let adopted = !device.created();
    match difference {
        // A passthru port has its parent's address, also one that another program has set.
        Difference::Mac(_) => {
            core.config.mac == MacChoice::Auto && (adopted || core.config.mode == Mode::Passthru)
        }
        Difference::Mtu(_) => adopted && core.config.mtu.is_none(),
        Difference::QueueLength(frames) => adopted && *frames > 0,
        Difference::Sources => adopted && core.config.sources.is_empty(),
        Difference::Name(_) | Difference::Master | Difference::Alias => adopted,
        _ => false,
    }
}

/// The way to make network managers leave a device alone.
fn unmanaged(name: &str) -> String {
    format!(
        "make it an unmanaged device (NetworkManager: unmanaged-devices=interface-name:{name}; \
         systemd-networkd: Unmanaged=yes; see docs/operations.md)"
    )
}
