//! May this port live on this parent, beside these siblings?
//!
//! The kernel would refuse it too, but with a bare EINVAL or EBUSY that means six different things,
//! or as late as "up". So [`Parent::find`] collects the facts and [`Parent::check`], which touches
//! nothing, finds the reason and names the obstacle. The kernel still has the last word:
//! `refusal.rs` puts its own refusals (a race, a driver's own rule) into words.
//!
//! A port in userspace is judged by the same rules, and needs it more: an AF_PACKET socket on the
//! slave of a bond or beside a passthru macvlan opens without complaint, and then receives frames
//! for others, or none. No kernel device behind it would return EADDRINUSE.
//!
//! Kernel facts (drivers/net/macvlan.c):
//! - A macvlan on a macvlan is no tower: it becomes its sibling, a port of the real parent. That
//!   may lie in another network namespace (a container whose eth0 is a macvlan), out of our sight;
//!   the siblings in sight are then recognised by the same foreign index and namespace id.
//! - Passthru wants the parent for itself, in both directions.
//! - A parent has one receive handler: being a port of a bridge or bond, or an ipvlan's parent,
//!   excludes being ours. Being in a VRF does not.
//! - A MAC must be unique among the ports that are *up* and differ from the parent's. A clash with
//!   a port that is down is refused here too: it would only come back when that port goes up.

use std::io;

use crate::error::{Error, Result};
use crate::host::link::{ETHERNET, LinkInfo};
use crate::host::netlink::Netlink;
use crate::host::spec::Wanted;
use crate::host::sysfs;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// A parent, its master, and the ports that it carries.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The device that carries the ports: the real parent where a macvlan was named.
    pub link: LinkInfo,
    /// The bridge, bond or the like that `link` belongs to.
    pub master: Option<LinkInfo>,
    /// Its macvlan and macvtap ports in this network namespace.
    pub siblings: Vec<LinkInfo>,
}

impl Parent {
    /// Looks the parent up by name, with its master and all its ports but the device named `port`
    /// (empty for a port in userspace, which is no device).
    pub fn find(netlink: &mut Netlink, name: &str, port: &str) -> Result<Parent> {
        let failed = |error| unreadable(name, &error);
        let link = Parent::device(netlink, name)?;
        if !link.is_called(name) {
            log::debug!("parent {name} is on {}, or stands for it", link.name);
        }
        let master = match link.master {
            Some(index) => netlink.link_by_index(index).map_err(failed)?,
            None => None,
        };
        let (index, netns) = anchor(&link);
        let mut siblings = netlink.ports_of(index, netns).map_err(failed)?;
        siblings.retain(|sibling| !sibling.is_called(port));
        Ok(Parent { link, master, siblings })
    }

    /// Looks only the device up: the real parent where a macvlan is named.
    pub fn device(netlink: &mut Netlink, name: &str) -> Result<LinkInfo> {
        let failed = |error| unreadable(name, &error);
        let link = netlink.link_given_as(name).map_err(failed)?.ok_or_else(|| {
            Error::parent_missing(
                format!("parent {name}"),
                "there is no such network device in this network namespace",
                "name one that 'ip link' shows here",
            )
        })?;
        if link.is_port()
            && link.parent_netns.is_none()
            && let Some(index) = link.parent
            && let Some(real) = netlink.link_by_index(index).map_err(failed)?
        {
            return Ok(real);
        }
        Ok(link)
    }

    /// True when `port` is a port of this parent.
    pub fn carries(&self, port: &LinkInfo) -> bool {
        let (index, netns) = anchor(&self.link);
        port.is_port() && port.parent == Some(index) && port.parent_netns == netns
    }

    /// Refuses a port that cannot work, and names the obstacle. Touches nothing.
    pub fn check(&self, wanted: &Wanted<'_>) -> Result<()> {
        let link = &self.link;
        let parent = format!("parent {}", link.name);
        if link.name == "lo" || link.hardware == libc::ARPHRD_LOOPBACK {
            return Err(Error::parent_unsuitable(
                parent,
                "the loopback device carries no ports",
                "name an Ethernet device",
            ));
        }
        if link.hardware != ETHERNET {
            return Err(Error::parent_unsuitable(
                parent,
                format!("not an Ethernet device (hardware type {})", link.hardware),
                "name an Ethernet device",
            ));
        }
        if let Some(master) = &self.master
            && let Some(kind) = taker(master)
        {
            return Err(Error::parent_in_use(
                parent,
                format!("already a port of the {kind} {}, which takes all its frames", master.name),
                format!(
                    "use {0} as the parent, or release it: ip link set {1} nomaster",
                    master.name, link.name
                ),
            ));
        }
        self.check_siblings(&parent, wanted)?;
        self.check_mac(wanted)?;
        match wanted.mtu {
            Some(mtu) if mtu > link.mtu => Err(Error::mtu_too_large(
                wanted.object,
                format!("MTU {mtu} is above the MTU of its parent {}, {}", link.name, link.mtu),
                format!("choose at most {}, or raise the parent's", link.mtu),
            )),
            _ => Ok(()),
        }
    }

    fn check_siblings(&self, parent: &str, wanted: &Wanted<'_>) -> Result<()> {
        if let Some(alone) = self.siblings.iter().find(|s| s.mode == Some(Mode::Passthru)) {
            return Err(Error::parent_in_use(
                parent,
                format!("{} uses it alone, in passthru mode", alone.name),
                format!("use another parent, or remove {}", alone.name),
            ));
        }
        match self.siblings.first() {
            Some(other) if wanted.mode == Mode::Passthru => Err(Error::parent_in_use(
                parent,
                format!(
                    "passthru mode needs it alone, but {} ({}) is a port of it",
                    other.name,
                    other.describe()
                ),
                "use another mode or another parent, or remove that port",
            )),
            _ => Ok(()),
        }
    }

    fn check_mac(&self, wanted: &Wanted<'_>) -> Result<()> {
        let Some(mac) = wanted.mac else { return Ok(()) };
        let remedy = "choose another address; every port of a parent needs its own";
        if !mac.is_station() {
            let reason = format!("MAC address {mac} is a group address or zero");
            return Err(Error::mac_unusable(wanted.object, reason, remedy));
        }
        // A passthru port always has its parent's address, and no siblings.
        if wanted.mode == Mode::Passthru {
            return Ok(());
        }
        match self.holder(mac) {
            Some(holder) => {
                let reason = format!("MAC address {mac} belongs to {holder}");
                Err(Error::mac_taken(wanted.object, reason, remedy))
            }
            None => Ok(()),
        }
    }

    /// The owner of this address, in words: the parent or a sibling.
    pub fn holder(&self, mac: Mac) -> Option<String> {
        if self.link.mac == mac {
            return Some(format!("its parent {}", self.link.name));
        }
        let sibling = self.siblings.iter().find(|sibling| sibling.mac == mac)?;
        Some(format!("{} ({} on the same parent)", sibling.name, sibling.describe()))
    }

    /// Warns in the log about settings that work badly without being wrong.
    pub fn warn(&self) {
        let name = &self.link.name;
        if !self.link.up {
            log::warn!("parent {name}: down, so no frame passes; ip link set {name} up");
        }
        if sysfs::is_wireless(name, self.link.index) {
            log::warn!(
                "parent {name}: a wireless device; an access point accepts frames only from the \
                 device's own MAC address, so only passthru mode is likely to work"
            );
        }
    }
}

/// The kind of `master` if it takes all frames of its ports: a bridge, a bond. A VRF does not.
pub fn taker(master: &LinkInfo) -> Option<&str> {
    master.kind.as_deref().filter(|kind| *kind != "vrf")
}

/// The index and namespace that ports of this device show as theirs.
fn anchor(link: &LinkInfo) -> (u32, Option<i32>) {
    match (link.parent, link.parent_netns) {
        (Some(index), Some(netns)) if link.is_port() => (index, Some(netns)),
        _ => (link.index, None),
    }
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::system(
        format!("parent {name}"),
        format!("cannot be looked up: {error}"),
        "check its name with 'ip link'",
    )
}

#[cfg(test)]
mod tests;
