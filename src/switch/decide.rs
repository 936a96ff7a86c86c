//! The decision: one frame's header and a snapshot in, who gets it out.
//!
//! Two entries, one for each direction, after the kernel's two (drivers/net/macvlan.c):
//! [`from_guest`] is `macvlan_queue_xmit`, [`from_wire`] is `macvlan_handle_frame`. Both are pure and
//! touch nothing but the snapshot: no clock, no counters, no allocation, nothing that can fail.
//!
//! A frame to one port is answered at once. For a flood the answer is a [`Selection`], a description
//! of who is meant; [`Table::select`] walks it port by port, asking the groups of each. So a verdict
//! stays a few words, whatever the number of ports, and the caller decides when the walk takes place.

use crate::net::ethernet::EthernetHeader;
use crate::net::mode::Mode;
use crate::switch::table::{NOBODY, Sender};
use crate::switch::{PortId, Receivers, Rules, Table, Verdict, Why};

/// Ethernet header and one VLAN tag on top of the MTU (`is_skb_forwardable`).
const OVERHEAD: u32 = 14 + 4;

/// Modes that a broadcast of a stranger reaches. Source ports hear by sender only.
const STRANGERS: Modes = Modes::of(&[Mode::Private, Mode::Vepa, Mode::Passthru, Mode::Bridge]);

/// Who gets a flooded frame, as a description. [`Table::select`] of the *same* snapshot lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// All ports of these modes, if they want the group, ...
    modes: Modes,
    /// ... except this one, whose frame it is; [`NOBODY`] when it is no port's.
    origin: PortId,
    /// In addition this one; [`NOBODY`] for none.
    plus: PortId,
    /// And these source ports, a part of the snapshot's `listing`.
    listed: (u32, u32),
    /// From a sibling directly, not from the wire.
    local: bool,
    /// What is measured against the MTU, in bytes; 0 for a frame that may have any length.
    len: u32,
}

/// A set of modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Modes(u8);

impl Modes {
    const NONE: Modes = Modes(0);

    const fn of(modes: &[Mode]) -> Modes {
        let (mut bits, mut rest) = (0, modes);
        while let [first, others @ ..] = rest {
            bits |= 1 << *first as u8;
            rest = others;
        }
        Modes(bits)
    }

    fn has(self, mode: Mode) -> bool {
        self.0 & 1 << mode as u8 != 0
    }
}

/// What becomes of a frame that a guest sends.
///
/// `len` is its length in bytes from the Ethernet header on, `gso` says that it is to be segmented and
/// therefore not measured. `head.src` is not judged: whether a guest may use that address has been
/// decided before. Nor is it asked whether the sender is up: it sends, and the table may not know yet.
pub fn from_guest(
    table: &Table,
    from: PortId,
    head: &EthernetHeader,
    len: usize,
    gso: bool,
) -> Verdict {
    let Some(sender) = table.port(from) else { return Verdict::nobody(Why::NoPort) };
    let wire = table.parent().up;
    // A macvlan has no carrier when its parent has none, and then not even siblings hear it.
    if !wire && sender.compat {
        return Verdict::nobody(Why::NoCarrier);
    }
    let only_wire =
        if wire { Verdict::wire(Receivers::None) } else { Verdict::nobody(Why::NoCarrier) };
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
            return Verdict::nobody(Why::TooLong);
        }
        // The kernel hands this frame to the parent as if it had come from the wire, so that source
        // ports that list the sender hear it too, or keep it for themselves.
        let listed = table.sender(head.src);
        if listed.is_none() {
            return Verdict { wire: false, to: Receivers::One(to), why: None };
        }
        let plus = if listed.is_some_and(|sender| sender.nodst) { NOBODY } else { to };
        return Selection { origin: from, plus, local: true, ..Selection::to_listed(listed) }
            .verdict(Why::Taken);
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

/// What becomes of a frame that arrives on the parent.
///
/// The host's own stack sees every such frame, whatever the verdict; to keep it away (as the kernel
/// does in mode `passthru`) is not a decision about ports.
pub fn from_wire(table: &Table, head: &EthernetHeader) -> Verdict {
    let listed = table.sender(head.src);
    let mut to = Selection::to_listed(listed);
    to.origin = table.find(head.src).unwrap_or(NOBODY);
    if listed.is_some_and(|sender| sender.nodst) {
        return to.verdict(Why::Taken);
    }
    if !head.dst.is_group() {
        let owner = table.passthru().or_else(|| table.find(head.dst));
        let Some((owner, rules)) = owner.and_then(|id| Some((id, table.port(id)?))) else {
            return to.verdict(Why::NotOurs);
        };
        if rules.mode == Mode::Source {
            return to.verdict(Why::NotOurs);
        }
        if !rules.up {
            return to.verdict(Why::Down);
        }
        if isolated(table, to.origin, owner, rules) {
            return to.verdict(Why::Isolated);
        }
        to.plus = owner;
        return to.verdict(Why::NotOurs);
    }
    match table.port(to.origin) {
        None => to.modes = STRANGERS,
        Some(Rules { mode: Mode::Vepa, .. }) => to.modes = Modes::of(&[Mode::Vepa, Mode::Bridge]),
        // Its bridge siblings heard it on its way out.
        Some(Rules { mode: Mode::Bridge, .. }) => to.modes = Modes::of(&[Mode::Vepa]),
        Some(Rules { compat: false, .. }) => return to.verdict(Why::Reflected),
        // The kernel gives a private, passthru or source port its own frame back, and does not ask
        // its filter.
        Some(rules) => {
            if rules.reserved || !head.is_reserved() {
                to.plus = to.origin;
            }
            return to.verdict(Why::Reflected);
        }
    }
    if head.is_pause() {
        to.modes = Modes::NONE;
    }
    to.verdict(Why::NotOurs)
}

impl Selection {
    /// The source ports that list a sender, and nobody else yet.
    fn to_listed(sender: Option<Sender>) -> Selection {
        Selection {
            modes: Modes::NONE,
            origin: NOBODY,
            plus: NOBODY,
            listed: sender.map_or((0, 0), |sender| sender.list),
            local: false,
            len: 0,
        }
    }

    /// The verdict that these ports and not the wire get the frame; the reason holds if they are none.
    fn verdict(self, why: Why) -> Verdict {
        if self.modes != Modes::NONE || self.listed.0 != self.listed.1 {
            Verdict { wire: false, to: Receivers::Many(self), why: None }
        } else if self.plus != NOBODY {
            Verdict { wire: false, to: Receivers::One(self.plus), why: None }
        } else {
            Verdict::nobody(why)
        }
    }
}

impl Table {
    /// Walks a selection, which was made from this very snapshot and this header: every receiver once,
    /// in no particular order. A selection of another snapshot names wrong ports, but does no harm.
    pub fn select<'a>(
        &'a self,
        selection: Selection,
        head: &EthernetHeader,
    ) -> impl Iterator<Item = PortId> + use<'a> {
        let head = *head;
        let flooded = Mode::ALL
            .into_iter()
            .filter(move |&mode| selection.modes.has(mode))
            .flat_map(move |mode| self.of_mode(mode))
            .filter(move |&&id| id != selection.origin && self.hears(id, selection, &head));
        let listed = self.listing(selection.listed).iter();
        let listed = listed.filter(move |&&id| self.hears_its_source(id, selection, &head));
        // A source port that lists its own address has its reflected frame already.
        let twice = self.listing(selection.listed).contains(&selection.plus);
        let plus = (selection.plus != NOBODY && !twice).then_some(selection.plus);
        flooded.chain(listed).copied().chain(plus)
    }

    /// Whether a flooded frame reaches this port.
    fn hears(&self, id: PortId, selection: Selection, head: &EthernetHeader) -> bool {
        let Some(rules) = self.port(id) else { return false };
        let both_compat = rules.compat && self.port(selection.origin).is_some_and(|o| o.compat);
        if selection.local && !both_compat && head.is_reserved() {
            return false;
        }
        let too_long = selection.len > rules.mtu.saturating_add(OVERHEAD);
        if selection.local && both_compat && too_long {
            return false;
        }
        if !rules.reserved && head.is_reserved() {
            return false;
        }
        let wants = !rules.compat || rules.groups.wants(head.dst);
        wants && !isolated(self, selection.origin, id, rules)
    }

    /// Whether a frame of a sender that this port lists reaches it.
    fn hears_its_source(&self, id: PortId, selection: Selection, head: &EthernetHeader) -> bool {
        let Some(rules) = self.port(id) else { return false };
        let own = id == selection.origin && head.dst.is_group();
        let refused = !rules.reserved && head.is_reserved();
        !refused && (!own || rules.compat) && !isolated(self, selection.origin, id, rules)
    }
}

/// Whether a port does not hear another one because one of them is private. Both being `compat`, the
/// kernel's rules do without this.
fn isolated(table: &Table, from: PortId, to: PortId, receiver: &Rules) -> bool {
    let Some(sender) = table.port(from).filter(|_| from != to) else { return false };
    let private = sender.mode == Mode::Private || receiver.mode == Mode::Private;
    private && !(sender.compat && receiver.compat)
}

fn has_mode(table: &Table, id: PortId, mode: Mode) -> bool {
    table.port(id).is_some_and(|rules| rules.mode == mode)
}

#[cfg(test)]
mod tests;
