//! The names of log levels: env_logger's, in capitals or not.

use log::LevelFilter;

use crate::suggest;

/// The names that `--log-level` takes.
pub const LOG_LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

/// The level of that name, in capitals or not; `warning` is what other programs call `warn`.
pub fn level_of(name: &str) -> Option<LevelFilter> {
    let name = suggest::plain(name);
    let name = if name == "warning" { "warn" } else { &name };
    LOG_LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}
