//! One guest for every case and every peer: a fast virtio-net driver over vhost-user.
//!
//! A comparison of back-ends is fair only if the guest is the same. This guest negotiates in QEMU's
//! order (the tests' own VMM does that), and then works on the rings by itself. Every descriptor
//! always belongs to the same buffer. So sending is a stamp into the frame, a head into the
//! available ring, and one index for a burst. Receiving is a look at the header, and the same head
//! offered again. The guest allocates, looks up and checks nothing per frame.
//!
//! | file | idea |
//! | --- | --- |
//! | `ring` | a split virtqueue, driver side: pointers, two indices, event index |
//! | `transmit`, `receive` | the two rings of a queue pair with their buffers |
//! | `guest` | a machine: memory, connection, queue pairs |
//! | `frame` | the frames that are sent: a header and an Ethernet frame |
//! | `traffic` | a loop over guests: bursts, windows, rates, and the counts |
//! | `pingpong` | one frame there and one back: round trips |
//! | `probe` | single frames, alone or among other ports that flood |
//!
//! The guest touches of each frame what a forwarding guest touches: it writes the header and the
//! first bytes, and reads them at the other end. The rest of the payload is written once.
//!
//! What can go wrong: if a back-end returns a head twice, or one that was not offered, frames are
//! counted wrongly without an error. The tests' strict driver (testkit/src/driver.rs) finds such
//! errors.

pub mod frame;
pub mod guest;
pub mod pingpong;
pub mod probe;
pub mod receive;
pub mod ring;
pub mod traffic;
pub mod transmit;

pub use frame::Frame;
pub use guest::{Guest, Shape};
pub use traffic::{Count, Plan, run};
