//! The tests of `handshake.rs` once more, with the ports in our own switch: what a front-end may do must not depend on
//! what carries the frames. The rig looks at this program's name.

#[path = "handshake.rs"]
mod handshake;
