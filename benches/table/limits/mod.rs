//! What this machine allows: the same guests with a plain loop behind their rings.
//!
//! The loop copies from a guest's transmit ring straight into another one's receive ring, on the processor where
//! back-ends run. It checks nothing, decides nothing, knows one destination and takes no lock: nobody who does more can
//! be faster, but by touching less memory.
//!
//! Round trips are bounded by something else: by what it takes to wake a thread (`wakes`). What both are made of is told
//! with every case: how long a cache line takes from one processor to the other (`line`).
//!
//! On the way through the parent it is a system call, or the kernel's ring: `sendmmsg`, `tap` (write and read on a
//! macvtap) and `tpacket` do that and nothing else.

pub mod copy;
pub mod line;
pub mod sendmmsg;
pub mod tap;
pub mod tpacket;
pub mod wakes;
