//! A parent with ports in userspace, as the control side keeps it.
//!
//! | file | idea |
//! | --- | --- |
//! | [`members`] | the ports, and the table and filters that follow from them |
//! | [`uplink_queues`] | the parent's uplink queues |
//! | [`presence`] | a parent that comes and goes |
//! | [`other_users`] | devices that other programs put on the parent, or over it |
//!
//! The forwarding table, the filters of the sockets and of the NIC, and the filters of the host are
//! all made anew after a change, and as a whole: there is no sequence of small steps that could be
//! left half done. An unchanged filter costs no system call. While the parent is lost there are no
//! sockets, and the table has no wire; siblings in bridge mode go on.

pub(crate) mod members;
pub(crate) mod other_users;
pub(crate) mod presence;
pub(crate) mod uplink_queues;

use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use crate::config::MacChoice;
use crate::control::deadline::sooner;
use crate::control::parents::bridge_port::BridgePort;
use crate::control::parents::lease::ParentLease;
use crate::control::parents::manager::members::Members;
use crate::control::parents::manager::other_users::OtherUsers;
use crate::control::parents::manager::presence::{ParentNews, Presence};
use crate::control::parents::manager::uplink_queues::{UplinkQueues, socket_failed};
use crate::control::port_core::PortCore;
use crate::control::port_mac;
use crate::datapath::forwarding_view::{ForwardingView, SwitchHandle};
use crate::datapath::scratch::Scratch;
use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::spec::Wanted;
use crate::host::verbs::Host;
use crate::host::watch::LinkEvent;
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::process::port_log::PortLog;
use crate::switch::{ParentFacts, PortId};
use crate::uplink::wire::WantedFilters;
use crate::worker::pool::Pool;
use crate::worker::slot::WorkerSlot;

/// A parent with its ports.
pub struct ParentManager {
    presence: Presence,
    switch: Arc<SwitchHandle>,
    queues: UplinkQueues,
    members: Members,
    other_users: OtherUsers,
    log: PortLog,
    /// The time of the next table for a member that has changed too often.
    behind: Option<Instant>,
    /// The table is behind for another reason than a member's.
    stale: bool,
}

impl ParentManager {
    /// Takes the parent `name` for ports with up to `pairs` queue pairs.
    ///
    /// # Errors
    /// It does not exist, cannot have ports, or another process has it.
    pub fn open(
        name: &str,
        pairs: usize,
        host: &mut dyn Host,
        pool: &mut Pool<Scratch>,
    ) -> Result<ParentManager> {
        let switch = Arc::default();
        let mut manager = ParentManager {
            presence: Presence::new(name),
            queues: UplinkQueues::new(name, pairs, &switch, pool),
            switch,
            members: Members::default(),
            other_users: OtherUsers::default(),
            log: PortLog::of_parent(name),
            behind: None,
            stale: true,
        };
        match manager.take_parent(host) {
            Ok(()) => Ok(manager),
            Err(error) => {
                manager.queues.leave();
                Err(error)
            }
        }
    }

    /// The parent's interface index, while it is there.
    pub fn index(&self) -> Option<u32> {
        self.presence.link().map(|link| link.index)
    }

    /// The parent, while it is there.
    pub fn parent(&self) -> Option<LinkInfo> {
        self.presence.link().cloned()
    }

    /// The parent is given by this name, too.
    pub fn add_name(&mut self, name: &str) {
        self.presence.add_name(name);
    }

    /// A worker slot for queue pair `index` of any port.
    pub fn slot(&self, index: usize, pool: &Pool<Scratch>) -> WorkerSlot<Scratch> {
        self.queues.slot(index, pool)
    }

    /// Adds a port. It has a part in the traffic from the next [`ParentManager::refresh`] on: many
    /// ports are added for the price of one table, and of one look at the kernel's own ports.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had here.
    pub fn join(&mut self, core: &PortCore, host: &mut dyn Host) -> Result<PortId> {
        let Some(link) = self.parent() else { return Err(self.missing()) };
        let object = format!("port {}", core.name());
        let mode = core.config.mode;
        let mac = match (mode, core.config.mac) {
            (Mode::Passthru, MacChoice::Auto) => link.mac,
            _ => port_mac::of(&core.config, host)?,
        };
        self.members.check_mac(&object, mac)?;
        self.members.check_passthru(&object, mode)?;
        let member = BridgePort::new(core, mac);
        core.data.macs.set_stations(self.switch.stations());
        if let Some(lease) = &mut self.presence.lease {
            lease.check(&member.wants(&object), host)?;
            lease.give(&member, host)?;
        }
        let id = self.members.free_id(&object)?;
        let (link, own) = match &self.presence.lease {
            Some(lease) => (lease.link.clone(), lease.has_own_mac()),
            None => (link, true),
        };
        member.parent_changed(&link, own);
        info!(
            "{object}: on {} in userspace, {mode} mode{}, MAC {mac}, MTU {}",
            link.known_as(&core.config.parent),
            if core.config.compat { " as the kernel's" } else { "" },
            core.data.mtu(),
        );
        let pairs = core.pairs.len();
        let attachments = self.queues.attachments(pairs, &self.switch, id, member.snooped());
        self.members.insert(id, member);
        // No frame reaches the port before it is in the table; afterwards it must be attached.
        core.attachment.set_attachments(&attachments, &core.pairs);
        self.stale = true;
        Ok(id)
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, id: PortId) -> Mac {
        self.members.get(id).map(BridgePort::own_mac).unwrap_or_default()
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, id: PortId, host: &mut dyn Host, mac: Mac) -> Result<()> {
        let Some(member) = self.members.get(id) else { return Ok(()) };
        let object = member.object();
        let wanted = Wanted { mac: Some(mac), mtu: None, ..member.wants(&object) };
        self.members.check_mac(&object, mac)?;
        if let Some(lease) = &mut self.presence.lease {
            match wanted.mode {
                Mode::Passthru => lease.set_mac(host, mac)?,
                _ => lease.check(&wanted, host)?,
            }
        }
        member.set_mac(mac);
        self.stale = true;
        self.follow(host);
        Ok(())
    }

    /// Forgets the groups that a port's guest had joined.
    pub fn forget_guest(&mut self, id: PortId) {
        if let Some(member) = self.members.get(id) {
            member.forget_guest();
        }
    }

    /// Takes a port out; the table follows at the next [`ParentManager::refresh`].
    pub fn leave(&mut self, id: PortId, core: &PortCore) {
        core.attachment.set_attachments(&[], &core.pairs);
        self.members.remove(id);
        self.stale = true;
    }

    /// Gives the parent back as it was.
    pub fn close(mut self, host: &mut dyn Host) {
        if let Some(lease) = &mut self.presence.lease
            && let Err(error) = lease.give_back_mac(host)
        {
            warn!("{error}");
        }
        self.switch.show(ForwardingView::default());
        self.queues.leave();
        self.queues.close_sockets();
    }

    /// Logs the losses on the way from the wire to the switch.
    pub fn report_losses(&self) {
        let name = self.presence.name();
        let losses = self.queues.losses(name);
        info!("parent {name}: lost from the wire: {losses}");
    }

    fn missing(&self) -> Error {
        Error::parent_missing(
            format!("parent {}", self.presence.name()),
            "there is no such network device any more",
            "make it again, or name another",
        )
    }

    /// Takes the parent: the right to it, and sockets for every uplink queue. A port that does not
    /// fit a parent that is back (its address is taken there, say) is reported, and does not keep
    /// the others off.
    fn take_parent(&mut self, host: &mut dyn Host) -> Result<()> {
        let mode = if self.members.has_passthru() { Mode::Passthru } else { Mode::Bridge };
        let wanted = Wanted { object: "userspace ports", mode, mac: None, mtu: None };
        let name = self.presence.findable(host);
        let name = name.unwrap_or_else(|| self.presence.name().to_owned());
        let mut lease = ParentLease::take(&name, &wanted, host)?;
        for member in self.members.iter() {
            let object = member.object();
            if let Err(error) = lease.check(&Wanted { mtu: None, ..member.wants(&object) }, host) {
                warn!("{error}");
            }
        }
        self.queues
            .open_sockets(lease.link.index, self.members.want_host_unicast(), host)
            .map_err(|error| socket_failed(&lease.link.name, &error))?;
        for member in self.members.iter() {
            member.moved_to(&lease.link);
            if let Err(error) = lease.give(member, host) {
                warn!("{error}");
            }
            member.parent_changed(&lease.link, lease.has_own_mac());
        }
        if let Some(parent) = lease.seen() {
            self.other_users.meet(parent, &self.log);
        }
        self.presence.found(lease);
        self.stale = true;
        Ok(())
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, host: &mut dyn Host) {
        if let Some(index) = self.index() {
            self.other_users.note(index, event, host, &self.log);
        }
        match self.presence.news(event, host, &self.log) {
            Some(ParentNews::Vanished) => self.lose(host),
            Some(ParentNews::Shown(link)) => self.parent_changed(&link, host),
            None => {}
        }
    }

    fn parent_changed(&mut self, link: &LinkInfo, host: &mut dyn Host) {
        let Some(lease) = &mut self.presence.lease else { return };
        let was_up = lease.is_up();
        let was = lease.update(link);
        let (own, up) = (lease.has_own_mac(), lease.is_up());
        if was.name != link.name {
            self.log.info(format_args!("was renamed to {}", link.name));
        }
        if was_up != up {
            let ports = self.members.iter().count();
            let word = if up {
                "is up again"
            } else {
                "is down; siblings in bridge mode still reach each other"
            };
            self.log.info(format_args!("{word} ({ports} port(s))"));
        }
        if (was.mtu, was.mac, was_up) == (link.mtu, link.mac, up) {
            return;
        }
        self.members.iter().for_each(|member| member.parent_changed(link, own));
        self.stale = true;
        self.follow(host);
    }

    fn lose(&mut self, host: &mut dyn Host) {
        let ports = self.members.iter().count();
        self.log.warn(format_args!(
            "has vanished; its {ports} port(s) return to the wire when it is back"
        ));
        self.queues.close_sockets();
        self.presence.lost();
        self.stale = true;
        self.follow(host);
    }

    /// Finds a lost parent again, if that is due, and makes a table that had to wait. Returns when
    /// to ask again.
    pub fn restore(&mut self, host: &mut dyn Host, now: Instant) -> Option<Instant> {
        if self.behind.is_some_and(|due| due <= now) {
            self.follow(host);
        }
        if self.presence.is_due(host, now) {
            match self.take_parent(host) {
                Ok(()) => {
                    self.log.info(format_args!("is back"));
                    self.follow(host);
                }
                Err(error) => self.presence.refused(&error, &self.log),
            }
        }
        sooner(self.behind, sooner(self.log.flush(now), self.presence.due()))
    }

    /// Brings table and filters up to date with the members, if they have changed; a failure is
    /// logged.
    fn follow(&mut self, host: &mut dyn Host) {
        self.make_long_frames(host);
        if let Err(error) = self.refresh(host) {
            warn!("{error}");
        }
    }

    /// Brings table and filters up to date with the members, if they have changed.
    ///
    /// # Errors
    /// The kernel cannot do what a port's mode promises.
    pub fn refresh(&mut self, host: &mut dyn Host) -> Result<()> {
        if let Some(lease) = &mut self.presence.lease {
            lease.look_again();
        }
        let (changed, later) = self.members.behind(Instant::now());
        self.behind = later;
        if !std::mem::take(&mut self.stale) && !changed {
            return Ok(());
        }
        self.behind = None;
        let facts = match &self.presence.lease {
            Some(lease) => {
                ParentFacts { mac: lease.link.mac, up: lease.is_up(), mtu: lease.link.mtu }
            }
            None => ParentFacts { mac: Mac::default(), up: false, mtu: u32::MAX },
        };
        let view = self.members.view(facts);
        // A port is in the table as up only after its filters are in place: the NIC's, and the
        // host's.
        let filtered = self.set_filters(host);
        self.switch.show(view);
        filtered
    }

    /// Makes the ring for long frames, when there is a guest that may send some.
    pub fn make_long_frames(&mut self, host: &mut dyn Host) {
        if let Some(link) = self.presence.link()
            && self.members.any_up()
        {
            self.queues.make_long_frames(self.presence.name(), link.index, link.mtu, host);
        }
    }

    /// Sets the filters of the NIC and the kernel for the ports, and those that keep frames from
    /// the host.
    fn set_filters(&mut self, host: &mut dyn Host) -> Result<()> {
        let Some(lease) = &mut self.presence.lease else { return Ok(()) };
        let unicast = self.members.unicast();
        let wanted = WantedFilters {
            promiscuous: self.members.has_passthru(),
            all_multicast: self.members.any_up(),
            unicast: &unicast,
        };
        let set = self.queues.set_filters(self.members.want_host_unicast(), &wanted);
        set.map_err(|error| socket_failed(&lease.link.name, &error))?;
        lease.host_filters.follow(host, &lease.link, self.members.iter())
    }
}
