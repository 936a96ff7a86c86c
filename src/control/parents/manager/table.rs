//! From the ports' state to what the workers and the kernel work with: the forwarding table, the filters of
//! the sockets and of the NIC, and what the host must not hear.
//!
//! All of it is made anew after a change, and as a whole: there is no sequence of small steps that could be
//! left half done. What has not changed costs no system call.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use crate::control::deadline::sooner;
use crate::control::parents::bridge_port::{Behind, BridgePort};
use crate::control::parents::manager::{ParentManager, socket_failed};
use crate::datapath::forwarding_view::ForwardingView;
use crate::error::Result;
use crate::host::verbs::Host;
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::switch::{ParentFacts, Table};
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::wire::WantedFilters;

impl ParentManager {
    /// Whether a port receives what is addressed to the host itself.
    pub(crate) fn wants_host_unicast(&self) -> bool {
        self.members().any(|member| matches!(member.mode(), Mode::Passthru | Mode::Source))
    }

    /// Makes table and filters follow the members, where something has changed; a failure is told.
    pub(crate) fn follow(&mut self, host: &mut dyn Host) {
        self.make_long_frames(host);
        if let Err(error) = self.refresh(host) {
            warn!("{error}");
        }
    }

    /// Makes table and filters follow the members, where something has changed.
    ///
    /// # Errors
    /// The kernel cannot do what a port's mode promises.
    pub fn refresh(&mut self, host: &mut dyn Host) -> Result<()> {
        if let Some(held) = &mut self.held {
            held.look_again();
        }
        let now = Instant::now();
        let (mut changed, mut later) = (false, None);
        for member in self.members.iter_mut().flatten() {
            match member.behind(now) {
                Behind::No => {}
                Behind::Now => changed = true,
                Behind::Until(time) => later = sooner(later, Some(time)),
            }
        }
        self.behind = later;
        if !std::mem::take(&mut self.stale) && !changed {
            return Ok(());
        }
        self.behind = None;
        self.members.iter_mut().flatten().for_each(BridgePort::show);
        let facts = match &self.held {
            Some(held) => ParentFacts { mac: held.link.mac, up: held.is_up(), mtu: held.link.mtu },
            None => ParentFacts { mac: Mac::default(), up: false, mtu: u32::MAX },
        };
        let members = || self.members.iter().map(Option::as_ref);
        let rules =
            members().map(|member| member.map_or_else(BridgePort::nobody, BridgePort::rules));
        let egress_ports =
            members().map(|member| member.map(BridgePort::egress_port).unwrap_or_default());
        let table = Table::new(rules.collect(), facts);
        let view = ForwardingView { table, egress_ports: egress_ports.collect() };
        // A port that can be heard to work has all that belongs to it: what it hears, and what the host does not.
        let filtered = self.set_filters(host);
        self.switch.show(view);
        filtered
    }

    /// Makes the ring for long frames, when there is a guest that may send some; another one after a change of
    /// the parent's MTU. Without it such frames are refused and counted, and the rest goes on. It takes some 15 ms, so
    /// it is no part of a refresh: tables rest many times as long as they took (`control/share.rs`), and the next guest
    /// would wait for its place in one.
    pub fn make_long_frames(&mut self, host: &mut dyn Host) {
        let Some(held) = &self.held else { return };
        let (index, mtu) = (held.link.index, held.link.mtu);
        if self.long_mtu == Some(mtu) || !self.members().any(BridgePort::is_up) {
            return;
        }
        self.long_mtu = Some(mtu);
        let opened = host.sending_socket();
        self.long = match opened.and_then(|socket| LongFrames::open(index, mtu, socket)) {
            Ok(long) => Some(Arc::new(long)),
            Err(error) => {
                debug!("parent {}: frames longer than its MTU are refused: {error}", self.name);
                None
            }
        };
        for uplink_queue in &self.uplink_queues {
            drop(uplink_queue.set_long_frames(self.long.clone()));
        }
    }

    /// The NIC and the kernel let through what the ports are to hear, and keep from the host what it is
    /// not to hear.
    pub(crate) fn set_filters(&mut self, host: &mut dyn Host) -> Result<()> {
        let everything = self.wants_host_unicast();
        let unicast: Vec<Mac> = self.members().filter_map(BridgePort::filter).collect();
        let wanted = WantedFilters {
            promiscuous: self.members().any(|member| member.mode() == Mode::Passthru),
            all_multicast: self.members().any(BridgePort::is_up),
            unicast: &unicast,
        };
        let Some(held) = &mut self.held else { return Ok(()) };
        let failed = |error: io::Error| socket_failed(&held.link.name, &error);
        for uplink_queue in &self.uplink_queues {
            let set = uplink_queue.with(|uplink| uplink.set_host_unicast(everything));
            set.unwrap_or(Ok(())).map_err(failed)?;
        }
        if let Some(uplink_queue) = self.uplink_queues.first() {
            let set = uplink_queue.with(|uplink| uplink.set_filters(&wanted));
            set.unwrap_or(Ok(())).map_err(failed)?;
        }
        held.deafness.follow(host, &held.link, self.members.iter().flatten())
    }
}
