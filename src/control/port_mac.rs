//! The MAC address that a port has before its guest has sent a frame.
//!
//! Four parties ask: the port that is made, the judgement before it, the port after its guest has
//! disconnected, and the printers, whose answer the user types into a VMM. If one of them found
//! another address, the guest would not have its port's and every frame would be dropped as
//! `foreign MAC`. Therefore only this file finds the answer, in this order:
//!
//! 1. the address that the user gave;
//! 2. for a device that is adopted, the one that it has;
//! 3. in passthru mode, the parent's;
//! 4. an address derived from the machine's id and the port's name; where the machine has no id, the
//!    parent's address stands in for it.
//!
//! What can go wrong: the parent does not exist, or has no address that a guest could have. Then
//! there is an error and no guess.

use crate::config;
use crate::config::{Kind, MacChanges, MacChoice, PortConfig};
use crate::datapath::port::mac_policy::MacPolicy;
use crate::error::{Error, Result};
use crate::host::adopt::is_leftover;
use crate::host::link::LinkInfo;
use crate::host::verbs::Host;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// The port's reaction to a source address that is not its own.
pub fn policy(config: &PortConfig) -> MacPolicy {
    match config.mac_changes {
        _ if config.compat => MacPolicy::Ignore,
        MacChanges::Allow if config.mode == Mode::Passthru => MacPolicy::Exclusive,
        MacChanges::Allow => MacPolicy::Allow,
        // The guest's address is not known: a front-end does not report it.
        MacChanges::Deny
            if config.kind == Kind::Macvlan
                && config.mac == MacChoice::Auto
                && config.mode != Mode::Passthru =>
        {
            MacPolicy::Learn
        }
        MacChanges::Deny => MacPolicy::Deny,
    }
}

/// The origin of the address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MacOrigin {
    Given(Mac),
    Adopted(Mac),
    Parent,
    Derived,
}

/// The decision; `device` is the network device that has the port's name.
fn origin(config: &PortConfig, device: Option<&LinkInfo>) -> MacOrigin {
    let adopts = |link: &&LinkInfo| link.is_macvtap() && !is_leftover(link);
    let adopted = device.filter(|_| config.kind == Kind::Macvtap).filter(adopts);
    match (config.mac, adopted) {
        (MacChoice::Given(mac), _) => MacOrigin::Given(mac),
        (MacChoice::Auto, Some(link)) => MacOrigin::Adopted(link.mac),
        (MacChoice::Auto, None) if config.mode == Mode::Passthru => MacOrigin::Parent,
        (MacChoice::Auto, None) => MacOrigin::Derived,
    }
}

/// Queries the device of the port's name, if that matters.
fn look(config: &PortConfig, host: &mut dyn Host) -> Result<MacOrigin> {
    let asks = config.kind == Kind::Macvtap && config.mac == MacChoice::Auto;
    let device = match asks.then(|| host.link_by_name(&config.name)) {
        Some(Ok(device)) => device,
        Some(Err(error)) => {
            let object = format!("macvtap {}", config.name);
            let reason = format!("cannot be looked up: {error}");
            return Err(Error::system(object, reason, "give an address: --mac MAC"));
        }
        None => None,
    };
    Ok(origin(config, device.as_ref()))
}

/// The address that the port will have. Queries the host: the device of the port's name, the
/// parent, the machine's id; each only if it matters.
///
/// # Errors
/// The parent is needed and does not exist, or its address is none that a guest could have.
pub fn of(config: &PortConfig, host: &mut dyn Host) -> Result<Mac> {
    match look(config, host)? {
        MacOrigin::Given(mac) | MacOrigin::Adopted(mac) => Ok(mac),
        MacOrigin::Parent => parents(config, host),
        MacOrigin::Derived => derived(config, host),
    }
}

/// The addresses that the ports will have, in their order.
///
/// # Errors
/// Those of [`of`], for every port that has one.
pub fn of_all(ports: &[PortConfig], host: &mut dyn Host) -> Result<Vec<Mac>> {
    let (mut macs, mut errors) = (Vec::new(), Vec::new());
    for port in ports {
        match of(port, host) {
            Ok(mac) => macs.push(mac),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors).map(|()| macs)
}

/// The address that a new device must be given; `None` where it has the right one by itself.
///
/// # Errors
/// Those of [`of`].
pub(crate) fn to_set(config: &PortConfig, host: &mut dyn Host) -> Result<Option<Mac>> {
    match look(config, host)? {
        MacOrigin::Given(mac) => Ok(Some(mac)),
        MacOrigin::Adopted(_) | MacOrigin::Parent => Ok(None),
        MacOrigin::Derived => derived(config, host).map(Some),
    }
}

fn derived(config: &PortConfig, host: &mut dyn Host) -> Result<Mac> {
    let machine = match config::machine_id() {
        Some(id) => id,
        None => parents(config, host)?.to_string(),
    };
    Ok(config::auto_mac(&machine, &config.name))
}

/// The parent's address: the real parent's where a port of one is named, as the kernel takes it.
fn parents(config: &PortConfig, host: &mut dyn Host) -> Result<Mac> {
    let parent = host.parent_device(&config.parent)?;
    if parent.mac.is_station() {
        return Ok(parent.mac);
    }
    Err(Error::mac_unusable(
        format!("parent {}", config.parent),
        format!("its address '{}' is not usable by a guest", parent.mac),
        "use an Ethernet device, or give --mac",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn device(alias: Option<&str>) -> LinkInfo {
        LinkInfo {
            kind: Some("macvtap".into()),
            mac: OTHER,
            alias: alias.map(str::to_owned),
            ..LinkInfo::default()
        }
    }

    #[test]
    fn every_combination_has_one_origin() {
        let given = MacChoice::Given(Mac([2, 0, 0, 0, 0, 1]));
        let ours = device(Some("vhost-user-macvtap port, process 7, 1.0"));
        let theirs = device(Some("prepared by hand"));
        for kind in [Kind::Macvtap, Kind::Macvlan] {
            for mode in Mode::ALL {
                for mac in [MacChoice::Auto, given] {
                    for (link, adopted) in
                        [(None, false), (Some(&ours), false), (Some(&theirs), true)]
                    {
                        let config = PortConfig { kind, mode, mac, ..PortConfig::sample() };
                        let wanted = match (mac, adopted && kind == Kind::Macvtap, mode) {
                            (MacChoice::Given(mac), _, _) => MacOrigin::Given(mac),
                            (_, true, _) => MacOrigin::Adopted(OTHER),
                            (_, false, Mode::Passthru) => MacOrigin::Parent,
                            (_, false, _) => MacOrigin::Derived,
                        };
                        assert_eq!(origin(&config, link), wanted, "{config:?} {link:?}");
                    }
                }
            }
        }
    }
}
