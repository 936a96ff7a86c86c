//! How a turn over a ring ended.
//!
//! The queue pair concludes from it what its tap queue is watched for, when a frame that waits is
//! dropped, and what the worker is to do ([`Outcome`](crate::worker::task::Outcome)).

/// How a turn over a ring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// Nothing left to do until an event comes.
    Idle,
    /// Nothing left to do, but the guest was not asked to kick: the ring is polled.
    Polling {
        /// The turn had something to do.
        moved: bool,
    },
    /// The work limit is used up.
    More,
    /// The tap or the socket takes no more for now.
    Full,
    /// The guest has no buffers; `waiting` says whether a frame waits for them.
    Starved {
        /// A frame was read and waits for buffers.
        waiting: bool,
    },
}
