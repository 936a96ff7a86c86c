//! The frames that the host's own stack must not receive while our ports are on its device.
//!
//! A kernel macvlan takes such frames away before the host's stack sees them. Our packet socket
//! only gets copies, so a program at the parent's ingress drops the host's (`host/host_filter.rs`).
//! The rules follow from the ports' modes. A new rule is attached before an old one is removed: in
//! between the host receives rather less than more.

use std::io;

use log::debug;

use crate::control::parents::bridge_port::BridgePort;
use crate::error::{Error, Result};
use crate::host::host_filter::{HostFilter, HostFilterRule};
use crate::host::link::LinkInfo;
use crate::host::rootless::is_rootless;
use crate::host::verbs::Host;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// No unicast: the passthru port has it.
    Unicast,
    /// None of these senders: a source port keeps them for itself.
    Senders(Vec<Mac>),
    /// No broadcast of these ports that a switch has sent back.
    Echoes(Vec<Mac>),
}

impl Rule {
    /// An echo that reaches the host is a nuisance, not a broken promise: without the filter a port
    /// still works.
    fn is_needed(&self) -> bool {
        !matches!(self, Rule::Echoes(_))
    }

    fn impose(&self, host: &mut dyn Host, parent: &LinkInfo) -> Result<HostFilter> {
        let starve = match self {
            Rule::Unicast => HostFilterRule::Unicast,
            Rule::Senders(sources) => HostFilterRule::Sources(sources),
            Rule::Echoes(ports) => HostFilterRule::Reflected(ports),
        };
        host.filter_host(parent.index, starve).map_err(|error| not_deaf(&parent.name, &error))
    }
}

/// The host cannot be kept from the frames of this parent.
pub fn not_deaf(parent: &str, error: &io::Error) -> Error {
    let object = format!("parent {parent}");
    let reason = format!("its frames cannot be kept from the host's stack: {error}");
    let remedy = match is_rootless() {
        true => "in a user namespace no BPF program can be loaded: use another mode",
        false => "Linux 6.6 and CAP_BPF or root are needed; or use another mode",
    };
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::permission(object, reason, remedy),
        io::ErrorKind::Unsupported => Error::unsupported(object, reason, remedy),
        io::ErrorKind::InvalidInput => Error::limit(object, reason, remedy),
        _ => Error::system(object, reason, remedy),
    }
}

/// The rules in force on a parent.
#[derive(Debug, Default)]
pub struct HostFilters(Vec<(Rule, HostFilter)>);

impl HostFilters {
    /// Attaches the rules that these ports need, and removes the others.
    ///
    /// # Errors
    /// The kernel cannot do what a mode promises.
    pub fn follow<'a>(
        &mut self,
        host: &mut dyn Host,
        parent: &LinkInfo,
        members: impl Iterator<Item = &'a BridgePort> + Clone,
    ) -> Result<()> {
        let rules = rules(members);
        for rule in &rules {
            if self.0.iter().any(|(imposed, _)| imposed == rule) {
                continue;
            }
            match rule.impose(host, parent) {
                Ok(filter) => self.0.push((rule.clone(), filter)),
                Err(error) if rule.is_needed() => return Err(error),
                Err(error) => debug!("{error}"),
            }
        }
        self.0.retain(|(imposed, _)| rules.contains(imposed));
        Ok(())
    }
}

/// The rules that follow from the ports.
fn rules<'a>(members: impl Iterator<Item = &'a BridgePort> + Clone) -> Vec<Rule> {
    let mut rules = Vec::new();
    if members.clone().any(|member| member.mode() == Mode::Passthru) {
        rules.push(Rule::Unicast);
    }
    let mut senders: Vec<Mac> =
        members.clone().flat_map(|member| member.taken_away().iter().copied()).collect();
    senders.sort_unstable();
    senders.dedup();
    if !senders.is_empty() {
        rules.push(Rule::Senders(senders));
    }
    let alone = |m: &&BridgePort| matches!(m.mode(), Mode::Private | Mode::Passthru | Mode::Source);
    let echoes: Vec<Mac> =
        members.filter(alone).filter(|m| m.is_up()).map(BridgePort::mac).collect();
    if !echoes.is_empty() {
        rules.push(Rule::Echoes(echoes));
    }
    rules
}
