//! The command line: what the user typed, and what answers without serving a port.
//!
//! `args.rs` holds the flags and commands, `flags.rs` makes flags of the option tables, and `typing.rs`
//! reads a line and explains wrong words.

mod args;
pub(crate) mod flags;
pub mod typing;

pub use args::Args;
pub use args::Command;
pub use args::asks_for_capabilities;
