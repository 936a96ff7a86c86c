//! A parent that comes and goes.
//!
//! It may be set down, removed, made again, renamed, moved away. The kernel tells so by netlink; what it has
//! not told (news may be lost) is asked for. Without a parent there are no sockets, and the table says
//! that there is no wire; siblings in bridge mode go on.

use std::io;
use std::time::{Duration, Instant};

use log::warn;

use crate::control::deadline::sooner;
use crate::control::parents::lease::ParentLease;
use crate::control::parents::manager::{ParentManager, socket_failed};
use crate::error::Result;
use crate::host::link::LinkInfo;
use crate::host::spec::Wanted;
use crate::host::verbs::Host;
use crate::host::watch::LinkEvent;
use crate::net::mode::Mode;
use crate::process::threads;
use crate::uplink::packet::filter::SocketFilter;
use crate::uplink::packet::queue::{PacketQueue, PacketSockets};

/// Pause between two attempts to open a lost parent again.
const RETRY: Duration = Duration::from_secs(1);

impl ParentManager {
    /// Takes the parent: the right to it, and sockets for every uplink queue. A port that does not fit a
    /// parent that has come back (its address is taken there, say) is told of, and does not keep the others off.
    pub(crate) fn take_parent(&mut self, host: &mut dyn Host) -> Result<()> {
        let alone = self.members().any(|member| member.mode() == Mode::Passthru);
        let mode = if alone { Mode::Passthru } else { Mode::Bridge };
        let wanted = Wanted { object: "userspace ports", mode, mac: None, mtu: None };
        let name = self.findable(host).unwrap_or_else(|| self.name.clone());
        let mut held = ParentLease::take(&name, &wanted, host)?;
        for member in self.members() {
            let object = member.object();
            if let Err(error) = held.check(&Wanted { mtu: None, ..member.wants(&object) }, host) {
                warn!("{error}");
            }
        }
        let queues = self
            .open_queues(held.link.index, host)
            .map_err(|error| socket_failed(&held.link.name, &error))?;
        for (uplink_queue, queue) in self.uplink_queues.iter().zip(queues) {
            uplink_queue.replace(Some(Box::new(queue)));
        }
        for member in self.members() {
            member.moved_to(&held.link);
            if let Err(error) = held.give(member, host) {
                warn!("{error}");
            }
            member.parent_changed(&held.link, held.has_own_mac());
        }
        if let Some(parent) = held.seen() {
            self.company.meet(parent, &self.log);
        }
        self.held = Some(held);
        self.retry = None;
        self.complaint = None;
        self.stale = true;
        Ok(())
    }

    /// Packet sockets for every uplink queue.
    fn open_queues(&self, index: u32, host: &mut dyn Host) -> io::Result<Vec<PacketQueue>> {
        let open = |_| {
            Ok(PacketSockets { receive: host.receiving_socket()?, send: host.sending_socket()? })
        };
        let sockets: io::Result<_> = self.uplink_queues.iter().map(open).collect();
        let everything = self.wants_host_unicast();
        let admit = if everything { SocketFilter::Everything } else { SocketFilter::Guests };
        PacketQueue::open_all(index, admit, sockets?)
    }

    /// The first of the configured names that a device has now.
    fn findable(&self, host: &mut dyn Host) -> Option<String> {
        self.names.iter().find(|name| matches!(host.link_given_as(name), Ok(Some(_)))).cloned()
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, host: &mut dyn Host) {
        let index = self.held.as_ref().map(|held| held.link.index);
        if let Some(index) = index {
            self.company.note(index, event, host, &self.log);
        }
        match event {
            LinkEvent::Gone { index: gone, .. } if Some(*gone) == index => self.lose(host),
            LinkEvent::Changed(link) if Some(link.index) == index => {
                // News may be older than what we have done since. An address is only somebody else's
                // doing if it is still there.
                let differs = self.held.as_ref().is_some_and(|held| held.link.mac != link.mac);
                match differs.then(|| host.link_by_index(link.index)) {
                    Some(Ok(Some(now))) => self.parent_changed(&now, host),
                    _ => self.parent_changed(link, host),
                }
            }
            LinkEvent::Changed(link)
                if index.is_none() && self.names.iter().any(|name| link.is_called(name)) =>
            {
                self.retry = Some(Instant::now());
            }
            LinkEvent::Overrun => match index.map(|index| host.link_by_index(index)) {
                Some(Ok(Some(link))) => self.parent_changed(&link, host),
                Some(Ok(None)) => self.lose(host),
                Some(Err(error)) => self.log.warn(format_args!("cannot be looked up: {error}")),
                None => {}
            },
            _ => {}
        }
    }

    fn parent_changed(&mut self, link: &LinkInfo, host: &mut dyn Host) {
        let Some(held) = &mut self.held else { return };
        let was_up = held.is_up();
        let was = held.update(link);
        let (own, up) = (held.has_own_mac(), held.is_up());
        if was.name != link.name {
            self.log.info(format_args!("was renamed to {}", link.name));
        }
        if was_up != up {
            let ports = self.members().count();
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
        self.members().for_each(|member| member.parent_changed(link, own));
        self.stale = true;
        self.follow(host);
    }

    fn lose(&mut self, host: &mut dyn Host) {
        let ports = self.members().count();
        self.log.warn(format_args!(
            "has vanished; its {ports} port(s) return to the wire when it is back"
        ));
        self.release();
        self.retry = Some(Instant::now());
        self.stale = true;
        self.follow(host);
    }

    /// Closes the sockets; side by side, since the kernel waits some 17 ms for each.
    pub(crate) fn release(&mut self) {
        // It hangs on the device that has gone; the last queue closes it.
        (self.long, self.long_mtu) = (None, None);
        let queues: Vec<_> = self
            .uplink_queues
            .iter()
            .filter_map(|uplink_queue| uplink_queue.replace(None))
            .collect();
        threads::drop_together(queues);
        self.held = None;
    }

    /// Finds a lost parent again, if that is due, and lets the table follow what had to wait. Returns when to
    /// ask again.
    pub fn restore(&mut self, host: &mut dyn Host, now: Instant) -> Option<Instant> {
        if self.behind.is_some_and(|due| due <= now) {
            self.follow(host);
        }
        sooner(self.behind, sooner(self.log.flush(now), self.find(host, now)))
    }

    fn find(&mut self, host: &mut dyn Host, now: Instant) -> Option<Instant> {
        let due = self.retry?;
        if due > now {
            return Some(due);
        }
        self.retry = Some(now + RETRY);
        if self.findable(host).is_some() {
            match self.take_parent(host) {
                Ok(()) => {
                    self.log.info(format_args!("is back"));
                    self.follow(host);
                }
                // Tried once a second for as long as it stays so: not worth a line each time.
                Err(error) => {
                    let complaint = Some(error.to_string());
                    if self.complaint != complaint {
                        self.log.warn(format_args!("is back, but cannot be used: {error}"));
                        self.complaint = complaint;
                    }
                }
            }
        }
        self.retry
    }
}
