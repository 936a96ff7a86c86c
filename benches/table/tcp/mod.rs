//! TCP through real kernels, which is what users call network speed.
//!
//! A namespace is almost a machine with a kernel of its own: it has sockets, TCP and offloads. Its
//! only device is a tap. A *carrier* in this process moves frames between that tap and the back-end
//! in both directions, as a guest's driver or a VMM does:
//!
//! ```text
//!   namespace "one"                                             namespace "two"
//!   TCP -- tap -- carrier -- back-end under test -- carrier -- tap -- TCP
//! ```
//!
//! The carrier is the same for all back-ends: one pinned thread for all guests of a case, one
//! `read` and one `write` on the tap per frame, super-frames passed whole. Its far side depends on
//! the back-end: virtio rings in shared memory (ours), or `write` and `read` on a macvtap or on a
//! tap of a Linux bridge.
//!
//! | file | idea |
//! | --- | --- |
//! | `machine` | a namespace with a tap, an address and its carrier's end of it |
//! | `carrier` | the loop, and when it sleeps |
//! | `rings`, `device` | the two kinds of far side |
//! | `load` | bulk connections, and the ping-pong of one byte |
//!
//! What can go wrong: for the kernel's devices the far side is a system call in the carrier's
//! thread; for ours it is another process that must be woken. A real guest on a kernel tap would
//! wake its VMM's thread, which does not exist here. So in cases where both sides sleep between
//! frames, ours has two more hops than the kernel's.

pub mod carrier;
pub mod device;
pub mod load;
pub mod machine;
pub mod rings;
