//! What the program needs to know, resolved and checked.
//!
//! Nothing here looks at the host's devices and files: `--check` validates without touching anything.
//! Two things are read: the file that `--config` names, and the host's users and groups (`access.rs`).
//!
//! The way of a value: a *source* (the flags, one `--port`, a table of the file) is read into raw
//! options (`raw_options.rs`, `port_key.rs`, `file.rs`). Those are parsed into a typed layer
//! (`layer.rs`), the layers are put over one another (`resolve.rs`), and the resulting ports are
//! checked alone and against each other (`check.rs`). Errors are collected on the whole way, each with
//! the place that the user has to correct; an option with an error is not reported again further down.

mod access;
mod check;
mod derived;
mod file;
mod input;
mod layer;
pub mod log_level;
mod port_config;
mod port_key;
mod process;
mod raw_options;
mod resolve;
mod setting;
pub mod size;

pub use access::Account;
pub use access::SocketAccess;
pub use derived::auto_mac;
pub use derived::derived_name;
pub use derived::machine_id;
pub use input::Input;
pub use port_config::Guard;
pub use port_config::Kind;
pub use port_config::MAX_QUEUE_PAIRS;
pub use port_config::MacChanges;
pub use port_config::MacChoice;
pub use port_config::PortConfig;
pub use port_config::ReservedGroups;
pub use port_config::Socket;
pub use process::Config;
pub use process::DEFAULT_BUSY_POLL;
pub use process::Workers;
pub use raw_options::KEYS;
pub use raw_options::RawOptions;
pub use raw_options::Source;
pub use resolve::resolve;
