//! The queues: where frames move.
//!
//! | file | idea |
//! | --- | --- |
//! | `memory` | the guest's memory as a sorted array of regions |
//! | `fault` | what happens when the front-end takes that memory away |
//! | `ring`, `chain` | a split virtqueue, device side: pop, give back, publish; descriptor chains |
//! | `vnet` | the header in front of a frame, judged |
//! | `line` | one ring with its eventfds, tap queue and counters; started and stopped by the control side |
//! | `from_guest` | a turn of the guest's transmit ring: chain to `writev` |
//! | `to_guest`, `ahead` | a turn of the guest's receive ring: `readv` to chains taken ahead of need |
//! | `copy` | copies into and out of guest memory in pieces |
//! | `pair`, `gate`, `tap_watch` | a queue pair: both lines, their locks, what the tap is watched for |
//! | `pool`, `worker` | the threads that carry the pairs |
//!
//! Every queue pair has exactly one worker, which alone moves its frames; the control side stops a ring
//! by taking its lock, which is therefore the barrier of GET_VRING_BASE. Work comes in *turns* with a
//! budget, so that no ring of a worker waits longer for another than one turn takes.

pub mod ahead;
pub mod chain;
pub mod copy;
pub mod fault;
pub mod from_guest;
pub mod gate;
pub mod line;
pub mod memory;
pub mod pair;
pub mod pool;
pub mod ring;
pub mod tap_watch;
pub mod to_guest;
pub mod vnet;
pub mod worker;

/// Most frames of one turn: what vhost-net allows itself (`VHOST_NET_PKT_WEIGHT`).
const TURN_FRAMES: usize = 256;
/// Most bytes of one turn: likewise (`VHOST_NET_WEIGHT`).
const TURN_BYTES: usize = 512 * 1024;
/// Frames between two publications of the used index within a turn: the guest may go on while we do.
const BATCH: usize = 64;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing left to do until an event comes.
    Idle,
    /// The budget is used up.
    More,
    /// The tap takes no more for now.
    TapFull,
    /// The guest has no buffers; `waiting` says whether a frame waits for them.
    Starved {
        /// A frame was read and waits for buffers.
        waiting: bool,
    },
}
