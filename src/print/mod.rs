//! What to give the VMM so that it meets these ports: `qemu-args` and its siblings.
//!
//! Half of the trouble with vhost-user back-ends is on the other side's command line: memory that
//! is not shared, a queue count in the wrong unit, the wrong end listening. Here the program prints
//! what fits the port it would serve, ready to paste.
//!
//! The printers are pure. The host is asked two questions: the port's MAC address, because the VMM must
//! give the guest the same one that the port filters for (the running program asks in the same place,
//! `server/port_mac.rs`); and which words the QEMU at hand takes ([`Printer::ask`]). What can go wrong:
//! the parent that a passthru port takes its address from is not there, which is told; a value that the
//! other side's syntax cannot hold, which is refused.

mod cloud_hypervisor;
mod libvirt;
mod qemu;

use std::path::PathBuf;

pub use qemu::Qemu;

use crate::config::{Config, PortConfig, Socket};
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::server::port_mac;
use crate::uplink::Netlink;

/// Ring size to ask for: the largest that QEMU takes, and the one that saves most wake-ups.
const RING_SIZE: u16 = 1024;

/// Whose arguments to print.
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
    /// Asks the VMM at hand which words it takes, where that makes a difference.
    pub fn ask(&mut self) {
        if let Printer::Qemu(qemu) = self {
            qemu.ask();
        }
    }
}

/// One port as the VMM has to see it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The port.
    pub port: &'a PortConfig,
    /// The guest's MAC address; the VMM chooses one when absent.
    pub mac: Option<Mac>,
    /// The guest's MTU; the VMM's default when absent.
    pub mtu: Option<u32>,
}

/// What `--print-capabilities` prints (vhost-user specification, back-end program conventions).
pub fn capabilities_json() -> &'static str {
    "{\"type\": \"net\"}\n"
}

/// The arguments for all ports, with the MAC addresses that the ports will have.
pub fn text(printer: &Printer, config: &Config) -> Result<String> {
    let mut netlink = Netlink::open()?;
    let (mut shown, mut errors) = (Vec::new(), Vec::new());
    for port in &config.ports {
        match port_mac::of(port, &mut netlink) {
            Ok(mac) => shown.push(Shown { port, mac: Some(mac), mtu: port.mtu }),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    pure_text(printer, &shown)
}

/// The arguments for these ports; nothing is asked of the host but the current directory.
pub fn pure_text(printer: &Printer, ports: &[Shown]) -> Result<String> {
    let faults: Vec<String> = ports.iter().filter_map(no_path).collect();
    if !faults.is_empty() {
        return Err(Error::Usage(faults));
    }
    match printer {
        Printer::Qemu(qemu) => Ok(qemu.text(ports)),
        Printer::Libvirt => libvirt::text(ports),
        Printer::CloudHypervisor => cloud_hypervisor::text(ports),
    }
}

/// What the user should know beside the arguments; for stderr, so that stdout can be pasted whole.
pub fn note(printer: &Printer, config: &Config) -> String {
    let listens = config.ports.iter().any(|port| matches!(port.socket, Socket::Listen(_)));
    match printer {
        Printer::Qemu(qemu) => qemu.note(listens),
        Printer::Libvirt => String::new(),
        Printer::CloudHypervisor => cloud_hypervisor::note(),
    }
}

fn no_path(shown: &Shown) -> Option<String> {
    match shown.port.socket {
        Socket::Fd(fd) => Some(format!(
            "--fd {fd}: has no path that could be given to a VMM; print with --socket-path PATH"
        )),
        _ => None,
    }
}

/// The socket's path from the root, because the VMM runs elsewhere, and whether the VMM has to
/// listen on it.
fn socket(port: &PortConfig) -> (PathBuf, bool) {
    let (path, vmm_listens) = match &port.socket {
        Socket::Listen(path) => (path.clone(), false),
        Socket::Connect(path) => (path.clone(), true),
        // Refused by `pure_text`; an empty path is refused by every VMM.
        Socket::Fd(_) => (PathBuf::new(), false),
    };
    (std::path::absolute(&path).unwrap_or(path), vmm_listens)
}

/// A word for a POSIX shell, quoted where it needs to be.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// One line for each argument, to be pasted into a shell.
fn lines(arguments: &[String]) -> String {
    arguments.join(" \\\n") + "\n"
}

#[cfg(test)]
mod tests;
