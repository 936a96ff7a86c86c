//! The options of the process, one entry each; see `port_options.rs`.

use std::time::Duration;

use log::LevelFilter;

use crate::config::option_table::options;
use crate::config::process::Workers;
use crate::config::value;

options! {
    /// What one source says about the process, parsed.
    settings ProcessSettings, table PROCESS_OPTIONS;

    workers: Workers {
        key "workers", flag "workers", takes Number("N|per-queue"), scope Process,
        parse value::workers,
        default Words("at most one per CPU, never more than queue pairs"),
        help "Threads that carry the queue pairs: a number, or per-queue for one each",
        manual "the number of worker threads, or `per-queue`",
        synonyms ["threads"],
    }
    busy_poll: Duration {
        key "busy-poll", flag "busy-poll", takes Number("MICROSECONDS"), scope Process,
        parse value::busy_poll,
        default Literal("5"),
        help "How long a worker polls for more frames before it sleeps, after it has moved frames; takes processor time",
        manual "how long a worker polls for more frames of userspace ports before it sleeps, after it has moved frames; up to 1000. A longer time saves wake-ups and costs processor time",
        synonyms [],
    }
    one_off: bool {
        key "one-off", flag "one-off", takes Switch, scope Process,
        parse value::on_off,
        default Literal("off"),
        help "End when the front-end of any port disconnects",
        manual "end when the front-end of any port disconnects",
        synonyms ["one-shot", "oneshot", "once"],
    }
    log_level: LevelFilter {
        key "log-level", flag "log-level", takes Value("LEVEL"), scope Process,
        parse value::log_level,
        default Literal("info"),
        help "How much to log to stderr: error, warn, info, debug or trace; RUST_LOG wins if set",
        manual "`error`, `warn`, `info`, `debug`, `trace`; the variable `RUST_LOG` overrides it",
        synonyms ["loglevel", "verbose", "debug", "quiet"],
    }
}
