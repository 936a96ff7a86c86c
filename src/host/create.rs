//! Making a new macvtap device: what it shall be, and its first two messages.
//!
//! RTM_NEWLINK creates the device, down; it ignores an alias, so the mark by which a later process
//! recognises what a killed one has left (`adopt.rs`) follows in a second message. A kill between
//! the two leaves an unmarked device, which then has to be deleted by hand: the next start says so.

use std::io;

use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;
use crate::host::parent::{Parent, Wanted};
use crate::host::{adopt, refusal};
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// What a new macvtap device shall be.
#[derive(Clone, Debug)]
pub struct NewMacvtap<'a> {
    /// Device name, 1 to 15 bytes.
    pub name: &'a str,
    /// Index of the parent.
    pub parent: u32,
    /// How the parent is shared.
    pub mode: Mode,
    /// Hardware address; a random one when absent. Ignored by the kernel in passthru mode.
    pub mac: Option<Mac>,
    /// MTU in bytes; the parent's when absent.
    pub mtu: Option<u32>,
    /// Accepted source addresses; must be empty except in source mode.
    pub sources: &'a [Mac],
}

/// What a port's device shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacvtapSpec {
    /// Device name, 1 to 15 bytes.
    pub name: String,
    /// The parent's name.
    pub parent: String,
    /// How the parent is shared.
    pub mode: Mode,
    /// MAC address. Absent: in passthru mode the parent's, for an adopted device the one it has,
    /// otherwise a random one.
    pub mac: Option<Mac>,
    /// MTU in bytes. Absent: the parent's, or the one that an adopted device has.
    pub mtu: Option<u32>,
    /// Queues to open, 1 to 256.
    pub queues: usize,
    /// Source addresses accepted in source mode; empty in every other mode, and for an adopted
    /// device that keeps its list.
    pub sources: Vec<Mac>,
}

/// Step 3 for a new device: create it, down, and mark it as ours.
pub(crate) fn create(
    netlink: &mut Netlink,
    spec: &MacvtapSpec,
    parent: &Parent,
    wanted: &Wanted<'_>,
) -> Result<LinkInfo> {
    let new = NewMacvtap {
        name: &spec.name,
        parent: parent.link.index,
        mode: spec.mode,
        mac: spec.mac,
        mtu: spec.mtu,
        sources: &spec.sources,
    };
    netlink.create_macvtap(&new).map_err(|error| refusal::of_creation(parent, wanted, &error))?;
    let link = lookup(netlink, &spec.name)?.ok_or_else(|| {
        Error::device_missing(
            format!("macvtap {}", spec.name),
            "removed right after its creation",
            "retry",
        )
    })?;
    let alias = adopt::alias();
    if let Err(error) = netlink.set_alias(link.index, &alias) {
        // Without its mark nobody would ever remove it.
        if let Err(undo) = netlink.delete(link.index) {
            log::warn!("macvtap {}: left behind: {undo}", spec.name);
        }
        return Err(refusal::of(&spec.name, "marking it", &error));
    }
    Ok(LinkInfo { alias: Some(alias), ..link })
}

/// The device of that name, if there is one.
pub(crate) fn lookup(netlink: &mut Netlink, name: &str) -> Result<Option<LinkInfo>> {
    netlink.link_by_name(name).map_err(|error| refusal::of(name, "looking it up", &error))
}

/// True when the device that `link` describes still exists: its index alone may be another's by now.
pub(crate) fn is_still_there(netlink: &mut Netlink, link: &LinkInfo) -> io::Result<bool> {
    let now = netlink.link_by_index(link.index)?;
    Ok(now.is_some_and(|now| now.alias == link.alias && now.is_macvtap()))
}
