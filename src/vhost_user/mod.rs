//! The vhost-user protocol: messages, the request filter, the session of one front-end, and what it negotiates with.
//!
//! | file | idea |
//! | --- | --- |
//! | [`device`] | The device |
//! | [`fd_kind`] | What a descriptor of a front-end is, found out without asking the object behind it |
//! | [`features`] | What the device offers, in one table, and what follows from what the guest took |
//! | [`frontend`] | The thread of a port that has to do with its front-end |
//! | [`last_holder`] | A process that outlives this one, for descriptors that cannot be closed |
//! | [`message`] | One vhost-user message |
//! | [`net_config`] | The device configuration space |
//! | [`rarp`] | The frame that tells switches where a guest lives now |
//! | [`received_fd`] | A descriptor that came from a front-end, and how it is let go |
//! | [`request_filter`] | The front door |
//! | [`session`] | One connected front-end |
//! | [`vring_handle`] | The crate's view of a ring, with ours behind it |
//! | [`wire`] | Messages on and off a Unix socket, without ever waiting |

pub mod device;
pub mod fd_kind;
pub mod features;
pub mod frontend;
pub mod last_holder;
pub mod message;
pub mod net_config;
pub mod private_socket;
pub mod rarp;
pub mod received_fd;
pub mod request_filter;
pub mod request_pace;
pub mod served_port;
pub mod session;
pub mod vring_handle;
pub mod wire;
