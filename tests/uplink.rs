//! Macvtap devices on a real kernel: root, network namespaces, veth pairs as parents.
//!
//! Every test has a world of its own (`world.rs`) and removes it again; without root each fails and
//! says so. What the tests hold the kernel and the code to is listed in `src/uplink/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "uplink/frames.rs"]
mod frames;
#[path = "uplink/lifecycle.rs"]
mod lifecycle;
#[path = "uplink/owners.rs"]
mod owners;
#[path = "uplink/refusals.rs"]
mod refusals;
#[path = "uplink/world.rs"]
mod world;
