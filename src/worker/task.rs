//! What a worker runs, what it is told, and how it ends.

/// Most frames of one turn: what vhost-net allows itself (`VHOST_NET_PKT_WEIGHT`).
pub(crate) const TURN_FRAMES: usize = 256;
/// Most bytes of one turn: likewise (`VHOST_NET_WEIGHT`).
pub(crate) const TURN_BYTES: usize = 512 * 1024;
/// Most descriptors that are read in one turn, and one chain's: of 256 frames, 16 for each.
pub(crate) const TURN_DESCRIPTORS: u32 = 4096;
/// Frames between two publications of the used index within a turn: the guest may go on while we do.
pub(crate) const BATCH: usize = 64;

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
