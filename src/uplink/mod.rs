//! Where frames leave and arrive: tap queues and packet sockets. Nothing here needs a privilege after it is open.
//!
//! | file | idea |
//! | --- | --- |
//! | [`packet`] | A port on the parent itself |
//! | [`tap`] | One queue of a macvtap device |
//! | [`tap_offload`] |  |

pub mod packet;
pub mod received;
pub mod send_frame;
pub mod tap;
pub mod tap_offload;
pub mod wire;
