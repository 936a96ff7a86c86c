//! Everything that can be judged, judged before anything is made.
//!
//! A start makes devices, opens parents and publishes sockets, in this order, and takes everything back
//! when a step fails. What fails late is seen by others: a network manager configures a device that is
//! gone a moment later. And what fails first hides what would fail next. So every port is judged here,
//! with its socket, its device and its parent, and all errors are reported together.
//!
//! The sockets are more than judged. They are made ready in a private directory (`listen/`), because
//! only that proves that they can be had; nobody sees them before they are published.
//!
//! What can go wrong: what is judged may change before it is made. Each later step checks for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;

use crate::config::{Config, Kind, PortConfig, Socket};
use crate::control::endpoint::Reserved;
use crate::control::endpoint::location::Locations;
use crate::control::endpoints::Entrances;
use crate::control::{kernel_port, port_mac};
use crate::error::{Error, Result};
use crate::host::foresight::Foresight;
use crate::host::host_filter::HostFilterRule;
use crate::host::spec::Wanted;
use crate::host::verbs::Host;
use crate::net::mode::Mode;

/// Judges all ports of a configuration and reserves their sockets.
///
/// # Errors
/// All that is wrong, and nothing was made.
pub(crate) fn judge(
    config: &Config,
    inherited: Result<BTreeMap<String, UnixStream>>,
    host: &mut dyn Host,
) -> Result<Entrances> {
    let mut errors = Vec::new();
    let mut entrances = Entrances::default();
    match inherited {
        Ok(streams) => entrances.inherited = streams,
        Err(error) => errors.push(error),
    }
    let mut places = Locations::default();
    let mut judge = Judge::default();
    for port in &config.ports {
        if let Socket::Listen(path) = &port.socket {
            match Reserved::make(&mut places, path, &port.access) {
                Ok(reserved) => {
                    entrances.sockets.insert(port.name.clone(), reserved);
                }
                Err(error) => errors.push(error),
            }
        }
        errors.extend(judge.port(port, host).err());
    }
    Error::all(errors).map(|()| entrances)
}

/// Judges ports one after the other.
#[derive(Default)]
struct Judge {
    foresight: Foresight,
    /// Whether packet sockets may be opened, once that is known.
    packets: Option<Result<()>>,
    /// Parents whose host can be kept from frames, by index.
    filtered: BTreeSet<u32>,
}

impl Judge {
    fn port(&mut self, port: &PortConfig, host: &mut dyn Host) -> Result<()> {
        match port.kind {
            Kind::Macvtap => {
                let spec = kernel_port::spec(port, host)?;
                host.foresee_kernel_port(&mut self.foresight, &spec)
            }
            Kind::Macvlan => self.userspace(port, host),
        }
    }

    fn userspace(&mut self, port: &PortConfig, host: &mut dyn Host) -> Result<()> {
        let object = format!("port {}", port.name);
        let mac = port_mac::of(port, host)?;
        let wanted = Wanted { object: &object, mode: port.mode, mac: Some(mac), mtu: port.mtu };
        let parent =
            host.foresee_userspace_port(&mut self.foresight, &port.name, &port.parent, &wanted)?;
        let packets = self.packets.get_or_insert_with(|| {
            host.sending_socket().map(drop).map_err(|error| {
                crate::control::parents::manager::socket_failed(&parent.name, &error)
            })
        });
        packets.clone()?;
        let starves = port.mode == Mode::Passthru || port.nodst;
        if starves && self.filtered.insert(parent.index) {
            // One that drops nothing: whether the kernel takes it is the question.
            let trial = host.filter_host(parent.index, HostFilterRule::Sources(&[])).map(drop);
            trial.map_err(|error| {
                crate::control::parents::host_filters::not_deaf(&parent.name, &error)
            })?;
        }
        Ok(())
    }
}
