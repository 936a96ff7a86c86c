//! The command line: what the user typed, and what answers without serving a port.
//!
//! `args.rs` holds the flags and commands, `typing.rs` reads a line and explains wrong words,
//! `printing.rs` prints what a VMM is to be given.

mod args;
pub(crate) mod flags;
pub mod printing;
pub mod typing;

pub use args::Args;
pub use args::Command;
pub use args::asks_for_capabilities;
