//! A parent with ports in userspace, as the control side keeps it.
//!
//! The keeper owns what the ports share: the right to the parent, a socket per worker, the filters of the
//! NIC, and in passthru mode what keeps the host's stack out. From its members' state it makes the
//! forwarding table that the workers use, anew and as a whole after every change.
//!
//! Everything that it changes on the host hangs on a descriptor of this process and ends with it, however
//! it ends: filters and promiscuity with the sockets, the host's exclusion with the link of its program,
//! the right to the parent with a listening socket. The one exception is the MAC address of a passthru
//! parent that followed its guest; a guardian process puts that back ([`MacGuard`]).
//!
//! The parent may be set down, removed, made again, renamed, moved away. The sockets of one that has gone
//! are closed; when a device of the configured name is there again, it is taken anew. Between siblings in
//! bridge mode nothing of this is felt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::core::{Core, stable_mac};
use super::member::Member;
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::mode::Mode;
use crate::queue::lane::Lane;
use crate::queue::plug::{Lan, Plug, View};
use crate::queue::pool::{Pool, Seat, Sitter};
use crate::switch::{ParentFacts, PortId, Table};
use crate::uplink::packet::{Admit, PacketQueue};
use crate::uplink::{
    Claim, HostFilter, LinkEvent, LinkInfo, MacGuard, Netlink, Owner, Parent, Starve, Wanted,
};

/// Pause between two attempts to open a lost parent again.
const RETRY: Duration = Duration::from_secs(1);

/// What the host's own stack does not hear while our ports are there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Deaf {
    /// Any unicast: the passthru port has it.
    ToUnicast,
    /// These senders: a source port keeps them for itself.
    To(Vec<Mac>),
    /// Broadcasts of these ports that a switch has sent back.
    ToReflected(Vec<Mac>),
}

impl Deaf {
    fn is_comfort(&self) -> bool {
        matches!(self, Deaf::ToReflected(_))
    }

    fn impose(&self, parent: &LinkInfo) -> Result<HostFilter> {
        let rule = match self {
            Deaf::ToUnicast => Starve::Unicast,
            Deaf::To(sources) => Starve::Sources(sources),
            Deaf::ToReflected(ports) => Starve::Reflected(ports),
        };
        HostFilter::attach(parent.index, rule).map_err(|error| {
            Error::failed(
                format!("parent {}", parent.name),
                format!("its frames cannot be kept from the host's stack: {error}"),
                "Linux 6.6 and CAP_BPF or root are needed; or use another mode",
            )
        })
    }
}

/// A parent that is there.
struct Open {
    link: LinkInfo,
    _owner: Owner,
    /// What keeps the host's own stack from hearing what it must not, by rule.
    deaf: Vec<(Deaf, HostFilter)>,
    /// The parent's own address, while it has a guest's.
    borrowed: Option<(Mac, MacGuard)>,
}

/// A parent with its ports.
pub struct LanKeeper {
    name: String,
    lan: Arc<Lan>,
    lanes: Vec<Arc<Lane>>,
    seats: Vec<Seat>,
    /// The worker of the first lane.
    home: usize,
    open: Option<Open>,
    retry: Option<Instant>,
    /// Why a parent that is there again could not be taken, as it was told last.
    complaint: Option<String>,
    members: Vec<Option<Member>>,
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
        let home = pool.next_worker();
        let lan = Arc::new(Lan::default());
        let mut keeper = LanKeeper {
            name: name.to_owned(),
            lan,
            lanes: Vec::new(),
            seats: Vec::new(),
            home,
            open: None,
            retry: None,
            complaint: None,
            members: Vec::new(),
            stale: true,
        };
        for index in 0..pairs.clamp(1, pool.workers()) {
            let seat = pool.seat_at(home + index);
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

    /// Opens the parent: the right to it, and a socket for every lane.
    fn take_parent(&mut self, netlink: &mut Netlink) -> Result<()> {
        let found = Parent::find(netlink, &self.name, "")?.link;
        let owner = Owner::take(&Claim::parent(&found.name, found.index))?;
        // A predecessor that was killed may have left the parent with its guest's address: its guardian
        // puts that right, and only then is the address the parent's own.
        MacGuard::settle(found.index)?;
        let parent = Parent::find(netlink, &self.name, "")?;
        let link = parent.link.clone();
        parent.check(&Wanted {
            object: "userspace ports",
            mode: Mode::Bridge,
            mac: None,
            mtu: None,
        })?;
        parent.warn();
        let failed = |error: std::io::Error| socket_failed(&link.name, &error);
        let group = (self.lanes.len() > 1).then_some(link.index as u16);
        let mut queues = Vec::new();
        for _ in &self.lanes {
            queues.push(PacketQueue::open(link.index, self.admit(), group).map_err(failed)?);
        }
        for (lane, queue) in self.lanes.iter().zip(queues) {
            lane.replace(Some(queue));
        }
        self.open = Some(Open { link, _owner: owner, deaf: Vec::new(), borrowed: None });
        self.retry = None;
        self.complaint = None;
        self.stale = true;
        Ok(())
    }

    /// What the sockets have to let through.
    fn admit(&self) -> Admit {
        let host = |member: &Member| matches!(member.mode(), Mode::Passthru | Mode::Source);
        match self.members.iter().flatten().any(host) {
            true => Admit::Everything,
            false => Admit::Guests,
        }
    }

    /// Adds a port.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had here.
    pub fn join(&mut self, core: &Core, netlink: &mut Netlink) -> Result<PortId> {
        let Some(open) = &self.open else { return Err(self.gone()) };
        let object = format!("port {}", core.name());
        let mode = core.config.mode;
        let mac = match mode {
            Mode::Passthru => Some(open.link.mac),
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
        let wanted = Wanted { object: &object, mode, mac: Some(mac), mtu: core.config.mtu };
        Parent::find(netlink, &self.name, "")?.check(&wanted)?;
        let member = Member::new(core, mac);
        let free = self.members.iter().position(Option::is_none);
        let index = free.unwrap_or(self.members.len());
        if index == self.members.len() {
            self.members.push(None);
        }
        let id = PortId::try_from(index).map_err(|_| {
            Error::failed(&object, "the parent has 65534 ports already", "use another parent")
        })?;
        let mtu = member.mtu_on(open.link.mtu);
        core.data.set_device(mac, mtu);
        info!(
            "port {}: on {} in userspace, {mode} mode{}, MAC {mac}, MTU {mtu}",
            core.name(),
            open.link.name,
            if core.config.compat { " as the kernel's" } else { "" },
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
        if let Some(place) = self.members.get_mut(index) {
            *place = Some(member);
        }
        // Before the port is in the table nothing is sent to it; afterwards it must be plugged in.
        core.attachment.set_plugs(&plugs, &core.pairs);
        self.stale = true;
        if let Err(error) = self.try_refresh() {
            self.leave(id, core);
            return Err(error);
        }
        Ok(id)
    }

    /// Refuses an address that a sibling in this process has.
    fn check_mac(&self, object: &str, mac: Mac) -> Result<()> {
        let sibling =
            self.members.iter().flatten().find(|m| m.mac() == mac && m.object() != object);
        match sibling {
            Some(sibling) => Err(Error::failed(
                object,
                format!("MAC address {mac} is that of {} on the same parent", sibling.object()),
                "choose another address; every port of a parent needs its own",
            )),
            None => Ok(()),
        }
    }

    fn member(&self, id: PortId) -> Option<&Member> {
        self.members.get(usize::from(id)).and_then(Option::as_ref)
    }

    /// The address that was printed for the port. A passthru port has its parent's own, and that may be
    /// another parent by now.
    pub fn own_mac(&self, id: PortId) -> Mac {
        let Some(member) = self.member(id) else { return Mac::default() };
        match &self.open {
            Some(open) if member.mode() == Mode::Passthru => {
                open.borrowed.as_ref().map_or(open.link.mac, |(own, _)| *own)
            }
            _ => member.own_mac(),
        }
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, id: PortId, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        let Some(member) = self.member(id) else { return Ok(()) };
        let object = member.object();
        self.check_mac(&object, mac)?;
        let passthru = member.mode() == Mode::Passthru;
        if passthru {
            self.set_parent_mac(netlink, mac)?;
        } else if let Some(open) = &self.open {
            let wanted = Wanted { object: &object, mode: member.mode(), mac: Some(mac), mtu: None };
            // By its present name: a parent may be renamed under us.
            Parent::find(netlink, &open.link.name, "")?.check(&wanted)?;
        }
        if let Some(member) = self.member(id) {
            member.set_mac(mac);
        }
        self.stale = true;
        self.refresh();
        Ok(())
    }

    /// The parent takes a passthru guest's address, or its own back.
    fn set_parent_mac(&mut self, netlink: &mut Netlink, mac: Mac) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let own = open.borrowed.as_ref().map_or(open.link.mac, |(own, _)| *own);
        if open.borrowed.is_none() && mac != own {
            // Before the change: whatever happens to us then, it is undone.
            open.borrowed = Some((own, MacGuard::start(open.link.index, own)?));
        }
        let parent = format!("parent {}", open.link.name);
        if let Some((_, guard)) = &mut open.borrowed {
            guard.announce(mac).map_err(|error| {
                Error::failed(
                    &parent,
                    format!("the guardian of its address: {error}"),
                    "see ip link",
                )
            })?;
        }
        netlink.set_mac(open.link.index, mac).map_err(|error| {
            Error::failed(
                parent,
                format!("does not take the address {mac}: {error}"),
                "see ip link",
            )
        })?;
        open.link.mac = mac;
        if mac == own {
            open.borrowed = None;
        }
        Ok(())
    }

    /// What a port's guest had joined goes with it.
    pub fn forget_guest(&mut self, id: PortId) {
        if let Some(member) = self.member(id) {
            member.forget_guest();
        }
    }

    /// Takes a port out.
    pub fn leave(&mut self, id: PortId, core: &Core) {
        core.attachment.set_plugs(&[], &core.pairs);
        let left = self.members.get_mut(usize::from(id)).and_then(Option::take);
        if let (Some(member), Some(lane)) = (left, self.lanes.first()) {
            lane.with(|queue| member.drop_filter(queue));
        }
        self.stale = true;
        self.refresh();
    }

    /// Makes table and filters follow the members, where something has changed.
    pub fn refresh(&mut self) {
        if let Err(error) = self.try_refresh() {
            warn!("{error}");
        }
    }

    fn try_refresh(&mut self) -> Result<()> {
        let members = self.members.iter_mut().flatten();
        let changed = members.fold(false, |any, member| member.has_changed() | any);
        if !changed && !std::mem::take(&mut self.stale) {
            return Ok(());
        }
        self.stale = false;
        let facts = match &self.open {
            Some(Open { link, .. }) => ParentFacts { mac: link.mac, up: link.up && link.running },
            None => ParentFacts { mac: Mac::default(), up: false },
        };
        let rules =
            self.members.iter().map(|m| m.as_ref().map_or_else(Member::nobody, Member::rules));
        let jacks =
            self.members.iter().map(|m| m.as_ref().map_or_else(Member::no_jack, Member::jack));
        let table = Table::new(rules.collect(), facts);
        self.lan.show(View { table, jacks: jacks.collect() });
        self.set_filters()
    }

    /// The NIC and the kernel let through what the ports are to hear.
    fn set_filters(&mut self) -> Result<()> {
        let admit = self.admit();
        let deaf = self.deaf();
        let any = self.members.iter().flatten().any(Member::is_up);
        let passthru = self.members.iter().flatten().any(|m| m.mode() == Mode::Passthru);
        let Some(open) = &mut self.open else { return Ok(()) };
        let failed = |error: std::io::Error| socket_failed(&open.link.name, &error);
        for lane in &self.lanes {
            lane.with(|queue| queue.set_admit(admit)).unwrap_or(Ok(())).map_err(failed)?;
        }
        if let Some(lane) = self.lanes.first() {
            let members = self.members.iter_mut().flatten();
            let set = |queue: &mut PacketQueue| -> std::io::Result<()> {
                queue.set_promiscuous(passthru)?;
                queue.set_all_multicast(any)?;
                for member in members {
                    member.set_filter(queue)?;
                }
                Ok(())
            };
            lane.with(set).unwrap_or(Ok(())).map_err(failed)?;
        }
        // The new ones first: in between, what is for a guest must not reach the host.
        for rule in &deaf {
            if open.deaf.iter().any(|(imposed, _)| imposed == rule) {
                continue;
            }
            match rule.impose(&open.link) {
                Ok(filter) => open.deaf.push((rule.clone(), filter)),
                // A comfort, not a promise of the mode: the host hears an echo more.
                Err(error) if rule.is_comfort() => debug!("{error}"),
                Err(error) => return Err(error),
            }
        }
        open.deaf.retain(|(imposed, _)| deaf.contains(imposed));
        Ok(())
    }

    /// What the host's own stack must not hear.
    fn deaf(&self) -> Vec<Deaf> {
        let members = || self.members.iter().flatten();
        let mut rules = Vec::new();
        if members().any(|member| member.mode() == Mode::Passthru) {
            rules.push(Deaf::ToUnicast);
        }
        let mut sources: Vec<Mac> =
            members().flat_map(|member| member.taken_away().iter().copied()).collect();
        sources.sort_unstable();
        sources.dedup();
        if !sources.is_empty() {
            rules.push(Deaf::To(sources));
        }
        let alone = |m: &&Member| matches!(m.mode(), Mode::Private | Mode::Passthru | Mode::Source);
        let echoes: Vec<Mac> =
            members().filter(alone).filter(|m| m.is_up()).map(Member::mac).collect();
        if !echoes.is_empty() {
            rules.push(Deaf::ToReflected(echoes));
        }
        rules
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, netlink: &mut Netlink) {
        let index = self.open.as_ref().map(|open| open.link.index);
        match event {
            LinkEvent::Gone { index: gone, .. } if Some(*gone) == index => self.lose(),
            LinkEvent::Changed(link) if Some(link.index) == index => self.parent_changed(link),
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
        let Some(open) = &mut self.open else { return };
        let was = std::mem::replace(&mut open.link, link.clone());
        let name = &self.name;
        if was.name != link.name {
            info!("parent {name}: is called {} now", link.name);
        }
        let (before, up) = (was.up && was.running, link.up && link.running);
        if before != up {
            let ports = self.members.iter().flatten().count();
            let word =
                if up { "is up again" } else { "is down; siblings in bridge mode still talk" };
            info!("parent {name}: {word} ({ports} port(s))");
        }
        if was.mtu == link.mtu && was.mac == link.mac && before == up {
            return;
        }
        for member in self.members.iter().flatten() {
            member.parent_changed(link);
        }
        self.stale = true;
        self.refresh();
    }

    fn lose(&mut self) {
        let ports = self.members.iter().flatten().count();
        warn!(
            "parent {}: has vanished; its {ports} port(s) are on the wire again when it is back",
            self.name
        );
        self.let_go();
        self.retry = Some(Instant::now());
        self.stale = true;
        self.refresh();
    }

    /// Closes the sockets; side by side, since the kernel waits some 17 ms for each.
    fn let_go(&mut self) {
        let queues: Vec<_> = self.lanes.iter().filter_map(|lane| lane.replace(None)).collect();
        std::thread::scope(|scope| {
            for queue in queues {
                scope.spawn(move || drop(queue));
            }
        });
        for member in self.members.iter_mut().flatten() {
            member.filter_gone();
        }
        self.open = None;
    }

    /// Finds a lost parent again, if that is due. Returns when to ask again.
    pub fn restore(&mut self, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        let due = self.retry?;
        if due > now {
            return Some(due);
        }
        self.retry = Some(now + RETRY);
        if !matches!(netlink.link_by_name(&self.name), Ok(Some(_))) {
            return self.retry;
        }
        match self.take_parent(netlink) {
            Ok(()) => {
                info!("parent {}: is there again", self.name);
                if let Some(open) = &self.open {
                    let link = open.link.clone();
                    self.members.iter().flatten().for_each(|member| member.moved_to(&link));
                }
                self.refresh();
            }
            // Once a second for as long as it stays so: not worth a line each time.
            Err(error) => {
                let complaint = Some(error.to_string());
                if self.complaint != complaint {
                    warn!("{error}");
                    self.complaint = complaint;
                }
            }
        }
        self.retry
    }

    /// Gives the parent back as it was.
    pub fn close(mut self, netlink: &mut Netlink) {
        let own = self.open.as_ref().and_then(|open| open.borrowed.as_ref()).map(|(own, _)| *own);
        if let Some(own) = own
            && let Err(error) = self.set_parent_mac(netlink, own)
        {
            warn!("{error}");
        }
        self.lan.show(View::default());
        self.seats.iter().for_each(Seat::leave);
        self.let_go();
    }

    fn gone(&self) -> Error {
        Error::failed(
            format!("parent {}", self.name),
            "there is no such network device any more",
            "make it again, or name another",
        )
    }
}

fn socket_failed(parent: &str, error: &std::io::Error) -> Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EMFILE) => "see the limits of the process",
        _ => "the kernel needs CONFIG_PACKET; Linux 6.6 or later",
    };
    Error::failed(format!("parent {parent}"), format!("its packet socket: {error}"), remedy)
}
