//! Where frames leave and arrive: tap queues and packet sockets. Nothing here needs a privilege
//! after it is open.
//!
//! | file | idea |
//! | --- | --- |
//! | `faulty` | An uplink for unit tests that refuses frames by a script |
//! | [`packet`] | Packet sockets on the parent itself, the first uplink of a switch |
//! | [`received`] | Frames from the wire, as an uplink hands them over |
//! | [`send_frame`] | A frame for the wire, as an uplink takes it |
//! | [`tap`] | One queue of a macvtap device |
//! | [`tap_offload`] | The offloads that the reader of a tap accepts |
//! | [`wire`] | The wire as a switch needs it, in one trait |

#[cfg(test)]
pub(crate) mod faulty;
pub mod packet;
pub mod received;
pub mod send_frame;
pub mod tap;
pub mod tap_offload;
pub mod wire;
