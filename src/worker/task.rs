//! What a worker runs.
//!
//! A worker knows its [`Task`]s only by this trait: queue pairs and uplink queues today, a rate
//! limiter tomorrow. A task has up to two kinds of turns, which it tells apart by a [`Part`]; what
//! a part means is the task's own affair. The worker decides when a turn runs and lends its working
//! memory (`S`). The task decides how much it does in one turn, and answers with an [`Outcome`].
//!
//! A turn costs the worker one indirect call, whatever number of frames it moves.

use std::time::Instant;

/// Kinds of turns that a task can have.
pub const PARTS: usize = 2;

/// Which of its turns a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first kind.
    First,
    /// The second kind, if the task has one.
    Second,
}

impl Part {
    /// All of them, in their order.
    pub(super) const ALL: [Part; PARTS] = [Part::First, Part::Second];
}

/// One kind of turn of one task, as the task's worker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnId {
    pub(super) slot: usize,
    pub(super) part: Part,
}

/// What a turn may count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// When the worker's present round began. A turn that reads the clock only for a rough time
    /// uses this one.
    pub now: Instant,
    /// With nothing left to do, the task need not ask to be notified: it may answer
    /// [`Outcome::Polling`].
    pub busy_poll: bool,
}

impl Budget {
    /// A round that begins at `now`, without busy polling.
    pub fn at(now: Instant) -> Budget {
        Budget { now, busy_poll: false }
    }
}

/// What a task wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Another turn when an event comes.
    Idle,
    /// Another turn soon: there is more to do.
    More,
    /// Another turn at this time, or before it when an event comes. It replaces the time that the
    /// turn before asked for.
    Until(Instant),
    /// Another turn soon, although nothing is left to do: the task has not asked to be notified.
    Polling {
        /// The turn had something to do.
        moved: bool,
    },
}

/// What a task's descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// It reports an error, or its other end is closed.
    pub failed: bool,
}

/// What a worker runs, with working memory of type `S`.
pub trait Task<S>: Send + Sync {
    /// Runs one turn.
    fn turn(&self, part: Part, budget: Budget, scratch: &mut S) -> Outcome;

    /// A descriptor that was registered under the slot's
    /// [`ready_token`](super::slot::WorkerSlot::ready_token) is ready. The task names the turns
    /// that are due, its own ones and those of its worker's other tasks.
    fn ready(&self, readiness: Readiness, due: &mut dyn FnMut(TurnId));
}
