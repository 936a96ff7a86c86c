//! The command line: what the user typed, and nothing more.
//!
//! The doc comments below are the help text. Values stay strings on purpose: clap would stop at the
//! first value that it cannot parse, while we owe the user every fault at once
//! (`config::resolve` collects them). Clap itself only refuses what it cannot make sense of at all
//! (an unknown flag, a flag without its value); `typing.rs` puts that into our own words.
//!
//! The flags are global, so that the printers (`qemu-args` and its siblings) take the very same
//! ones, before or after their name. What can go wrong: a flag that changes meaning between the
//! printers and the program itself would print arguments that do not fit the running port, so there
//! is exactly one definition of each.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use log::LevelFilter;

use crate::config::log_level::level_of;
use crate::config::{Input, RawOptions, Source};
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

    /// A port, repeatable: socket=PATH,parent=DEV and the keys type, mode, mac, mtu, queue-pairs,
    /// memory-limit, source (MAC+MAC), nodst=on, reserved-groups, guard, name, mac-changes,
    /// compat=on, client=on, socket-owner, socket-group, socket-mode
    #[arg(long, global = true, value_name = "KEY=VALUE,...", help_heading = "Many ports")]
    pub port: Vec<String>,

    #[allow(rustdoc::broken_intra_doc_links)] // Help text: TOML's brackets, not links.
    /// A TOML file: a [defaults] table and [[port]] tables with the keys of --port
    #[arg(long, global = true, value_name = "FILE", help_heading = "Many ports")]
    pub config: Option<PathBuf>,

    /// Threads that carry the queue pairs: a number, or per-queue for one each [default: at most
    /// one per CPU]
    #[arg(
        long,
        global = true,
        value_name = "N|per-queue",
        allow_negative_numbers = true,
        help_heading = "Process"
    )]
    pub workers: Option<String>,

    /// For how long a worker looks for more frames before it sleeps, after some have moved; takes
    /// processor time [default: 5]
    #[arg(
        long,
        global = true,
        value_name = "MICROSECONDS",
        allow_negative_numbers = true,
        help_heading = "Process"
    )]
    pub busy_poll: Option<String>,

    /// End when the front-end of any port has gone
    #[arg(long, global = true, help_heading = "Process")]
    pub one_off: bool,

    /// Validate all input, report every fault at once, touch nothing; exit 0 or 2
    #[arg(long, global = true, help_heading = "Process")]
    pub check: bool,

    /// Print what this back-end can do as JSON, ignoring all other arguments
    #[arg(long, global = true, help_heading = "Process")]
    pub print_capabilities: bool,

    /// How much to log to stderr: error, warn, info, debug or trace; RUST_LOG wins if set [default:
    /// info]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Process")]
    pub log_level: Option<String>,

    /// What to do instead of serving the ports.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The flags of one port; with `--port` or `--config`, the defaults for the keys left out there.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "One port")]
pub struct PortFlags {
    /// The network device whose LAN the port joins: a NIC, a VLAN device, a bond
    #[arg(long, global = true, value_name = "DEV")]
    pub parent: Option<String>,

    /// The vhost-user socket to listen on
    #[arg(long, global = true, value_name = "PATH")]
    pub socket_path: Option<String>,

    /// The user that owns the socket and so may connect, by name or number [default: the user of
    /// this program]
    #[arg(long, global = true, value_name = "USER")]
    pub socket_owner: Option<String>,

    /// The group that may connect, by name or number [default: the group of this program]
    #[arg(long, global = true, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// The socket's permission bits, as 0660; connecting takes write [default: by the umask; with
    /// --socket-group 0660]
    #[arg(long, global = true, value_name = "OCTAL")]
    pub socket_mode: Option<String>,

    /// An inherited, already connected socket instead of --socket-path; implies --one-off
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub fd: Option<String>,

    /// Connect to the socket instead of listening; retry for ever
    #[arg(long, global = true)]
    pub client: bool,

    /// What carries the frames: macvtap (a kernel device) or macvlan (userspace; also: switch)
    /// [default: macvtap]
    #[arg(long = "type", global = true, value_name = "TYPE")]
    pub kind: Option<String>,

    /// How the parent is shared: bridge, vepa, private, passthru or source [default: bridge]
    #[arg(long, global = true, value_name = "MODE")]
    pub mode: Option<String>,

    /// The MAC address, or auto: stable, from the machine id and the port's name; in passthru mode
    /// the parent's [default: auto]
    #[arg(long, global = true, value_name = "MAC|auto")]
    pub mac: Option<String>,

    /// The MTU, 68 to 65535 [default: the parent's]
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub mtu: Option<String>,

    /// Queue pairs, 1 to 32 [default: 1]
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub queue_pairs: Option<String>,

    /// The most memory that the guest may have, as 64G; more is refused [default: twice the host's
    /// memory, at least 16G]
    #[arg(long, global = true, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_limit: Option<String>,

    /// A source address that mode source accepts; repeatable
    #[arg(long, global = true, value_name = "MAC")]
    pub source: Vec<String>,

    /// With type macvlan and mode source: the host and the siblings do not get the frames of those
    /// sources
    #[arg(long, global = true)]
    pub nodst: bool,

    /// With type macvlan: frames from the wire to the groups that no bridge forwards (spanning tree,
    /// LACP, EAPOL, LLDP): deliver or drop [default: deliver]
    #[arg(long, global = true, value_name = "deliver|drop")]
    pub reserved_groups: Option<String>,

    /// Frames that concern the cable and do not leave the guest: stp (spanning tree and PAUSE) or off
    /// [default: stp; passthru and --compat: off]
    #[arg(long, global = true, value_name = "stp|off")]
    pub guard: Option<String>,

    /// The name of the port and of its macvtap device, at most 15 bytes [default: derived from the
    /// socket path, stable]
    #[arg(long, global = true, value_name = "NAME")]
    pub name: Option<String>,

    /// Another source address from the guest: follow it, or drop and count [default: deny; passthru:
    /// allow]
    #[arg(long, global = true, value_name = "allow|deny")]
    pub mac_changes: Option<String>,

    /// With type macvlan: the kernel's behaviour to the letter, without our improvements
    #[arg(long, global = true)]
    pub compat: bool,
}

impl PortFlags {
    fn raw(&self) -> RawOptions {
        let flags = self;
        let sources = (!flags.source.is_empty()).then(|| flags.source.join("+"));
        let on = |set: bool| set.then(|| "on".to_owned());
        let mut raw = RawOptions::new(Source::Flags);
        raw.fd = flags.fd.clone();
        for (key, text) in [
            ("socket", flags.socket_path.clone()),
            ("parent", flags.parent.clone()),
            ("type", flags.kind.clone()),
            ("mode", flags.mode.clone()),
            ("mac", flags.mac.clone()),
            ("mtu", flags.mtu.clone()),
            ("queue-pairs", flags.queue_pairs.clone()),
            ("memory-limit", flags.memory_limit.clone()),
            ("source", sources),
            ("nodst", on(flags.nodst)),
            ("reserved-groups", flags.reserved_groups.clone()),
            ("guard", flags.guard.clone()),
            ("name", flags.name.clone()),
            ("mac-changes", flags.mac_changes.clone()),
            ("compat", on(flags.compat)),
            ("client", on(flags.client)),
            ("socket-owner", flags.socket_owner.clone()),
            ("socket-group", flags.socket_group.clone()),
            ("socket-mode", flags.socket_mode.clone()),
        ] {
            if let Some(text) = text {
                raw.add(key, text, None);
            }
        }
        raw
    }
}

/// What to do instead of serving the ports.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print what to give QEMU for these ports
    QemuArgs {
        /// The QEMU that shall take them, a path or a name in PATH: it is asked which words it
        /// knows [default: the one in PATH]
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
    /// Give a device the address of --mac back when stdin ends; the program starts it itself
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
    /// What of this is configuration.
    pub fn input(&self) -> Input {
        Input {
            flags: self.flags.raw(),
            ports: self.port.clone(),
            file: self.config.clone(),
            workers: self.workers.clone(),
            busy_poll: self.busy_poll.clone(),
            log_level: self.log_level.clone(),
            one_off: self.one_off,
        }
    }

    /// The level to log at. An unknown one is a fault of `config::resolve`; until that is told,
    /// the default serves.
    pub fn level(&self) -> LevelFilter {
        self.log_level.as_deref().and_then(level_of).unwrap_or(LevelFilter::Info)
    }
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
            assert_eq!(args.flags.parent.as_deref(), Some("eth0"), "{line:?}");
            assert_eq!(args.flags.mtu.as_deref(), Some("1400"), "{line:?}");
            assert!(matches!(args.command, Some(Command::QemuArgs { .. })));
        }
    }

    #[test]
    fn the_guardian_is_hidden_and_uses_the_one_mac_flag() {
        let line = ["x", "guard-mac", "--ifindex", "7", "--mac", "2:0:0:0:0:1"];
        let args = Args::try_parse_from(line).unwrap();
        assert_eq!(args.command, Some(Command::GuardMac { ifindex: 7 }));
        assert_eq!(args.flags.mac.as_deref(), Some("2:0:0:0:0:1"));
        assert!(!Args::command().render_long_help().to_string().contains("guard-mac"));
    }

    #[test]
    fn capabilities_are_asked_for_whatever_else_is_typed() {
        assert!(asks_for_capabilities(["x", "--bad", "--print-capabilities"]));
        assert!(!asks_for_capabilities(["--print-capabilities", "--check"]));
    }
}
