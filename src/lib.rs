//! vhost-user-macvtap: a vhost-user network back-end that puts virtual machines straight on the LAN.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod config;
pub mod error;
pub mod mac;
pub mod mode;
pub mod print;

/// Serves the ports until a signal ends it.
pub fn run(config: config::Config) -> error::Result<()> {
    let ports = config.ports.len();
    Err(error::Error::failed(
        format!("{ports} port(s)"),
        "serving is not built yet",
        "use --check or a printer",
    ))
}
pub mod uplink;
