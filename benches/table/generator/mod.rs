//! One guest for every case and every peer: a fast virtio-net driver over vhost-user.
//!
//! A comparison of back-ends is fair only if the guest is the same. This one says hello in QEMU's order (the tests'
//! own VMM does that) and then works on the rings by itself: every descriptor belongs to one buffer for ever, so that
//! sending is a stamp into the frame, a head into the available ring and one index for a burst, and receiving is a
//! look at the header and the same head offered again. Nothing is allocated, looked up or checked per frame.
//!
//! | file | idea |
//! | --- | --- |
//! | `ring` | a split virtqueue as its driver sees it: pointers, two indices, event index |
//! | `transmit`, `receive` | the two rings of a queue pair with their buffers |
//! | `guest` | a machine: memory, connection, queue pairs |
//! | `frame` | what is sent: a header and an Ethernet frame |
//! | `traffic` | a loop over guests: bursts, windows, rates, and what was counted |
//! | `pingpong` | one frame there and one back: round trips |
//! | `probe` | one frame now and then, alone or among others that flood |
//!
//! The guest touches of each frame what a forwarding guest touches: it writes the header and the first bytes, and
//! reads them at the other end. The rest of the payload is written once.
//!
//! What can go wrong: a back-end that returns a head twice or one that is not out leads to frames that are counted
//! wrongly, not to an error; the tests' strict driver (testkit/src/driver.rs) is there for that.

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
