//! Offloads repaired: a frame made fit for a receiver that does not take it as it is.
//!
//! A frame comes with a `virtio_net_hdr` that may leave work to whoever is next: complete this
//! checksum, cut this into pieces (virtio 1.2, section 5.1.6). Between a guest and the kernel it is the
//! kernel that does what the other side cannot; between two guests, or from a packet socket to a guest,
//! it is this module. What the receiver accepted stays undone, for it costs nothing; only the rest is
//! done here, and done as the kernel does it, byte for byte (tests/offload.rs holds it against the
//! kernel).
//!
//! | file | idea |
//! | --- | --- |
//! | `need` | what a receiver takes, what a header asks for, and what is left to do |
//! | `repair` | a frame checked, completed, or given to `segment` or `fragment` |
//! | `packet` | where the headers of a frame stand, every length checked |
//! | `head` | the headers of a new frame, on the stack |
//! | `segment` | TCP and UDP segmentation (TSO, USO) |
//! | `fragment` | IP fragmentation of one UDP datagram (UFO) |
//! | `sum` | the Internet checksum |
//!
//! For every frame, [`need()`] looks at the header alone. What needs nothing goes on with [`pass`]; the
//! rest, in a copy of our own, through [`repair()`]. Nothing here allocates or has a state.
//!
//! What can go wrong: header and frame may contradict each other, and either may be a trap. A frame
//! that needs nothing is not looked into: its receiver asked for offloads and has to judge them, as it
//! has with any device. A frame that is to be cut is checked whole before the first piece leaves. One
//! with a tiny size would become very many: [`MOST`] pieces are the end.

pub mod fragment;
pub mod head;
pub mod need;
pub mod packet;
pub mod repair;
pub mod segment;

pub use head::HEAD;
pub use need::Accepts;
pub use need::Need;
pub use need::mark_length;
pub use need::need;
pub use need::pass;
pub use need::pass_words;
pub use repair::Emit;
pub use repair::MOST;
pub use repair::Unrepairable;
pub use repair::repair;

#[cfg(test)]
mod tests;
