//! A port's kernel device, and how the port survives its loss.
//!
//! The device may vanish (its parent was removed, somebody deleted it) and is made again when that is
//! possible. In between the queue pairs stay, without a tap behind them, and a connected guest keeps its
//! rings: it sees a network without traffic, not a dead back-end.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::core::Core;
use super::port_mac;
use crate::config::PortConfig;
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::uplink::{LinkEvent, LinkInfo, Macvtap, MacvtapSpec, Netlink};

/// Pause between two attempts to make a lost device again.
const DEVICE_RETRY: Duration = Duration::from_secs(1);

/// The kernel device of a port.
pub struct KernelPort {
    device: Option<Macvtap>,
    own_mac: Mac,
    retry: Option<Instant>,
    parent_up: Option<bool>,
}

impl KernelPort {
    /// Puts a new device behind the port.
    pub fn start(core: &Core, device: Macvtap) -> KernelPort {
        let own_mac = device.mac();
        let mut port = KernelPort { device: None, own_mac, retry: None, parent_up: None };
        port.use_device(core, device);
        port
    }

    fn use_device(&mut self, core: &Core, device: Macvtap) {
        self.own_mac = device.mac();
        core.data.set_device(device.mac(), device.mtu());
        core.attachment.set_taps(device.queues(), &core.pairs, core.name());
        info!(
            "port {}: {} macvtap {} on {}, {} mode, MAC {}, MTU {}",
            core.name(),
            if device.created() { "created" } else { "adopted" },
            device.name(),
            device.parent_name(),
            core.config.mode,
            device.mac(),
            device.mtu()
        );
        self.device = Some(device);
        self.retry = None;
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self) -> Mac {
        self.own_mac
    }

    /// Gives the device another address.
    pub fn set_mac(&mut self, core: &Core, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        let Some(device) = &mut self.device else {
            return Err(Error::failed(
                format!("port {}", core.name()),
                "its device is gone",
                "see the log for what it waits for",
            ));
        };
        device.set_mac(netlink, mac)?;
        core.data.set_device(mac, core.data.mtu());
        Ok(())
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, core: &Core, event: &LinkEvent, netlink: &mut Netlink) {
        let own = self.device.as_ref().map(|device| (device.ifindex(), device.parent_index()));
        match (event, own) {
            (LinkEvent::Gone { index, .. }, Some((device, _))) if *index == device => {
                self.lose(core, netlink);
            }
            (LinkEvent::Gone { index, name }, Some((_, parent))) if *index == parent => {
                warn!("port {}: its parent {name} has vanished", core.name());
            }
            (LinkEvent::Changed(link), Some((device, _))) if link.index == device => {
                device_changed(core, link);
            }
            (LinkEvent::Changed(link), Some((_, parent))) if link.index == parent => {
                let up = link.up && link.running;
                if self.parent_up.replace(up).is_some_and(|was| was != up) {
                    let word = if up { "is up again" } else { "is down" };
                    info!("port {}: its parent {} {word}", core.name(), link.name);
                }
                self.follow_mtu(core, link.mtu, netlink);
            }
            (LinkEvent::Changed(link), None) if link.name == core.config.parent => {
                self.retry = Some(Instant::now());
            }
            (LinkEvent::Overrun, Some((device, _))) => {
                // Some news was lost: look for ourselves.
                match netlink.link_by_index(device) {
                    Ok(Some(link)) => device_changed(core, &link),
                    Ok(None) => self.lose(core, netlink),
                    Err(error) => warn!("port {}: {error}", core.name()),
                }
            }
            _ => {}
        }
    }

    /// The parent has this MTU now. The kernel lowers its ports' with it, but never raises them again.
    fn follow_mtu(&mut self, core: &Core, parent: u32, netlink: &mut Netlink) {
        let wanted = core.config.mtu.map_or(parent, |own| parent.min(own));
        let Some(device) = self.device.as_ref().filter(|device| device.created()) else { return };
        if wanted == core.data.mtu() {
            return;
        }
        // The device's own news, which follow, tell everybody else.
        if let Err(error) = netlink.set_mtu(device.ifindex(), wanted) {
            warn!("port {}: cannot follow its parent to MTU {wanted}: {error}", core.name());
        }
    }

    fn lose(&mut self, core: &Core, netlink: &mut Netlink) {
        let Some(device) = self.device.take() else { return };
        warn!(
            "port {}: its device {} has vanished; it is made again when {} is there",
            core.name(),
            device.name(),
            core.config.parent
        );
        core.attachment.set_taps(&[], &core.pairs, core.name());
        if let Err(error) = device.close(netlink) {
            warn!("{error}");
        }
        self.parent_up = None;
        self.retry = Some(Instant::now());
    }

    /// Makes a lost device again, if that is due and possible. Returns when to ask again.
    pub fn restore(&mut self, core: &Core, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        let due = self.retry?;
        if due > now {
            return Some(due);
        }
        // Without its parent there is no point in trying: the kernel tells when it comes.
        if !matches!(netlink.link_by_name(&core.config.parent), Ok(Some(_))) {
            self.retry = Some(now + DEVICE_RETRY);
            return self.retry;
        }
        match open(&core.config, netlink) {
            Ok(device) => self.use_device(core, device),
            Err(error) => {
                warn!("port {}: {error}", core.name());
                self.retry = Some(now + DEVICE_RETRY);
            }
        }
        self.retry
    }

    /// Ends the port's use of its device, which is returned: all ports' are given back together,
    /// because that is quicker (`uplink::close_all`).
    pub fn end(self, core: &Core) -> Option<Macvtap> {
        core.attachment.set_taps(&[], &core.pairs, core.name());
        self.device
    }

    /// The device alone; its tap queues stay behind the queue pairs.
    pub fn abandon(self) -> Option<Macvtap> {
        self.device
    }
}

fn device_changed(core: &Core, link: &LinkInfo) {
    let before = (core.data.mac(), core.data.mtu());
    core.data.set_device(link.mac, link.mtu);
    if before != (link.mac, link.mtu) {
        info!("port {}: now has MAC {}, MTU {}", core.name(), link.mac, link.mtu);
    }
}

/// Creates or adopts the device that the configuration asks for.
pub fn open(config: &PortConfig, netlink: &mut Netlink) -> Result<Macvtap> {
    let spec = spec(config, netlink)?;
    Macvtap::open(netlink, &spec)
}

/// The device that the configuration asks for.
pub fn spec(config: &PortConfig, netlink: &mut Netlink) -> Result<MacvtapSpec> {
    Ok(MacvtapSpec {
        name: config.name.clone(),
        parent: config.parent.clone(),
        mode: config.mode,
        mac: port_mac::to_set(config, netlink)?,
        mtu: config.mtu,
        queues: usize::from(config.queue_pairs),
        sources: config.sources.clone(),
    })
}
