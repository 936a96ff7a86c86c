//! Macvtap devices and queues on the parent, on a real kernel: root, network namespaces, veth
//! pairs.
//!
//! Every test has a world of its own (`world.rs`) and removes it again; without root each fails and
//! says so. What the tests hold the kernel and the code to is listed in `src/uplink/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod device_locks;
mod frames;
mod guard;
mod holders;
mod host_filter;
mod lifecycle;
mod packet;
mod packet_life;
mod packet_load;
mod recorder;
mod refusals;
mod world;
