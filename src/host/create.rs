//! Making a new macvtap device: the two messages that it takes.
//!
//! RTM_NEWLINK creates the device, down. It ignores an alias, so the mark follows in a second
//! message; by it a later process recognises a killed one's device (`adopt.rs`). A kill between the
//! two leaves an unmarked device, which then has to be deleted by hand: the next start reports
//! that.

use std::io;

use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;
use crate::host::parent::Parent;
use crate::host::spec::{MacvtapSpec, NewMacvtap, Wanted};
use crate::host::{adopt, refusal};

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
        // Without its mark no later process would remove it.
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

/// True when the device that `link` describes still exists: its index alone may be another's by
/// now.
pub(crate) fn is_still_there(netlink: &mut Netlink, link: &LinkInfo) -> io::Result<bool> {
    let now = netlink.link_by_index(link.index)?;
    Ok(now.is_some_and(|now| now.alias == link.alias && now.is_macvtap()))
}
