//! Whether a wanted port can be had on this host, judged before anything is made.
//!
//! Making a port is visible: a network manager configures a device that is deleted again a moment
//! later when a later step fails. And the first failure hides the next one. So each port is judged
//! first, with its socket, its device and its parent, beside the ports that were judged before it
//! ([`PortChecks::judge`]). A start does so for each port of the configuration in turn and reports
//! all errors together ([`judge_all`]). `claims.rs` has the things that one port may not share with
//! another; `host/foresight.rs` has the kernel's refusals.
//!
//! The sockets are more than judged. They are made ready in a private directory
//! (`endpoint/private.rs`), because only that proves that they can be had; no other process sees
//! them before they are published.
//!
//! What can go wrong: the host may change between the judgement and the making. Each later step
//! checks for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;

use crate::config::{Config, FrontendSocket, Kind, PortConfig};
use crate::control::endpoint::Reserved;
use crate::control::endpoint::location::Locations;
use crate::control::endpoints::Entrances;
use crate::control::parents::host_filters::not_deaf;
use crate::control::parents::manager::uplink_queues::socket_failed;
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
/// All errors, and nothing was made.
pub(crate) fn judge_all(
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
    let mut checks = PortChecks::default();
    for port in &config.ports {
        match checks.judge(port, host) {
            Ok(Some(reserved)) => {
                entrances.sockets.insert(port.name.clone(), reserved);
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors).map(|()| entrances)
}

/// Judges wanted ports, each beside those that were judged before it. A question of several ports
/// to the host is asked once.
#[derive(Default)]
pub(crate) struct PortChecks {
    /// The socket paths.
    places: Locations,
    /// The devices and parents.
    foresight: Foresight,
    /// Whether packet sockets may be opened, once that is known.
    packets: Option<Result<()>>,
    /// Parents whose host can be kept from frames, by index.
    filtered: BTreeSet<u32>,
}

impl PortChecks {
    /// Judges a port. Returns its socket, reserved, where it is to listen.
    ///
    /// # Errors
    /// All errors of the port; its socket is not reserved then.
    pub(crate) fn judge(
        &mut self,
        wanted: &PortConfig,
        host: &mut dyn Host,
    ) -> Result<Option<Reserved>> {
        let reserved = match &wanted.socket {
            FrontendSocket::Listen(path) => {
                Reserved::make(&mut self.places, path, &wanted.access).map(Some)
            }
            FrontendSocket::Connect(_) | FrontendSocket::Fd(_) => Ok(None),
        };
        match (reserved, self.carrier(wanted, host)) {
            (Ok(reserved), Ok(())) => Ok(reserved),
            (Err(socket), Err(carrier)) => Err(socket.and(carrier)),
            (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// Judges the carrier of the port's frames.
    fn carrier(&mut self, port: &PortConfig, host: &mut dyn Host) -> Result<()> {
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
            host.sending_socket().map(drop).map_err(|error| socket_failed(&parent.name, &error))
        });
        packets.clone()?;
        let starves = port.mode == Mode::Passthru || port.nodst;
        if starves && self.filtered.insert(parent.index) {
            // A filter that drops nothing: only the kernel's answer counts.
            let trial = host.filter_host(parent.index, HostFilterRule::Sources(&[])).map(drop);
            trial.map_err(|error| not_deaf(&parent.name, &error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MacChoice;
    use crate::host::fake::FakeHost;
    use crate::host::link::LinkInfo;
    use crate::net::mac::Mac;

    fn port(name: &str, socket: FrontendSocket, parent: &str) -> PortConfig {
        let mac = MacChoice::Given(Mac([2, 0, 0, 0, 0, 5]));
        let (name, parent) = (name.to_owned(), parent.to_owned());
        PortConfig { name, socket, parent, mac, kind: Kind::Macvlan, ..PortConfig::sample() }
    }

    fn host() -> FakeHost {
        let link = LinkInfo { index: 7, name: "eth0".into(), mtu: 1500, ..LinkInfo::default() };
        FakeHost { links: vec![link], ..FakeHost::default() }
    }

    #[test]
    fn one_port_is_judged_beside_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let listen = || FrontendSocket::Listen(dir.path().join("vm.sock"));
        let port = |name, socket| PortConfig { kind: Kind::Macvtap, ..port(name, socket, "eth0") };
        let (mut checks, mut host) = (PortChecks::default(), host());
        let first = checks.judge(&port("a", listen()), &mut host).unwrap();
        assert!(first.is_some(), "the socket is reserved");
        let error = checks.judge(&port("b", listen()), &mut host).unwrap_err();
        assert!(error.to_string().contains("two names of one path"), "{error}");
        let dialled = FrontendSocket::Connect(dir.path().join("vm.sock"));
        assert!(checks.judge(&port("c", dialled), &mut host).unwrap().is_none());
    }

    #[test]
    fn everything_wrong_with_a_port_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let lost = FrontendSocket::Listen(dir.path().join("no/such/vm.sock"));
        let error = PortChecks::default().judge(&port("a", lost, "eth7"), &mut host()).unwrap_err();
        let codes: Vec<&str> = error.problems().iter().map(|it| it.code.name()).collect();
        assert_eq!(codes, ["socket-path", "parent-missing"], "{error}");
        let good = FrontendSocket::Listen(dir.path().join("vm.sock"));
        assert!(
            PortChecks::default().judge(&port("a", good, "eth7"), &mut host()).is_err(),
            "no parent"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays reserved");
    }
}
