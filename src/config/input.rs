//! What the command line says, as far as it is configuration. All values are still text.
//!
//! The command line's own module fills it in, so that nothing here knows how flags are read.

use std::path::PathBuf;

use crate::config::raw_options::RawOptions;

/// What is to be resolved.
#[derive(Clone, Debug)]
pub struct Input {
    /// The plain flags of one port, the defaults of the others.
    pub flags: RawOptions,
    /// The flags of the process.
    pub process: RawOptions,
    /// Each `--port`, in their order.
    pub ports: Vec<String>,
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
}
