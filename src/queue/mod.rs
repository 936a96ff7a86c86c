//! The queues: where frames move.
//!
//! | file | idea |
//! | --- | --- |
//! | `memory`, `mapping` | the guest's memory as a sorted array of regions; one region, mapped and watched |
//! | `address_space` | how much of it the guests of all ports may map together |
//! | `fault` | what happens when the front-end takes that memory away |
//! | `ring`, `chain` | a split virtqueue, device side: pop, give back, publish; descriptor chains |
//! | `vnet` | the header in front of a frame, judged |
//! | `line` | one ring with its eventfds, far end and counters; started and stopped by the control side |
//! | `signaller` | a write to the front-end's eventfds that never waits |
//! | `copy` | copies into and out of guest memory in pieces |
//! | `pair`, `gate` | a queue pair: both lines and their locks |
//! | `pool`, `worker` | the threads that carry the pairs |
//! | `budget` | what one turn may cost |
//! | `run_list`, `scratch` | which turns are due at a worker; what it works with |
//! | `batch`, `entry` | frames from a guest: taken, looked at and judged before any of them moves |
//! | `to_wire` | what of a batch leaves by a parent or a tap |
//!
//! With a macvtap device behind it, where the kernel forwards:
//!
//! | file | idea |
//! | --- | --- |
//! | `from_guest` | a turn of the guest's transmit ring: a `writev` for each frame |
//! | `to_guest`, `ahead` | a turn of the guest's receive ring: `readv` to chains taken ahead of need |
//! | `tap_watch` | what the tap is watched for |
//!
//! In our own switch (its decisions are in [`crate::switch`], its repairs in [`crate::offload`]):
//!
//! | file | idea |
//! | --- | --- |
//! | `plug` | a port's place in its parent's switch: table and ports as one snapshot |
//! | `to_switch` | a turn of the guest's transmit ring: look at a batch, decide, send, hand over |
//! | `from_uplink` | a turn over what the parent has received |
//! | `spread` | a batch handed over receiver by receiver |
//! | `flood` | a frame for many: repaired once for each kind of receiver |
//! | `deliver` | a frame placed in a receive ring: the one copy |
//! | `express` | the usual frames into the usual buffers, many at a time |
//! | `backlog` | frames from the wire that wait for a guest's buffers |
//! | `lane` | a worker's socket on a parent |
//!
//! Every queue pair has exactly one worker, which alone takes frames from its guest; into a guest's receive
//! ring whoever has a frame for it may copy. The lock of a direction is the barrier of GET_VRING_BASE. Work
//! comes in *turns* with a budget, so that no ring of a worker waits longer for another than one turn
//! takes.
//!
//! Locks are taken in this order, never the other way: a transmit ring's, a lane's, one receive ring's.

pub mod address_space;
pub mod ahead;
pub mod backlog;
pub mod batch;
pub mod budget;
pub mod chain;
pub mod copy;
pub mod deliver;
pub mod entry;
pub mod express;
pub mod fault;
pub mod flood;
pub mod from_guest;
pub mod from_uplink;
pub mod gate;
pub mod lane;
pub mod line;
pub mod mapping;
pub mod memory;
pub mod pair;
pub mod plug;
pub mod pool;
pub mod ring;
pub mod run_list;
pub mod scratch;
pub mod signaller;
pub mod spread;
pub mod tap_watch;
pub mod to_guest;
pub mod to_switch;
pub mod to_wire;
pub mod vnet;
pub mod worker;

/// Most frames of one turn: what vhost-net allows itself (`VHOST_NET_PKT_WEIGHT`).
const TURN_FRAMES: usize = 256;
/// Most bytes of one turn: likewise (`VHOST_NET_WEIGHT`).
const TURN_BYTES: usize = 512 * 1024;
/// Most descriptors that are read in one turn, and one chain's: of 256 frames, 16 for each.
const TURN_DESCRIPTORS: u32 = 4096;
/// Frames between two publications of the used index within a turn: the guest may go on while we do.
const BATCH: usize = 64;

/// What a turn is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// A frame that waits for buffers has waited long enough.
    pub expired: bool,
    /// When there is nothing left, the guest need not be asked to kick: there will be another turn.
    pub linger: bool,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
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
