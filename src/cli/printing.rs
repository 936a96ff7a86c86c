//! The printers with the host's answers: which MAC address each port will have.
//!
//! The VMM must give the guest the address that the port filters for. The running program finds it in
//! the same place (`control/port_mac.rs`), so the two cannot differ.
//!
//! What can go wrong: a passthru port takes its address from a parent that is missing. That is an
//! error, for every such port.

use crate::config::Config;
use crate::control::port_mac;
use crate::error::{Error, Result};
use crate::host::local::LocalHost;
use crate::print::{Printer, ShownPort};

/// The arguments for all ports, with the MAC addresses that the ports will have.
///
/// # Errors
/// An address cannot be found, or the VMM's syntax cannot hold a value.
pub fn text(printer: &Printer, config: &Config) -> Result<String> {
    let mut host = LocalHost::open()?;
    let (mut shown, mut errors) = (Vec::new(), Vec::new());
    for port in &config.ports {
        match port_mac::of(port, &mut host) {
            Ok(mac) => shown.push(ShownPort { port, mac: Some(mac), mtu: port.mtu }),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    printer.text(&shown)
}

#[cfg(test)]
mod tests;
