//! The tests of `hostile.rs` once more, with the ports in our own switch: what a front-end may do must not depend on
//! what carries the frames. The rig looks at this program's name.

#[path = "hostile.rs"]
mod hostile;
