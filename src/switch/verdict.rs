//! The verdict on a frame: its receivers, or the reason that there are none.

use crate::switch::port_id::{NO_PORT, PortId};
use crate::switch::selection::{Modes, Selection};

/// The verdict on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It leaves through the parent. Never for a frame that came from there.
    pub wire: bool,
    /// The ports that get it.
    pub to: Receivers,
    /// The reason, when the frame goes nowhere. A flood may turn out to reach no port without this
    /// being set.
    pub why: Option<Why>,
}

/// The ports that get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// None.
    None,
    /// This one. It may be the sender itself.
    One(PortId),
    /// Those that [`Selection::receivers`] lists; perhaps none.
    Many(Selection),
}

/// The reason why a frame goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The sender is not in this table.
    NoPort,
    /// The passthru port that alone could get it is down.
    Down,
    /// It is longer than the parent's MTU allows, between two ports that behave as the kernel's.
    TooLong,
    /// There is no wire to send it on, and no sibling that it is for.
    NoCarrier,
    /// It is for no port: the ordinary case of a frame from the wire.
    NotOurs,
    /// It came back to its sender.
    Reflected,
    /// Sender or receiver is private.
    Isolated,
    /// A source port has reserved it for itself (`nodst`) and is down.
    Taken,
}

impl Verdict {
    /// The frame goes nowhere, for this reason.
    pub(crate) fn nowhere(why: Why) -> Verdict {
        Verdict { wire: false, to: Receivers::None, why: Some(why) }
    }

    /// The frame goes out, and to these ports.
    pub(crate) fn wire(to: Receivers) -> Verdict {
        Verdict { wire: true, to, why: None }
    }

    /// The frame goes to these ports and not to the wire. The reason holds if there are none.
    pub(crate) fn ports(to: Selection, why: Why) -> Verdict {
        if to.modes != Modes::NONE || to.listed.0 != to.listed.1 {
            Verdict { wire: false, to: Receivers::Many(to), why: None }
        } else if to.plus != NO_PORT {
            Verdict { wire: false, to: Receivers::One(to.plus), why: None }
        } else {
            Verdict::nowhere(why)
        }
    }
}
