//! What becomes of a frame: the words in which the switch decides.

use super::decide::Selection;
#[allow(unused_imports)]
use super::table::Table;

/// A port's place in its [`Table`].
pub type PortId = u16;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It leaves through the parent. Never for a frame that came from there.
    pub wire: bool,
    /// The ports that get it.
    pub to: Receivers,
    /// When it goes nowhere: why. A flood may turn out to reach nobody without this being set.
    pub why: Option<Why>,
}

/// The ports that get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// None.
    None,
    /// This one. It may be the sender itself.
    One(PortId),
    /// Those that [`Table::select`] lists; perhaps none.
    Many(Selection),
}

/// Why nobody gets a frame.
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
    pub(crate) fn nobody(why: Why) -> Verdict {
        Verdict { wire: false, to: Receivers::None, why: Some(why) }
    }

    pub(crate) fn wire(to: Receivers) -> Verdict {
        Verdict { wire: true, to, why: None }
    }
}
