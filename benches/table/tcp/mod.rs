//! TCP through real kernels: what users call network speed, between a namespace and whatever is behind a back-end.
//!
//! A namespace is a machine with a kernel of its own (almost): sockets, TCP, offloads. Its only device is a tap, and
//! a *carrier* in this process moves frames between that tap and the back-end, in both directions, as a guest's
//! driver or a VMM does:
//!
//! ```text
//!   namespace "one"                                             namespace "two"
//!   TCP -- tap -- carrier -- back-end under test -- carrier -- tap -- TCP
//! ```
//!
//! The carrier is the same for all back-ends: one thread for all guests of a case, pinned, one `read` and one `write`
//! on the tap per frame, super-frames passed whole. What it does on the far side is what the back-end is: virtio rings
//! in shared memory (ours), `write` and `read` on a macvtap, or on a tap that is a port of a Linux bridge.
//!
//! | file | idea |
//! | --- | --- |
//! | `machine` | a namespace with a tap, an address and its carrier's end of it |
//! | `carrier` | the loop, and when it sleeps |
//! | `rings`, `device` | the two kinds of far side |
//! | `load` | bulk connections, and the ping-pong of one byte |
//!
//! What can go wrong: for the kernel's devices the far side is a system call in the carrier's thread, for ours it is
//! another process that has to be woken. A real guest with a kernel's tap would wake its VMM's thread instead, which
//! nobody does here; so where both sides sleep between frames, ours is shown with two hops more than the kernel's.

pub mod carrier;
pub mod device;
pub mod load;
pub mod machine;
pub mod rings;
