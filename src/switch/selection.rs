//! The receivers of a flooded frame: a description, and the walk over it.
//!
//! The description is a few words, made by the decision (`decide.rs`) and copied with its verdict.
//! The walk asks every port of the modes that it names, and may take long where there are many. It
//! belongs to the snapshot and the header that the description was made from.

use crate::net::ethernet::{EthernetHeader, OVERHEAD};
use crate::net::mode::Mode;
use crate::switch::port_id::{NO_PORT, PortId};
use crate::switch::table::{Rules, Sender, Table};

/// The receivers of a flooded frame, as a description. [`Selection::receivers`] lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// All ports of these modes, if they want the group, ...
    pub(super) modes: Modes,
    /// ... except the frame's own port; [`NO_PORT`] when it is no port's.
    pub(super) origin: PortId,
    /// In addition this one; [`NO_PORT`] for none.
    pub(super) plus: PortId,
    /// And these source ports, a part of the snapshot's `listing`.
    pub(super) listed: (u32, u32),
    /// From a sibling directly, not from the wire.
    pub(super) local: bool,
    /// The length that is checked against the MTU, in bytes; 0 for a frame that may have any
    /// length.
    pub(super) len: u32,
}

impl Selection {
    /// The source ports that list a sender, and no others yet.
    pub(super) fn to_listed(sender: Option<Sender>) -> Selection {
        Selection {
            modes: Modes::NONE,
            origin: NO_PORT,
            plus: NO_PORT,
            listed: sender.map_or((0, 0), |sender| sender.list),
            local: false,
            len: 0,
        }
    }

    /// Walks the selection, which was made from this very snapshot and this header: every receiver
    /// once, in no particular order. A selection of another snapshot names wrong ports, but does no
    /// harm.
    pub fn receivers<'a>(
        self,
        table: &'a Table,
        head: &EthernetHeader,
    ) -> impl Iterator<Item = PortId> + use<'a> {
        let head = *head;
        let flooded = Mode::ALL
            .into_iter()
            .filter(move |&mode| self.modes.has(mode))
            .flat_map(move |mode| table.of_mode(mode))
            .filter(move |&&id| id != self.origin && self.reaches(table, id, &head));
        let listed = table.listing(self.listed).iter();
        let listed = listed.filter(move |&&id| self.reaches_listed(table, id, &head));
        // A source port that lists its own address has its reflected frame already.
        let twice = table.listing(self.listed).contains(&self.plus);
        let plus = (self.plus != NO_PORT && !twice).then_some(self.plus);
        flooded.chain(listed).copied().chain(plus)
    }

    /// Whether a flooded frame reaches this port.
    fn reaches(self, table: &Table, id: PortId, head: &EthernetHeader) -> bool {
        let Some(rules) = table.port(id) else { return false };
        let both_compat = rules.compat && table.port(self.origin).is_some_and(|o| o.compat);
        if self.local && !both_compat && head.is_reserved() {
            return false;
        }
        let too_long = self.len > rules.mtu.saturating_add(OVERHEAD);
        if self.local && both_compat && too_long {
            return false;
        }
        if !rules.reserved && head.is_reserved() {
            return false;
        }
        let wants = !rules.compat || rules.groups.wants(head.dst);
        wants && !isolated(table, self.origin, id, rules)
    }

    /// Whether a frame of a sender that this port lists reaches it.
    fn reaches_listed(self, table: &Table, id: PortId, head: &EthernetHeader) -> bool {
        let Some(rules) = table.port(id) else { return false };
        let own = id == self.origin && head.dst.is_group();
        let refused = !rules.reserved && head.is_reserved();
        !refused && (!own || rules.compat) && !isolated(table, self.origin, id, rules)
    }
}

/// A set of modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes(u8);

impl Modes {
    pub(super) const NONE: Modes = Modes(0);

    pub(super) const fn of(modes: &[Mode]) -> Modes {
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

/// Whether a port does not receive from another one because one of them is private. Two `compat`
/// ports follow the kernel's rules, which do without this.
pub(super) fn isolated(table: &Table, from: PortId, to: PortId, receiver: &Rules) -> bool {
    let Some(sender) = table.port(from).filter(|_| from != to) else { return false };
    let private = sender.mode == Mode::Private || receiver.mode == Mode::Private;
    private && !(sender.compat && receiver.compat)
}
