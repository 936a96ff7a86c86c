//! What a worker runs, what it is told, and how it ends.

/// What a turn is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// A frame that waits for buffers has waited long enough.
    pub expired: bool,
    /// When there is nothing left, the guest need not be asked to kick: there will be another turn.
    pub linger: bool,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing left to do until an event comes.
    Idle,
    /// Nothing left to do, but the guest was not asked to kick: it is looked at again soon.
    Lingering {
        /// The turn had something to do.
        moved: bool,
    },
    /// The budget is used up.
    More,
    /// The tap or the socket takes no more for now.
    Full,
    /// The guest has no buffers; `waiting` says whether a frame waits for them.
    Starved {
        /// A frame was read and waits for buffers.
        waiting: bool,
    },
}
