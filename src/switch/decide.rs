//! The decision: one frame's header and a snapshot in, a verdict out.
//!
//! There is one entry for each direction, after the kernel's two (drivers/net/macvlan.c):
//! [`from_guest`] is `macvlan_queue_xmit`, [`from_wire`] is `macvlan_handle_frame`. Both are pure
//! and touch nothing but the snapshot: no clock, no counters, no allocation, nothing that can fail.
//!
//! A frame to one port is answered at once. For a flood the answer is a [`Selection`], a
//! description of its receivers; [`Selection::receivers`] walks it port by port, asking the groups
//! of each. So a verdict stays a few words, whatever the number of ports, and the caller decides
//! when the walk takes place.

use crate::net::ethernet::{EthernetHeader, OVERHEAD};
use crate::net::mode::Mode;
use crate::switch::port_id::{NO_PORT, PortId};
use crate::switch::selection::{Modes, Selection, isolated};
use crate::switch::table::{Rules, Table};
use crate::switch::verdict::{Receivers, Verdict, Why};

/// Modes that a broadcast of a stranger reaches. Source ports receive by sender only.
const STRANGERS: Modes = Modes::of(&[Mode::Private, Mode::Vepa, Mode::Passthru, Mode::Bridge]);

/// The verdict on a frame that a guest sends.
///
/// `len` is its length in bytes from the Ethernet header on. `gso` means that the frame is to be
/// segmented, and its length is therefore not checked. `head.src` is not judged: the caller has
/// decided whether the guest may use that address. The sender need not be up: it sends, and the
/// table may not show it as up yet.
pub fn from_guest(
    table: &Table,
    from: PortId,
    head: &EthernetHeader,
    len: usize,
    gso: bool,
) -> Verdict {
    let Some(sender) = table.port(from) else { return Verdict::nowhere(Why::NoPort) };
    let wire = table.parent().up;
    // A macvlan has no carrier when its parent has none. Then it does not reach siblings either.
    if !wire && sender.compat {
        return Verdict::nowhere(Why::NoCarrier);
    }
    let only_wire =
        if wire { Verdict::wire(Receivers::None) } else { Verdict::nowhere(Why::NoCarrier) };
    if sender.mode != Mode::Bridge {
        return only_wire;
    }
    if !head.dst.is_group() {
        let Some(to) = table.find(head.dst).filter(|&to| has_mode(table, to, Mode::Bridge)) else {
            return only_wire;
        };
        let longest = || (table.parent().mtu as usize).saturating_add(OVERHEAD as usize);
        let both_compat = || table.port(to).is_some_and(|rules| rules.compat);
        if sender.compat && !gso && len > longest() && both_compat() {
            return Verdict::nowhere(Why::TooLong);
        }
        // The kernel hands this frame to the parent as if it had come from the wire. So source
        // ports that list the sender receive it too, or keep it for themselves.
        let listed = table.sender(head.src);
        if listed.is_none() {
            return Verdict { wire: false, to: Receivers::One(to), why: None };
        }
        let plus = if listed.is_some_and(|sender| sender.nodst) { NO_PORT } else { to };
        let to = Selection { origin: from, plus, local: true, ..Selection::to_listed(listed) };
        return Verdict::ports(to, Why::Taken);
    }
    let siblings = table.of_mode(Mode::Bridge);
    let alone = siblings.is_empty() || siblings == [from];
    if alone || head.is_pause() {
        return only_wire;
    }
    let siblings = Selection {
        modes: Modes::of(&[Mode::Bridge]),
        origin: from,
        local: true,
        len: if gso { 0 } else { u32::try_from(len).unwrap_or(u32::MAX) },
        ..Selection::to_listed(None)
    };
    Verdict { wire, to: Receivers::Many(siblings), why: None }
}

/// The verdict on a frame that arrives on the parent.
///
/// The host's own stack sees every such frame, with any verdict. To keep it away from the host (as
/// the kernel does in mode `passthru`) is not a decision about ports.
pub fn from_wire(table: &Table, head: &EthernetHeader) -> Verdict {
    let listed = table.sender(head.src);
    let mut to = Selection::to_listed(listed);
    to.origin = table.find(head.src).unwrap_or(NO_PORT);
    if listed.is_some_and(|sender| sender.nodst) {
        return Verdict::ports(to, Why::Taken);
    }
    if !head.dst.is_group() {
        let owner = table.passthru().or_else(|| table.find(head.dst));
        let Some((owner, rules)) = owner.and_then(|id| Some((id, table.port(id)?))) else {
            return Verdict::ports(to, Why::NotOurs);
        };
        if rules.mode == Mode::Source {
            return Verdict::ports(to, Why::NotOurs);
        }
        if !rules.up {
            return Verdict::ports(to, Why::Down);
        }
        if isolated(table, to.origin, owner, rules) {
            return Verdict::ports(to, Why::Isolated);
        }
        to.plus = owner;
        return Verdict::ports(to, Why::NotOurs);
    }
    match table.port(to.origin) {
        None => to.modes = STRANGERS,
        Some(Rules { mode: Mode::Vepa, .. }) => to.modes = Modes::of(&[Mode::Vepa, Mode::Bridge]),
        // Its bridge siblings received it on its way out.
        Some(Rules { mode: Mode::Bridge, .. }) => to.modes = Modes::of(&[Mode::Vepa]),
        Some(Rules { compat: false, .. }) => return Verdict::ports(to, Why::Reflected),
        // The kernel gives a private, passthru or source port its own frame back, and does not ask
        // its filter.
        Some(rules) => {
            if rules.reserved || !head.is_reserved() {
                to.plus = to.origin;
            }
            return Verdict::ports(to, Why::Reflected);
        }
    }
    if head.is_pause() {
        to.modes = Modes::NONE;
    }
    Verdict::ports(to, Why::NotOurs)
}

fn has_mode(table: &Table, id: PortId, mode: Mode) -> bool {
    table.port(id).is_some_and(|rules| rules.mode == mode)
}

#[cfg(test)]
mod tests;
