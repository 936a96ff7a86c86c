//! The VMM that the arguments are for, and the code that all printers share.

use crate::config::{Config, FrontendSocket, PortConfig};
use crate::error::{Error, ErrorCode, Problem, Result};
use crate::net::mac::Mac;
use crate::print::qemu::Qemu;
use crate::print::shown_port::ShownPort;
use crate::print::{cloud_hypervisor, libvirt};

/// The VMM to print for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Printer {
    /// The command line of this QEMU.
    Qemu(Qemu),
    /// A libvirt domain's elements.
    Libvirt,
    /// cloud-hypervisor's command line.
    CloudHypervisor,
}

impl Printer {
    /// Asks the VMM at hand which options it takes, where that makes a difference.
    pub fn ask(&mut self) {
        if let Printer::Qemu(qemu) = self {
            qemu.ask();
        }
    }

    /// The arguments for these ports, whose addresses the caller brings in their order. Of the
    /// host, only the current directory is read.
    ///
    /// # Errors
    /// A port has no path, or one that the VMM's syntax cannot hold.
    pub fn text(&self, ports: &[PortConfig], macs: &[Mac]) -> Result<String> {
        Error::of_problems(ports.iter().filter_map(no_path))?;
        let shown = ports.iter().zip(macs).map(|(port, &mac)| ShownPort { port, mac });
        let ports: Vec<ShownPort> = shown.collect();
        match self {
            Printer::Qemu(qemu) => Ok(qemu.text(&ports)),
            Printer::Libvirt => libvirt::text(&ports),
            Printer::CloudHypervisor => cloud_hypervisor::text(&ports),
        }
    }

    /// Remarks for the user beside the arguments; for stderr, so that stdout can be pasted whole.
    pub fn note(&self, config: &Config) -> String {
        let listens =
            config.ports.iter().any(|port| matches!(port.socket, FrontendSocket::Listen(_)));
        match self {
            Printer::Qemu(qemu) => qemu.note(listens),
            Printer::Libvirt => String::new(),
            Printer::CloudHypervisor => cloud_hypervisor::note(),
        }
    }
}

/// The output of `--print-capabilities` (vhost-user specification, back-end program conventions).
pub fn capabilities_json() -> &'static str {
    "{\"type\": \"net\"}\n"
}

fn no_path(port: &PortConfig) -> Option<Problem> {
    match port.socket {
        FrontendSocket::Fd(fd) => Some(Problem::new(
            ErrorCode::Conflict,
            format!("--fd {fd}"),
            "has no path that could be given to a VMM",
            "print with --socket-path PATH",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
