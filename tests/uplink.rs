//! Macvtap devices and queues on the parent, on a real kernel: root, network namespaces, veth pairs.
//!
//! Every test has a world of its own (`world.rs`) and removes it again; without root each fails and
//! says so. What the tests hold the kernel and the code to is listed in `src/uplink/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "uplink/frames.rs"]
mod frames;
#[path = "uplink/guard.rs"]
mod guard;
#[path = "uplink/holders.rs"]
mod holders;
#[path = "uplink/host_filter.rs"]
mod host_filter;
#[path = "uplink/lifecycle.rs"]
mod lifecycle;
#[path = "uplink/owners.rs"]
mod owners;
#[path = "uplink/packet.rs"]
mod packet;
#[path = "uplink/packet_life.rs"]
mod packet_life;
#[path = "uplink/packet_load.rs"]
mod packet_load;
#[path = "uplink/refusals.rs"]
mod refusals;
#[path = "uplink/world.rs"]
mod world;
