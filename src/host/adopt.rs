//! A device that exists already: its owner, whether it fits, and how it is left again.
//!
//! Three cases share one name. A device with our alias was made by an earlier process of ours that
//! was killed (the owner's lock proves that it is dead): it is replaced by a new one, which also
//! gives a passthru parent its own MAC back. A macvtap of the right parent and mode was prepared by
//! the user for us: we adopt it, set it as the port needs it, and put back our changes at the end.
//! Any other device keeps its name, and the error describes it.
//!
//! Adoption changes only settings that differ, so that a device prepared in full can be adopted
//! without CAP_NET_ADMIN. IPv6 addresses that the host had on the device cannot be put back.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;
use crate::host::parent::Parent;
use crate::host::quiesce::HostQuiesce;
use crate::host::spec::MacvtapSpec;

/// Every alias of ours starts so.
const MARK: &str = "vhost-user-macvtap port";

/// An alias for a new device: the mark, the process that made it, and a number that no other device
/// has, by which `sysfs.rs` recognises the device.
pub(crate) fn alias() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{MARK}, process {}, {:x}.{count}", std::process::id(), now.as_nanos())
}

/// True for a macvtap that a process of ours created.
pub fn is_leftover(link: &LinkInfo) -> bool {
    link.is_macvtap() && link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK))
}

/// Refuses a device that is not the macvtap that `spec` describes; the error describes the device.
pub(crate) fn check(existing: &LinkInfo, parent: &Parent, spec: &MacvtapSpec) -> Result<()> {
    let carried = parent.carries(existing);
    if existing.is_macvtap() && carried && existing.mode == Some(spec.mode) {
        return Ok(());
    }
    let of = match (carried, existing.is_port()) {
        (true, _) => format!(" of {}", parent.link.name),
        (false, true) => " of another parent".to_string(),
        (false, false) => String::new(),
    };
    Err(Error::name_taken(
        format!("macvtap {}", spec.name),
        format!(
            "the name is taken by {}{of}, not by a macvtap in {} mode of {}",
            existing.describe(),
            spec.mode,
            parent.link.name
        ),
        format!("choose another port name, or remove it: ip link delete {}", existing.name),
    ))
}

/// The state in which an adopted device was found.
#[derive(Debug)]
pub(crate) struct Before {
    link: LinkInfo,
    quiesce: Option<HostQuiesce>,
}

impl Before {
    /// Remembers the device as it is now.
    pub(crate) fn new(link: LinkInfo) -> Before {
        Before { link, quiesce: None }
    }

    /// Remembers the settings that were quiesced.
    pub(crate) fn quiesced(&mut self, quiesce: HostQuiesce) {
        self.quiesce = Some(quiesce);
    }

    /// Puts everything back as it was found, going on after a failure; returns the first one.
    pub(crate) fn restore(&self, netlink: &mut Netlink) -> io::Result<()> {
        let was = &self.link;
        let Some(now) = netlink.link_by_index(was.index)?.filter(|now| now.is_macvtap()) else {
            return Ok(());
        };
        let mut result = Ok(());
        if now.up && !was.up {
            result = result.and(netlink.set_up(was.index, false));
        }
        if now.mac != was.mac {
            result = result.and(netlink.set_mac(was.index, was.mac));
        }
        if now.mtu != was.mtu {
            result = result.and(netlink.set_mtu(was.index, was.mtu));
        }
        if now.sources != was.sources {
            result = result.and(netlink.set_sources(was.index, &was.sources));
        }
        if let Some(quiesce) = &self.quiesce {
            result = result.and(quiesce.lift(netlink, &now));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_macvtap_with_our_mark_is_a_leftover() {
        let kind = |kind: &str| Some(kind.to_string());
        let ours = LinkInfo { kind: kind("macvtap"), alias: Some(alias()), ..LinkInfo::default() };
        assert!(is_leftover(&ours));
        assert!(!is_leftover(&LinkInfo { kind: kind("veth"), ..ours.clone() }));
        assert!(!is_leftover(&LinkInfo { alias: None, ..ours.clone() }));
        assert!(!is_leftover(&LinkInfo { alias: Some("the printer".into()), ..ours }));
    }

    #[test]
    fn no_two_aliases_are_equal() {
        assert_ne!(alias(), alias());
    }
}
