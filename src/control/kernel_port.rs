//! A port's kernel device; the port survives its loss, and changes that other programs make to it.
//!
//! The device may vanish (its parent was removed, another program deleted it) and is made again
//! when that is possible. In between the queue pairs stay, without a tap behind them, and a
//! connected guest keeps its rings: it sees a network without traffic, not a dead back-end.
//!
//! Another program may set the device down or change it. The kernel reports it, and within a moment
//! the control thread puts it right (`control/kernel_port/upkeep.rs`). A device that stays down is
//! as good as none: the tap is taken away from the pairs, so that a frame for it counts as `no
//! device` and not as sent.
//!
//! The parent is the device that the configured name stood for when the port was made: it may be
//! renamed meanwhile. The name is looked up again only after the parent has vanished.

pub(crate) mod device_state;
pub(crate) mod upkeep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;

use crate::config::PortConfig;
use crate::control::deadline::sooner;
use crate::control::kernel_port::device_state::{DeviceEvent, DeviceState, Taps};
use crate::control::kernel_port::upkeep::{Looked, Upkeep, wanted_mtu};
use crate::control::port_core::PortCore;
use crate::control::port_mac;
use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::macvtap::Macvtap;
use crate::host::spec::MacvtapSpec;
use crate::host::verbs::Host;
use crate::host::watch::LinkEvent;
use crate::net::mac::Mac;
use crate::process::threads;
use crate::uplink::tap::TapQueue;

/// Pause between two attempts to make a lost device again.
const DEVICE_RETRY: Duration = Duration::from_secs(1);

/// The kernel device of a port.
pub struct KernelPort {
    device: Option<Macvtap>,
    /// Its queues, one per queue pair.
    queues: Vec<Arc<TapQueue>>,
    own_mac: Mac,
    retry: Option<Instant>,
    /// The last reported reason why a lost device could not be made again.
    complaint: Option<String>,
    /// Index and name of the parent, as long as it exists.
    parent: Option<(u32, String)>,
    parent_up: Option<bool>,
    state: DeviceState,
    upkeep: Upkeep,
}

impl KernelPort {
    /// Puts a new device behind the port.
    pub fn start(core: &PortCore, device: Macvtap) -> KernelPort {
        let own_mac = device.mac();
        let mut port = KernelPort {
            device: None,
            queues: Vec::new(),
            own_mac,
            retry: None,
            complaint: None,
            parent: None,
            parent_up: None,
            state: DeviceState::Lost,
            upkeep: Upkeep::default(),
        };
        port.use_device(core, device);
        port
    }

    fn use_device(&mut self, core: &PortCore, mut device: Macvtap) {
        self.own_mac = device.mac();
        core.data.set_device(device.mac(), device.mtu());
        let queues = device.take_queues().into_iter().map(TapQueue::new).map(Arc::new);
        self.queues = queues.collect();
        info!(
            "port {}: {} macvtap {} on {}, {} mode, MAC {}, MTU {}",
            core.name(),
            if device.created() { "created" } else { "adopted" },
            device.wanted().known_as(core.name()),
            device.parent().known_as(&core.config.parent),
            core.config.mode,
            device.mac(),
            device.mtu()
        );
        self.parent = Some((device.parent_index(), device.parent().name.clone()));
        self.device = Some(device);
        self.step(core, DeviceEvent::Remade);
        self.retry = None;
        self.complaint = None;
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self) -> Mac {
        self.own_mac
    }

    /// The parent, as it was when the device was made.
    pub fn parent(&self) -> Option<LinkInfo> {
        self.device.as_ref().map(|device| device.parent().clone())
    }

    /// Gives the device another address.
    pub fn set_mac(&mut self, core: &PortCore, host: &mut dyn Host, mac: Mac) -> Result<()> {
        let Some(device) = &mut self.device else {
            return Err(Error::device_missing(
                format!("port {}", core.name()),
                "its device has vanished",
                "see the log for what it waits for",
            ));
        };
        host.set_port_mac(device, mac)?;
        core.data.set_device(mac, core.data.mtu());
        Ok(())
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, core: &PortCore, event: &LinkEvent, host: &mut dyn Host) {
        let log = &core.data.log;
        let own = self.device.as_ref().map(Macvtap::ifindex);
        let parent = self.parent.as_ref().map(|(index, _)| *index);
        match event {
            LinkEvent::Gone { index, .. } if Some(*index) == own => self.lose(core, host),
            LinkEvent::Gone { index, name } if Some(*index) == parent => {
                log.warn(format_args!("its parent {name} has vanished"));
                self.parent = None;
            }
            LinkEvent::Changed(link) if Some(link.index) == own => {
                self.look_after(core, link, host);
            }
            LinkEvent::Changed(link) if Some(link.index) == parent => {
                self.parent_changed(core, link, host);
            }
            LinkEvent::Changed(link) if parent.is_none() && link.is_called(&core.config.parent) => {
                self.retry = self.retry.map(|_| Instant::now());
            }
            LinkEvent::Addressed(address) if Some(address.index) == own => {
                if let Some(device) = &self.device {
                    self.upkeep.take_away(core, device, address, host);
                }
            }
            // Some news was lost: query the device and the parent.
            LinkEvent::Overrun => self.look(core, host),
            _ => {}
        }
    }

    /// Processes a change of the device.
    fn look_after(&mut self, core: &PortCore, news: &LinkInfo, host: &mut dyn Host) {
        let Some(device) = &mut self.device else { return };
        match self.upkeep.look_after(core, device, news, host) {
            Looked::Shown { link, own_mac } => {
                self.own_mac = own_mac.unwrap_or(self.own_mac);
                self.show(core, &link);
            }
            Looked::Vanished => self.lose(core, host),
            Looked::Unknown => {}
        }
    }

    /// Queries the kernel for the state of the device and its parent.
    fn look(&mut self, core: &PortCore, host: &mut dyn Host) {
        if let Some((index, name)) = self.parent.clone() {
            match host.link_by_index(index) {
                Ok(Some(link)) => self.parent_changed(core, &link, host),
                Ok(None) => self.note(core, &LinkEvent::Gone { index, name }, host),
                Err(error) => core.data.log.warn(format_args!("{name}: {error}")),
            }
        }
        let Some(index) = self.device.as_ref().map(Macvtap::ifindex) else { return };
        match host.link_by_index(index) {
            Ok(Some(link)) => self.look_after(core, &link, host),
            Ok(None) => self.lose(core, host),
            Err(error) => core.data.log.warn(format_args!("its device: {error}")),
        }
    }

    fn parent_changed(&mut self, core: &PortCore, link: &LinkInfo, host: &mut dyn Host) {
        let log = &core.data.log;
        if let Some((_, name)) = &mut self.parent
            && *name != link.name
        {
            log.info(format_args!("its parent {name} was renamed to {}", link.name));
            name.clone_from(&link.name);
        }
        let up = link.up && link.running;
        if self.parent_up.replace(up).is_some_and(|was| was != up) {
            let word = if up { "is up again" } else { "is down" };
            log.info(format_args!("its parent {} {word}", link.name));
        }
        // The kernel lowers its ports' MTU with the parent's, but never raises it again.
        let Some(device) = &mut self.device else { return };
        let wanted = wanted_mtu(core, device, link.mtu);
        if wanted == device.mtu() {
            return;
        }
        device.want_mtu(wanted);
        // The device's own news, which follow, update all other parts.
        if let Err(error) = host.set_mtu(device.ifindex(), wanted) {
            log.warn(format_args!("cannot follow its parent to MTU {wanted}: {error}"));
        }
    }

    /// The device is in this state: the workers get it.
    fn show(&mut self, core: &PortCore, is: &LinkInfo) {
        let Some(device) = &self.device else { return };
        let (mac, mtu) = (device.mac(), is.mtu);
        if (core.data.mac(), core.data.mtu()) != (mac, mtu) {
            core.data.set_device(mac, mtu);
            core.data.log.info(format_args!("now has MAC {mac}, MTU {mtu}"));
        }
        self.step(core, if is.up { DeviceEvent::Up } else { DeviceEvent::Down });
    }

    /// Takes note of an event, and puts the device's queues behind the pairs or takes them away.
    fn step(&mut self, core: &PortCore, event: DeviceEvent) {
        let (next, taps) = self.state.after(event);
        self.state = next;
        let queues = match taps {
            Taps::Keep => return,
            Taps::Give => self.queues.as_slice(),
            Taps::Take => &[],
        };
        core.attachment.set_taps(queues, &core.pairs, core.name());
    }

    fn lose(&mut self, core: &PortCore, host: &mut dyn Host) {
        let Some(device) = self.device.take() else { return };
        core.data.log.warn(format_args!(
            "its device {} has vanished; it is made again when {} is back",
            device.name(),
            core.config.parent
        ));
        self.step(core, DeviceEvent::Vanished);
        let queues = std::mem::take(&mut self.queues);
        for error in give_back([UsedDevice { device, queues }], host) {
            core.data.log.warn(format_args!("{error}"));
        }
        self.parent_up = None;
        self.retry = Some(Instant::now());
    }

    /// Makes a lost device again, if that is due and possible, and looks after one that was left
    /// alone. Returns when to ask again.
    pub fn restore(
        &mut self,
        core: &PortCore,
        host: &mut dyn Host,
        now: Instant,
    ) -> Option<Instant> {
        if self.upkeep.due().is_some_and(|due| due <= now) && self.device.is_some() {
            self.look(core, host);
        }
        let rest = self.upkeep.due().filter(|due| *due > now && self.device.is_some());
        let Some(due) = self.retry else { return rest };
        if due > now {
            return sooner(rest, Some(due));
        }
        self.retry = Some(now + DEVICE_RETRY);
        // Without its parent there is no point in trying: the kernel reports when it comes.
        if let Some(parent) = self.find_parent(core, host) {
            let spec = spec(&core.config, host).map(|spec| MacvtapSpec { parent, ..spec });
            match spec.and_then(|spec| host.open_port(&spec)) {
                Ok(device) => self.use_device(core, device),
                // Tried once a second for as long as it stays so: not worth a line each time.
                Err(error) => {
                    let complaint = Some(error.to_string());
                    if self.complaint != complaint {
                        core.data.log.warn(format_args!("{error}"));
                        self.complaint = complaint;
                    }
                }
            }
        }
        sooner(rest, self.retry)
    }

    /// The parent's present name: of the device that it was, as long as that is there.
    fn find_parent(&mut self, core: &PortCore, host: &mut dyn Host) -> Option<String> {
        if let Some((index, _)) = &self.parent {
            match host.link_by_index(*index) {
                Ok(Some(link)) => return Some(link.name),
                Ok(None) => self.parent = None,
                Err(_) => return None,
            }
        }
        let found = host.link_given_as(&core.config.parent).ok()??;
        Some(found.name)
    }

    /// Ends the port's use of its device, which is returned: all ports' are given back together,
    /// because that is quicker ([`give_back`]).
    pub fn end(self, core: &PortCore) -> Option<UsedDevice> {
        core.attachment.set_taps(&[], &core.pairs, core.name());
        self.abandon()
    }

    /// The device alone; its tap queues stay behind the queue pairs.
    pub fn abandon(self) -> Option<UsedDevice> {
        self.device.map(|device| UsedDevice { device, queues: self.queues })
    }
}

/// A device whose port has ended, with its queues.
pub struct UsedDevice {
    device: Macvtap,
    queues: Vec<Arc<TapQueue>>,
}

/// Gives devices back to the host, and closes their queues. Goes on after a failure; returns all of
/// them.
pub fn give_back(ended: impl IntoIterator<Item = UsedDevice>, host: &mut dyn Host) -> Vec<Error> {
    let (devices, queues): (Vec<_>, Vec<_>) =
        ended.into_iter().map(|ended| (ended.device, ended.queues)).unzip();
    let errors = host.close_ports(devices);
    threads::drop_together(queues.into_iter().flatten().collect());
    errors
}

/// Creates or adopts the device that the configuration asks for.
pub fn open(config: &PortConfig, host: &mut dyn Host) -> Result<Macvtap> {
    let spec = spec(config, host)?;
    host.open_port(&spec)
}

/// The device that the configuration asks for.
pub fn spec(config: &PortConfig, host: &mut dyn Host) -> Result<MacvtapSpec> {
    Ok(MacvtapSpec {
        name: config.name.clone(),
        parent: config.parent.clone(),
        mode: config.mode,
        mac: port_mac::to_set(config, host)?,
        mtu: config.mtu,
        queues: usize::from(config.queue_pairs),
        sources: config.sources.clone(),
    })
}

#[cfg(test)]
mod tests;
