//! What the program needs to know, resolved and checked.
//!
//! Nothing here looks at the host's devices and files: `--check` validates without touching anything.
//! Two things are read: the file that `--config` names, and the host's users and groups (`access.rs`).
//!
//! Every option is one entry of a table (`port_options.rs`, `process_options.rs`; `option.rs` says what
//! an entry is). The way of a value: a *source* (the flags, one `--port`, a table of the file) is read
//! into raw options (`raw_options.rs`, `port_key.rs`, `file.rs`). Those are parsed into typed settings,
//! by the parsers of `value.rs`. The settings are put over one another (`resolve.rs`), and the
//! resulting ports are checked alone (`port_draft.rs`) and against each other (`siblings.rs`). Problems
//! are collected on the whole way, each with the place that the user has to correct; an option with a
//! problem is not reported again further down.

mod access;
mod derived;
mod file;
mod input;
mod invalid;
pub(crate) mod log_level;
pub mod option;
mod option_table;
mod port_config;
mod port_draft;
mod port_key;
mod port_options;
mod process;
mod process_options;
mod raw_options;
mod resolve;
mod setting;
mod siblings;
pub(crate) mod size;
mod value;

pub use access::{Account, SocketAccess};
pub use derived::{auto_mac, derived_name, machine_id};
pub use input::Input;
pub use port_config::{
    FrontendSocket, Guard, Kind, MAX_QUEUE_PAIRS, MacChanges, MacChoice, PortConfig, ReservedGroups,
};
pub use port_options::PORT_OPTIONS;
pub use process::{Config, Workers};
pub use process_options::PROCESS_OPTIONS;
pub use raw_options::{RawOptions, Source};
pub use resolve::resolve;
