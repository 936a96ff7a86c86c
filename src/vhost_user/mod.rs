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
//! | [`request_filter`] | Every request of a front-end passes it before the crate |
//! | [`session`] | One connected front-end |
//! | [`vring_handle`] | The crate's view of a ring, with ours behind it |
//! | [`wire`] | Messages on and off a Unix socket, without ever waiting |

pub(crate) mod device;
pub(crate) mod fd_kind;
pub(crate) mod features;
pub(crate) mod frontend;
pub mod last_holder;
pub mod message;
pub(crate) mod net_config;
pub(crate) mod private_socket;
pub(crate) mod rarp;
pub(crate) mod received_fd;
pub mod request_filter;
pub(crate) mod request_pace;
pub(crate) mod served_port;
pub(crate) mod session;
pub(crate) mod vring_handle;
pub mod wire;
