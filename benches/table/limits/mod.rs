//! The limits of this machine: the same guests with a plain loop behind their rings.
//!
//! The loop copies from a guest's transmit ring straight into another guest's receive ring, on the
//! back-end's processor. It checks nothing, decides nothing, knows one destination and takes no
//! lock. A program that does more can be faster only by touching less memory.
//!
//! Round trips have another limit, the time that waking a thread takes (`wakes`). Every case also
//! shows how long a cache line takes from one processor to the other (`cache_line`).
//!
//! Through the parent the limit is a system call, or the kernel's ring. `sendmmsg`, `tap` (write
//! and read on a macvtap) and `tpacket` do only that.

pub mod cache_line;
pub mod copy;
pub mod sendmmsg;
pub mod tap;
pub mod tpacket;
pub mod wakes;
