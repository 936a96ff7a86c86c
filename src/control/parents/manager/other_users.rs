//! Devices that other programs put on the parent of userspace ports, or over it, and their effect
//! on the ports.
//!
//! We cannot change any of this, and none of it makes a system call fail. That is the trouble: an
//! operator sees no frames and no error. So each is reported once, with the parts that still work
//! and the remedy.
//!
//! - The parent becomes a port of a bridge or bond. A packet socket is in front of such a device:
//!   the guests still reach the wire. They do not reach the bridge's other ports, and a bond may
//!   send by another NIC than ours. The remedy is to use that device as the parent. At the start
//!   such a parent is refused (`host/parent.rs`).
//! - Kernel macvlans or macvtaps are on the parent. The kernel's switch and ours do not know each
//!   other's ports: a frame from one to the other leaves by the wire and does not come back, unless
//!   a hairpin switch returns it.
//!
//! What can go wrong: news get lost ([`LinkEvent::Overrun`]); then the kernel is asked. A loop that
//! makes and deletes devices is bounded by the parent's log, and by [`KNOWN`].

use crate::host::link::LinkInfo;
use crate::host::parent::{Parent, taker};
use crate::host::verbs::Host;
use crate::host::watch::LinkEvent;
use crate::process::port_log::PortLog;

/// Most ports of the kernel's that are remembered; further ones are not reported.
const KNOWN: usize = 256;
/// Most of them that one line names.
const NAMED: usize = 5;

/// The reported facts of a parent.
#[derive(Debug, Default)]
pub struct OtherUsers {
    /// The bridge, bond or the like that the parent is a port of: index, and kind and name unless
    /// it takes no frames.
    master: Option<(u32, Option<String>)>,
    /// The kernel's ports on it.
    ports: Vec<u32>,
}

impl OtherUsers {
    /// The parent was taken, or queried after news were lost: all of this exists.
    pub fn meet(&mut self, parent: &Parent, log: &PortLog) {
        self.set_master(parent.master.as_ref(), log);
        self.ports.retain(|known| parent.siblings.iter().any(|sibling| sibling.index == *known));
        self.add(&parent.siblings, log);
    }

    /// Takes note of a change among the kernel's devices. `parent` is the parent's index.
    pub fn note(&mut self, parent: u32, event: &LinkEvent, host: &mut dyn Host, log: &PortLog) {
        match event {
            LinkEvent::Changed(link) if link.index == parent => {
                if link.master == self.master.as_ref().map(|(index, _)| *index) {
                    return;
                }
                let master = link.master.and_then(|index| host.link_by_index(index).ok()?);
                self.set_master(master.as_ref(), log);
            }
            LinkEvent::Changed(link)
                if link.is_port() && link.parent == Some(parent) && link.parent_netns.is_none() =>
            {
                self.add(std::slice::from_ref(link), log);
            }
            LinkEvent::Gone { index, .. } => self.ports.retain(|known| known != index),
            LinkEvent::Overrun => {
                if let Ok(Some(link)) = host.link_by_index(parent)
                    && let Ok(parent) = host.parent(&link.name)
                {
                    self.meet(&parent, log);
                }
            }
            LinkEvent::Changed(_) | LinkEvent::Addressed(_) => {}
        }
    }

    fn set_master(&mut self, master: Option<&LinkInfo>, log: &PortLog) {
        let now = master.map(|master| {
            let taker = taker(master).map(|kind| format!("{kind} {}", master.name));
            (master.index, taker)
        });
        if now.as_ref().map(|(index, _)| index) == self.master.as_ref().map(|(index, _)| index) {
            return;
        }
        if let (Some(master), Some((_, Some(taker)))) = (master, &now) {
            log.warn(format_args!(
                "became a port of the {taker}: guests still reach the wire, but not the other \
                 members of {0}; use {0} as the parent (parent={0})",
                master.name
            ));
        } else if let Some((_, Some(taker))) = &self.master {
            log.info(format_args!("is no longer a port of the {taker}"));
        }
        self.master = now;
    }

    fn add(&mut self, ports: &[LinkInfo], log: &PortLog) {
        let new: Vec<&LinkInfo> =
            ports.iter().filter(|port| !self.ports.contains(&port.index)).collect();
        if new.is_empty() || self.ports.len() + new.len() > KNOWN {
            return;
        }
        self.ports.extend(new.iter().map(|port| port.index));
        let mut names: Vec<String> = new
            .iter()
            .take(NAMED)
            .map(|port| format!("{} ({})", port.name, port.describe()))
            .collect();
        if new.len() > NAMED {
            names.push(format!("{} more", new.len() - NAMED));
        }
        log.warn(format_args!(
            "also has kernel ports: {}; they and the userspace ports reach each other only \
             through a hairpin switch; use one type for all of them, or give the kernel's ports \
             another parent",
            names.join(", ")
        ));
    }
}
