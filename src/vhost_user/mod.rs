//! The vhost-user protocol: messages, the request filter, the session of one front-end, and its
//! device.
//!
//! | file | idea |
//! | --- | --- |
//! | [`device`] | The virtio-net device that one front-end negotiates with |
//! | [`fd_kind`] | The kind of a front-end's descriptor, found out without a call to its object |
//! | [`features`] | The offered features, in one table, and the consequences of the guest's choice |
//! | [`frontend`] | The thread of a port that serves its front-end |
//! | [`last_holder`] | A process that outlives this one, for descriptors that cannot be closed |
//! | [`message`] | One vhost-user message |
//! | [`net_config`] | The device configuration space |
//! | [`private_socket`] | The private socket between a session and the crate's daemon |
//! | [`rarp`] | The frame that shows switches the new place of a guest |
//! | [`received_fd`] | A descriptor that came from a front-end, and the way to close it |
//! | [`request_filter`] | The checks that every request of a front-end passes before the crate |
//! | [`request_pace`] | The rate at which a front-end may send requests |
//! | [`served_port`] | The parts of a port that a connection works on |
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
