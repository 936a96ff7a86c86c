//! Offloads repaired: a frame made fit for a receiver that does not accept it as it is.
//!
//! A frame comes with a `virtio_net_hdr` that may leave work to its receiver: complete this checksum,
//! cut this into pieces (virtio 1.2, section 5.1.6). Between a guest and the kernel, the kernel does
//! what the other side cannot. Between two guests, or from a packet socket to a guest, this room does.
//! What the receiver accepts stays undone, for it costs nothing. The rest is done here as the kernel
//! does it, byte for byte (tests/offload/main.rs compares the two).
//!
//! | file | idea |
//! | --- | --- |
//! | [`need`](mod@need) | What a frame's header asks for, compared with what its receiver accepts |
//! | [`repair`](mod@repair) | A frame made fit for its receiver: completed, cut, or refused |
//! | [`packet`] | Where things stand in a frame that is to be cut, every length checked |
//! | [`header_buf`] | The headers of a new frame, on the stack |
//! | [`cut`] | What the cutters are given, and where they put what they make |
//! | [`segment`] | TCP and UDP segmentation (TSO, USO) |
//! | [`fragment`] | IP fragmentation of one UDP datagram (UFO) |
//!
//! For every frame, [`need()`] looks at the header alone. A frame that needs nothing goes on with
//! [`pass`]; any other is copied and goes through [`repair()`]. Nothing here allocates or has a state.
//!
//! What can go wrong: header and frame may contradict each other, and either may be a trap. A frame
//! that needs nothing is not looked into: its receiver asked for offloads and has to judge them, as
//! with any device. A frame that is to be cut is checked whole before the first piece leaves. One with
//! a tiny size would become very many pieces:
//! [`MAX_SEGMENTS`](crate::net::vnet_hdr::MAX_SEGMENTS) is the bound.

pub(crate) mod cut;
pub(crate) mod fragment;
pub(crate) mod header_buf;
pub mod need;
pub(crate) mod packet;
pub mod repair;
pub(crate) mod segment;

pub use cut::Emit;
pub use need::Accepts;
pub use need::Need;
pub use need::mark_length;
pub use need::need;
pub use need::pass;
pub use need::pass_words;
pub use packet::HEAD;
pub use repair::Unrepairable;
pub use repair::repair;

#[cfg(test)]
mod tests;
