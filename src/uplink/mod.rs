//! Where frames leave and arrive: tap queues and packet sockets. Nothing here needs a privilege after it is open.
//!
//! | file | idea |
//! | --- | --- |
//! | [`packet`] | Packet sockets on the parent itself, the first uplink of a switch |
//! | [`received`] | Frames from the wire, as an uplink hands them over |
//! | [`send_frame`] | A frame for the wire, as an uplink takes it |
//! | [`tap`] | One queue of a macvtap device |
//! | [`tap_offload`] | What the reader of a tap can take |
//! | [`wire`] | What a switch needs of the wire, in one trait |

#[cfg(test)]
pub(crate) mod faulty;
pub mod packet;
pub mod received;
pub mod send_frame;
pub mod tap;
pub mod tap_offload;
pub mod wire;
