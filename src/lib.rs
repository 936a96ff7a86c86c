//! vhost-user-macvtap: a vhost-user network back-end that puts virtual machines straight on the LAN.
//!
//! One process serves any number of virtio-net devices over vhost-user sockets. It binds each to a
//! port of a parent network device. The rooms (folders) stand in layers: a room imports only rooms
//! below it.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`cli`] | what the user typed |
//! | [`control`] | the event loop, ports, endpoints, parents |
//! | [`print`](mod@print) | what to give QEMU, libvirt and cloud-hypervisor |
//! | [`vhost_user`] | messages, the request filter, sessions, what a front-end negotiates with |
//! | [`datapath`] | a frame's way between rings, taps, siblings and the wire |
//! | [`worker`] | the threads, and which turn is due |
//! | [`virtqueue`] | guest memory and rings, device side |
//! | [`uplink`] | tap queues and packet sockets: I/O only |
//! | [`host`] | what takes a privilege: netlink, devices, filters |
//! | [`switch`] | who gets a frame; pure |
//! | [`offload`] | checksums and segments in software; pure |
//! | [`config`] | what the program needs, with every error reported |
//! | [`process`] | log, threads, limits |
//! | [`net`] | what the specifications say about frames and addresses; pure |
//! | `sys` | system calls for which no crate has a safe form |
//! | `sync` | locks and atomics, which the models exchange for loom's |
//! | [`error`], [`suggest`] | errors, "did you mean ...?" |
//!
//! The library is there for the program, and for the tests, benchmarks and fuzz targets beside it. A
//! module is `pub` only if one of those names it; all others are `pub(crate)`, so that the compiler
//! finds what nothing uses (`testkit/tests/used.rs` holds this).
//!
//! docs/architecture.md follows one frame out and one back.
// Essays name private constants; they are read beside the source.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
pub mod error;
pub mod host;
pub mod net;
pub mod offload;
pub mod print;
pub mod process;
pub(crate) mod suggest;
pub mod switch;
mod sync;
mod sys;
pub mod uplink;
pub mod vhost_user;
pub mod virtqueue;
pub mod worker;

/// Serves the ports until a signal ends it, or with `--one-off` a front-end's leaving.
///
/// # Errors
/// A port could not be made. Nothing is left behind then.
pub fn run(config: crate::config::Config) -> crate::error::Result<()> {
    crate::control::event_loop::EventLoop::start(&config)?.run()
}
