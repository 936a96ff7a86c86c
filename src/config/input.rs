//! What the command line says, as far as it is configuration. All values are still text.
//!
//! The command line's own module fills it in, so that nothing here knows how flags are read.

use std::path::PathBuf;

use crate::config::raw_options::{RawOptions, Source};

/// What is to be resolved.
#[derive(Clone, Debug)]
pub struct Input {
    /// The plain flags of one port, the defaults of the others.
    pub flags: RawOptions,
    /// Each `--port`, in their order.
    pub ports: Vec<String>,
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// `--workers`.
    pub workers: Option<String>,
    /// `--busy-poll`.
    pub busy_poll: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--one-off`.
    pub one_off: bool,
}

impl Default for Input {
    fn default() -> Input {
        Input {
            flags: RawOptions::new(Source::Flags),
            ports: Vec::new(),
            file: None,
            workers: None,
            busy_poll: None,
            log_level: None,
            one_off: false,
        }
    }
}
