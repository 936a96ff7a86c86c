//! The command line: what the user typed, and nothing more.
//!
//! The flags of the options come from their tables (`flags.rs`). The doc comments below are the help
//! of the rest. All values stay text: clap would stop at the first value that it cannot parse, while
//! `config::resolve` reports every error at once. Clap refuses only what it cannot read at all, such
//! as an unknown flag or a flag without its value. `typing.rs` puts that into our own words.
//!
//! The flags are global, so the printers (`qemu-args` and its siblings) take the same flags, before or
//! after their name. What can go wrong: if a flag meant one thing to a printer and another to the
//! program, the printed arguments would not fit the running port. So each flag is defined once.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use log::LevelFilter;

use crate::cli::flags::{PortFlags, ProcessFlags};
use crate::config::log_level::level_of;
use crate::config::option::{OptionSpec, Takes, keys};
use crate::config::{Input, PORT_OPTIONS};
use crate::error::Result;
use crate::print::{Printer, Qemu};

/// Puts virtual machines straight on the LAN: a vhost-user network back-end on macvtap.
///
/// One port: --parent eth0 --socket-path /run/vm1.sock. Many ports: one --port for each, or a
/// --config file; the flags of "One port" then give the defaults for what a port leaves out. Exit
/// codes: 0 after SIGTERM or SIGINT, 1 could not do it, 2 bad usage, 3 a missing permission, 4 a
/// missing parent.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "vhost-user-macvtap", version)]
pub struct Args {
    /// The flags of one port, or the defaults of many.
    #[command(flatten)]
    pub flags: PortFlags,

    #[arg(long, global = true, value_name = "KEY=VALUE,...", help_heading = "Many ports", help = port_help())]
    #[allow(missing_docs)] // The help says it.
    pub port: Vec<String>,

    #[allow(rustdoc::broken_intra_doc_links)] // Help text: TOML's brackets, not links.
    /// A TOML file: a [defaults] table and [[port]] tables with the keys of --port
    #[arg(long, global = true, value_name = "FILE", help_heading = "Many ports")]
    pub config: Option<PathBuf>,

    /// The flags of the process.
    #[command(flatten)]
    pub process: ProcessFlags,

    /// Validate all input, report every error at once, touch nothing; exit 0 or 2
    #[arg(long, global = true, help_heading = "Process")]
    pub check: bool,

    /// Print what this back-end can do as JSON, ignoring all other arguments
    #[arg(long, global = true, help_heading = "Process")]
    pub print_capabilities: bool,

    /// What to do instead of serving the ports.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving the ports.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print what to give QEMU for these ports
    QemuArgs {
        /// The QEMU to print for, a path or a name in PATH; it is asked which options it knows
        /// [default: the one in PATH]
        #[arg(long, value_name = "BINARY")]
        qemu: Option<PathBuf>,

        /// The guest's memory: MiB, or with M, G or T [default: 1G]
        #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
        memory: Option<String>,
    },
    /// Print what to put into the libvirt domain for these ports
    LibvirtXml,
    /// Print what to give cloud-hypervisor for these ports
    CloudHypervisorArgs,
    /// Give the address of --mac back to a device when stdin ends; the program starts this itself
    #[command(hide = true)]
    GuardMac {
        /// The device's interface index
        #[arg(long, value_name = "N")]
        ifindex: u32,
    },
}

impl Command {
    /// The printer behind the subcommand, if it is one.
    ///
    /// # Errors
    /// A flag of the printer's own has a bad value.
    pub fn printer(&self) -> Result<Option<Printer>> {
        Ok(Some(match self {
            Command::QemuArgs { qemu, memory } => {
                Printer::Qemu(Qemu::new(qemu.as_deref(), memory.as_deref())?)
            }
            Command::LibvirtXml => Printer::Libvirt,
            Command::CloudHypervisorArgs => Printer::CloudHypervisor,
            Command::GuardMac { .. } => return Ok(None),
        }))
    }
}

impl Args {
    /// The part of the command line that is configuration.
    pub fn input(&self) -> Input {
        Input {
            flags: self.flags.0.clone(),
            process: self.process.0.clone(),
            ports: self.port.clone(),
            file: self.config.clone(),
        }
    }

    /// The level to log at. `config::resolve` reports an unknown one; until then the default serves.
    pub fn level(&self) -> LevelFilter {
        self.process.0.text("log-level").and_then(level_of).unwrap_or(LevelFilter::Info)
    }
}

/// The help of `--port`, with every key.
fn port_help() -> String {
    let shown = |spec: &OptionSpec| match (spec.key, spec.takes) {
        ("socket" | "parent", _) => None,
        (key, Takes::Switch) => Some(format!("{key}=on")),
        (key, Takes::List(name)) => Some(format!("{key} ({name}+{name})")),
        (key, _) => Some(key.to_owned()),
    };
    let keys: Vec<String> = keys(PORT_OPTIONS).filter_map(shown).collect();
    let keys = keys.join(", ");
    format!("A port, repeatable: socket=PATH,parent=DEV and the keys {keys}")
}

/// True if `--print-capabilities` is among the raw arguments. The vhost-user specification wants
/// every other argument ignored then, so this is asked before clap sees any of them.
pub fn asks_for_capabilities<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> bool {
    args.into_iter().skip(1).any(|arg| arg.as_ref() == "--print-capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_finds_no_contradiction() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_go_before_or_after_a_printer() {
        for line in [
            ["x", "--parent", "eth0", "qemu-args", "--mtu", "1400"],
            ["x", "qemu-args", "--parent", "eth0", "--mtu", "1400"],
        ] {
            let args = Args::try_parse_from(line).unwrap();
            assert_eq!(args.flags.0.text("parent"), Some("eth0"), "{line:?}");
            assert_eq!(args.flags.0.text("mtu"), Some("1400"), "{line:?}");
            assert!(matches!(args.command, Some(Command::QemuArgs { .. })));
        }
    }

    #[test]
    fn the_guardian_is_hidden_and_uses_the_one_mac_flag() {
        let line = ["x", "guard-mac", "--ifindex", "7", "--mac", "2:0:0:0:0:1"];
        let args = Args::try_parse_from(line).unwrap();
        assert_eq!(args.command, Some(Command::GuardMac { ifindex: 7 }));
        assert_eq!(args.flags.0.text("mac"), Some("2:0:0:0:0:1"));
        assert!(!Args::command().render_long_help().to_string().contains("guard-mac"));
    }

    #[test]
    fn capabilities_are_asked_for_whatever_else_is_typed() {
        assert!(asks_for_capabilities(["x", "--bad", "--print-capabilities"]));
        assert!(!asks_for_capabilities(["--print-capabilities", "--check"]));
    }
}
