//! A parent with ports in userspace, as the control side keeps it.
//!
//! The keeper owns what the ports share: the parent ([`Held`]), a lane per worker, and the list of the
//! ports. From the ports' state it makes the forwarding table that the workers use, anew and as a whole
//! after every change, and the filters of the NIC.
//!
//! The parent may be set down, removed, made again, renamed, moved away. The sockets of one that has gone
//! are closed; when a device of the configured name is there again, it is taken anew. Between siblings in
//! bridge mode nothing of this is felt.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::held::Held;
use super::member::Member;
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::mode::Mode;
use crate::queue::lane::Lane;
use crate::queue::plug::{Lan, Plug, View};
use crate::queue::pool::{Pool, Seat, Sitter};
use crate::server::core::{Core, stable_mac};
use crate::switch::{ParentFacts, PortId, Table};
use crate::uplink::packet::{Admit, Losses, PacketQueue};
use crate::uplink::{LinkEvent, LinkInfo, Netlink, Wanted};

/// Pause between two attempts to open a lost parent again.
const RETRY: Duration = Duration::from_secs(1);

/// A parent with its ports.
pub struct LanKeeper {
    name: String,
    lan: Arc<Lan>,
    lanes: Vec<Arc<Lane>>,
    seats: Vec<Seat>,
    /// The worker of the first lane.
    home: usize,
    held: Option<Held>,
    retry: Option<Instant>,
    /// Why a parent that is there again could not be taken, as it was told last.
    complaint: Option<String>,
    members: Vec<Option<Member>>,
    /// The table is behind for another reason than a member's.
    stale: bool,
}

impl LanKeeper {
    /// Takes the parent `name` for ports with up to `pairs` queue pairs.
    ///
    /// # Errors
    /// It is not there, cannot have ports, or another process has it.
    pub fn open(
        name: &str,
        pairs: usize,
        netlink: &mut Netlink,
        pool: &mut Pool,
    ) -> Result<LanKeeper> {
        let mut keeper = LanKeeper {
            name: name.to_owned(),
            lan: Arc::default(),
            lanes: Vec::new(),
            seats: Vec::new(),
            home: pool.next_worker(),
            held: None,
            retry: None,
            complaint: None,
            members: Vec::new(),
            stale: true,
        };
        for index in 0..pairs.clamp(1, pool.workers()) {
            let seat = pool.seat_at(keeper.home + index);
            let lane = Arc::new(Lane::new(name, Arc::clone(&keeper.lan), seat.clone()));
            seat.take(Sitter::Lane(Arc::clone(&lane)));
            keeper.lanes.push(lane);
            keeper.seats.push(seat);
        }
        match keeper.take_parent(netlink) {
            Ok(()) => Ok(keeper),
            Err(error) => {
                keeper.seats.iter().for_each(Seat::leave);
                Err(error)
            }
        }
    }

    /// A seat for queue pair `index` of any port.
    pub fn seat(&self, index: usize, pool: &Pool) -> Seat {
        pool.seat_at(self.home + index % self.lanes.len())
    }

    fn members(&self) -> impl Iterator<Item = &Member> + Clone {
        self.members.iter().flatten()
    }

    fn member(&self, id: PortId) -> Option<&Member> {
        self.members.get(usize::from(id)).and_then(Option::as_ref)
    }

    /// Opens the parent: the right to it, and a socket for every lane. A port that does not fit a parent
    /// that has come back (its address is taken there, say) is told of, and does not keep the others off.
    fn take_parent(&mut self, netlink: &mut Netlink) -> Result<()> {
        let alone = self.members().any(|member| member.mode() == Mode::Passthru);
        let mode = if alone { Mode::Passthru } else { Mode::Bridge };
        let wanted = Wanted { object: "userspace ports", mode, mac: None, mtu: None };
        let held = Held::take(&self.name, &wanted, netlink)?;
        for member in self.members() {
            let object = member.object();
            if let Err(error) = held.check(&Wanted { mtu: None, ..member.wants(&object) }, netlink)
            {
                warn!("{error}");
            }
        }
        let queues = PacketQueue::open_all(held.link.index, self.admit(), self.lanes.len())
            .map_err(|error| socket_failed(&held.link.name, &error))?;
        for (lane, queue) in self.lanes.iter().zip(queues) {
            lane.replace(Some(queue));
        }
        self.members().for_each(|member| member.moved_to(&held.link));
        self.held = Some(held);
        self.retry = None;
        self.complaint = None;
        self.stale = true;
        Ok(())
    }

    /// What the sockets have to let through.
    fn admit(&self) -> Admit {
        let host = |member: &Member| matches!(member.mode(), Mode::Passthru | Mode::Source);
        if self.members().any(host) { Admit::Everything } else { Admit::Guests }
    }

    /// Adds a port. It has a part in the traffic from the next [`LanKeeper::refresh`] on: many ports are
    /// added for the price of one table.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had here.
    pub fn join(&mut self, core: &Core, netlink: &mut Netlink) -> Result<PortId> {
        let Some(held) = &self.held else { return Err(self.gone()) };
        let object = format!("port {}", core.name());
        let mode = core.config.mode;
        let mac = match mode {
            Mode::Passthru => Some(held.link.mac),
            _ => stable_mac(&core.config, netlink),
        };
        let Some(mac) = mac else {
            return Err(Error::failed(
                object,
                "no MAC address can be derived for it: this machine has no id",
                "give one with mac=",
            ));
        };
        self.check_mac(&object, mac)?;
        let member = Member::new(core, mac);
        held.check(&member.wants(&object), netlink)?;
        let index = self.members.iter().position(Option::is_none).unwrap_or(self.members.len());
        let id = PortId::try_from(index).ok().filter(|&id| id < PortId::MAX).ok_or_else(|| {
            Error::failed(&object, "its parent has 65535 ports already", "use another parent")
        })?;
        member.parent_changed(&held.link, true);
        info!(
            "{object}: on {} in userspace, {mode} mode{}, MAC {mac}, MTU {}",
            held.link.name,
            if core.config.compat { " as the kernel's" } else { "" },
            core.data.mtu(),
        );
        let plugs: Vec<Plug> = (0..core.pairs.len())
            .filter_map(|pair| self.lanes.get(pair % self.lanes.len()))
            .map(|lane| Plug {
                lan: Arc::clone(&self.lan),
                port: id,
                lane: Arc::clone(lane),
                groups: member.snooped(),
            })
            .collect();
        if index == self.members.len() {
            self.members.push(None);
        }
        self.members[index] = Some(member);
        // Before the port is in the table nothing is sent to it; afterwards it must be plugged in.
        core.attachment.set_plugs(&plugs, &core.pairs);
        self.stale = true;
        Ok(id)
    }

    /// Refuses an address that a sibling in this process has.
    fn check_mac(&self, object: &str, mac: Mac) -> Result<()> {
        match self.members().find(|member| member.mac() == mac && member.object() != object) {
            Some(sibling) => Err(Error::failed(
                object,
                format!("MAC address {mac} is that of {} on the same parent", sibling.object()),
                "choose another address; every port of a parent needs its own",
            )),
            None => Ok(()),
        }
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, id: PortId) -> Mac {
        self.member(id).map(Member::own_mac).unwrap_or_default()
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, id: PortId, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        let Some(member) = self.member(id) else { return Ok(()) };
        let object = member.object();
        let wanted = Wanted { mac: Some(mac), mtu: None, ..member.wants(&object) };
        self.check_mac(&object, mac)?;
        if let Some(held) = &mut self.held {
            match wanted.mode {
                Mode::Passthru => held.set_mac(netlink, mac)?,
                _ => held.check(&wanted, netlink)?,
            }
        }
        if let Some(member) = self.member(id) {
            member.set_mac(mac);
        }
        self.stale = true;
        self.follow();
        Ok(())
    }

    /// What a port's guest had joined goes with it.
    pub fn forget_guest(&mut self, id: PortId) {
        if let Some(member) = self.member(id) {
            member.forget_guest();
        }
    }

    /// Takes a port out; the table follows at the next [`LanKeeper::refresh`].
    pub fn leave(&mut self, id: PortId, core: &Core) {
        core.attachment.set_plugs(&[], &core.pairs);
        let left = self.members.get_mut(usize::from(id)).and_then(Option::take);
        if let (Some(member), Some(lane)) = (left, self.lanes.first()) {
            lane.with(|queue| member.drop_filter(queue));
        }
        self.stale = true;
    }

    /// Makes table and filters follow the members, where something has changed; a failure is told.
    fn follow(&mut self) {
        if let Err(error) = self.refresh() {
            warn!("{error}");
        }
    }

    /// Makes table and filters follow the members, where something has changed.
    ///
    /// # Errors
    /// The kernel cannot do what a port's mode promises.
    pub fn refresh(&mut self) -> Result<()> {
        let members = self.members.iter_mut().flatten();
        let changed = members.fold(false, |any, member| member.has_changed() | any);
        if !std::mem::take(&mut self.stale) && !changed {
            return Ok(());
        }
        let facts = match &self.held {
            Some(held) => ParentFacts { mac: held.link.mac, up: held.is_up() },
            None => ParentFacts { mac: Mac::default(), up: false },
        };
        let members = || self.members.iter().map(Option::as_ref);
        let rules = members().map(|member| member.map_or_else(Member::nobody, Member::rules));
        let jacks = members().map(|member| member.map(Member::jack).unwrap_or_default());
        let table = Table::new(rules.collect(), facts);
        self.lan.show(View { table, jacks: jacks.collect() });
        self.set_filters()
    }

    /// The NIC and the kernel let through what the ports are to hear, and keep from the host what it is
    /// not to hear.
    fn set_filters(&mut self) -> Result<()> {
        let admit = self.admit();
        let any = self.members().any(Member::is_up);
        let passthru = self.members().any(|member| member.mode() == Mode::Passthru);
        let Some(held) = &mut self.held else { return Ok(()) };
        let failed = |error: io::Error| socket_failed(&held.link.name, &error);
        for lane in &self.lanes {
            lane.with(|queue| queue.set_admit(admit)).unwrap_or(Ok(())).map_err(failed)?;
        }
        if let Some(lane) = self.lanes.first() {
            let members = self.members.iter_mut().flatten();
            let set = |queue: &mut PacketQueue| -> io::Result<()> {
                queue.set_promiscuous(passthru)?;
                queue.set_all_multicast(any)?;
                for member in members {
                    member.set_filter(queue)?;
                }
                Ok(())
            };
            lane.with(set).unwrap_or(Ok(())).map_err(failed)?;
        }
        held.deafness.follow(&held.link, self.members.iter().flatten())
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, netlink: &mut Netlink) {
        let index = self.held.as_ref().map(|held| held.link.index);
        match event {
            LinkEvent::Gone { index: gone, .. } if Some(*gone) == index => self.lose(),
            LinkEvent::Changed(link) if Some(link.index) == index => {
                // News may be older than what we have done since. An address is only somebody else's
                // doing if it is still there.
                let differs = self.held.as_ref().is_some_and(|held| held.link.mac != link.mac);
                match differs.then(|| netlink.link_by_index(link.index)) {
                    Some(Ok(Some(now))) => self.parent_changed(&now),
                    _ => self.parent_changed(link),
                }
            }
            LinkEvent::Changed(link) if index.is_none() && link.name == self.name => {
                self.retry = Some(Instant::now());
            }
            LinkEvent::Overrun => match index.map(|index| netlink.link_by_index(index)) {
                Some(Ok(Some(link))) => self.parent_changed(&link),
                Some(Ok(None)) => self.lose(),
                Some(Err(error)) => warn!("parent {}: {error}", self.name),
                None => {}
            },
            _ => {}
        }
    }

    fn parent_changed(&mut self, link: &LinkInfo) {
        let Some(held) = &mut self.held else { return };
        let was_up = held.is_up();
        let was = held.update(link);
        let (own, up) = (held.has_own_mac(), held.is_up());
        let name = &self.name;
        if was.name != link.name {
            info!("parent {name}: is called {} now", link.name);
        }
        if was_up != up {
            let ports = self.members().count();
            let word =
                if up { "is up again" } else { "is down; siblings in bridge mode still talk" };
            info!("parent {name}: {word} ({ports} port(s))");
        }
        if (was.mtu, was.mac, was_up) == (link.mtu, link.mac, up) {
            return;
        }
        self.members().for_each(|member| member.parent_changed(link, own));
        self.stale = true;
        self.follow();
    }

    fn lose(&mut self) {
        let ports = self.members().count();
        warn!(
            "parent {}: has vanished; its {ports} port(s) are on the wire again when it is back",
            self.name
        );
        self.let_go();
        self.retry = Some(Instant::now());
        self.stale = true;
        self.follow();
    }

    /// Closes the sockets; side by side, since the kernel waits some 17 ms for each.
    fn let_go(&mut self) {
        let queues: Vec<_> = self.lanes.iter().filter_map(|lane| lane.replace(None)).collect();
        std::thread::scope(|scope| {
            for queue in queues {
                scope.spawn(move || drop(queue));
            }
        });
        self.members.iter_mut().flatten().for_each(Member::filter_gone);
        self.held = None;
    }

    /// Finds a lost parent again, if that is due. Returns when to ask again.
    pub fn restore(&mut self, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        let due = self.retry?;
        if due > now {
            return Some(due);
        }
        self.retry = Some(now + RETRY);
        if matches!(netlink.link_by_name(&self.name), Ok(Some(_))) {
            match self.take_parent(netlink) {
                Ok(()) => {
                    info!("parent {}: is there again", self.name);
                    self.follow();
                }
                // Tried once a second for as long as it stays so: not worth a line each time.
                Err(error) => {
                    let complaint = Some(error.to_string());
                    if self.complaint != complaint {
                        warn!("{error}");
                        self.complaint = complaint;
                    }
                }
            }
        }
        self.retry
    }

    /// Gives the parent back as it was.
    pub fn close(mut self, netlink: &mut Netlink) {
        if let Some(held) = &mut self.held
            && let Err(error) = held.give_back_mac(netlink)
        {
            warn!("{error}");
        }
        self.lan.show(View::default());
        self.seats.iter().for_each(Seat::leave);
        self.let_go();
    }

    /// Logs what was lost on the way from the wire to the switch.
    pub fn tell_losses(&self) {
        let mut sum = Losses::default();
        for losses in self.lanes.iter().filter_map(|lane| lane.with(|queue| queue.losses())) {
            match losses {
                Ok(losses) => sum += losses,
                Err(error) => warn!("parent {}: its losses: {error}", self.name),
            }
        }
        info!("parent {}: lost on the way in: {sum}", self.name);
    }

    fn gone(&self) -> Error {
        Error::failed(
            format!("parent {}", self.name),
            "there is no such network device any more",
            "make it again, or name another",
        )
    }
}

fn socket_failed(parent: &str, error: &io::Error) -> Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EMFILE) => "see the limits of the process",
        _ => "the kernel needs CONFIG_PACKET",
    };
    Error::failed(format!("parent {parent}"), format!("its packet socket: {error}"), remedy)
}
