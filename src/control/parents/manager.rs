//! A parent with ports in userspace, as the control side keeps it.
//!
//! The keeper owns what the ports share: the parent ([`ParentLease`]), a uplink queue per worker, and the list of the
//! ports. What follows from the ports' state is made in `table.rs`; how the parent comes and goes is told in
//! `presence.rs`; what other programs put on it or over it, in `other_users.rs`.

pub(crate) mod other_users;
pub(crate) mod presence;
pub(crate) mod table;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use crate::config::MacChoice;
use crate::control::parents::bridge_port::BridgePort;
use crate::control::parents::lease::ParentLease;
use crate::control::parents::manager::other_users::OtherUsers;
use crate::control::port_core::PortCore;
use crate::control::port_mac;
use crate::datapath::attachment::Attachment;
use crate::datapath::forwarding_view::{ForwardingView, SwitchHandle};
use crate::datapath::scratch::Scratch;
use crate::datapath::uplink_queue::UplinkQueue;
use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::spec::Wanted;
use crate::host::verbs::Host;
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::process::port_log::PortLog;
use crate::switch::PortId;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::received::Losses;
use crate::worker::pool::Pool;
use crate::worker::slot::WorkerSlot;

/// A parent with its ports.
pub struct ParentManager {
    /// The name that is given for it first, for messages.
    name: String,
    /// All names that are given for it, by which it is found again.
    names: Vec<String>,
    switch: Arc<SwitchHandle>,
    uplink_queues: Vec<Arc<UplinkQueue>>,
    slots: Vec<WorkerSlot<Scratch>>,
    /// The worker of the first uplink queue.
    home: usize,
    held: Option<ParentLease>,
    /// For frames that the uplink queues' sockets refuse for their length; made when the first guest is there.
    long: Option<Arc<LongFrames>>,
    /// The MTU that it was made for, or was to be made for.
    long_mtu: Option<u32>,
    retry: Option<Instant>,
    /// Why a parent that is there again could not be taken, as it was told last.
    complaint: Option<String>,
    members: Vec<Option<BridgePort>>,
    company: OtherUsers,
    log: PortLog,
    /// When the table is to follow a member that has changed too often.
    behind: Option<Instant>,
    /// The table is behind for another reason than a member's.
    stale: bool,
}

impl ParentManager {
    /// Takes the parent `name` for ports with up to `pairs` queue pairs.
    ///
    /// # Errors
    /// It is not there, cannot have ports, or another process has it.
    pub fn open(
        name: &str,
        pairs: usize,
        host: &mut dyn Host,
        pool: &mut Pool<Scratch>,
    ) -> Result<ParentManager> {
        let mut keeper = ParentManager {
            name: name.to_owned(),
            names: vec![name.to_owned()],
            switch: Arc::default(),
            uplink_queues: Vec::new(),
            slots: Vec::new(),
            home: pool.next_worker(),
            held: None,
            long: None,
            long_mtu: None,
            retry: None,
            complaint: None,
            members: Vec::new(),
            company: OtherUsers::default(),
            log: PortLog::of_parent(name),
            behind: None,
            stale: true,
        };
        for index in 0..pairs.clamp(1, pool.workers()) {
            let slot = pool.slot_at(keeper.home + index);
            let uplink_queue =
                Arc::new(UplinkQueue::new(name, Arc::clone(&keeper.switch), slot.clone()));
            slot.take(uplink_queue.clone());
            keeper.uplink_queues.push(uplink_queue);
            keeper.slots.push(slot);
        }
        match keeper.take_parent(host) {
            Ok(()) => Ok(keeper),
            Err(error) => {
                keeper.slots.iter().for_each(WorkerSlot::leave);
                Err(error)
            }
        }
    }

    /// The parent's interface index, while it is there.
    pub fn index(&self) -> Option<u32> {
        self.held.as_ref().map(|held| held.link.index)
    }

    /// The parent, while it is there.
    pub fn parent(&self) -> Option<LinkInfo> {
        self.held.as_ref().map(|held| held.link.clone())
    }

    /// The parent is given by this name, too.
    pub fn add_name(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// A worker slot for queue pair `index` of any port.
    pub fn slot(&self, index: usize, pool: &Pool<Scratch>) -> WorkerSlot<Scratch> {
        pool.slot_at(self.home + index % self.uplink_queues.len())
    }

    fn members(&self) -> impl Iterator<Item = &BridgePort> + Clone {
        self.members.iter().flatten()
    }

    fn member(&self, id: PortId) -> Option<&BridgePort> {
        self.members.get(usize::from(id)).and_then(Option::as_ref)
    }

    /// Adds a port. It has a part in the traffic from the next [`ParentManager::refresh`] on: many ports are
    /// added for the price of one table, and of one look at the kernel's own ports.
    ///
    /// # Errors
    /// Its address, mode or MTU cannot be had here.
    pub fn join(&mut self, core: &PortCore, host: &mut dyn Host) -> Result<PortId> {
        let Some(link) = self.held.as_ref().map(|held| held.link.clone()) else {
            return Err(self.gone());
        };
        let object = format!("port {}", core.name());
        let mode = core.config.mode;
        let mac = match (mode, core.config.mac) {
            (Mode::Passthru, MacChoice::Auto) => link.mac,
            _ => port_mac::of(&core.config, host)?,
        };
        self.check_mac(&object, mac)?;
        self.check_passthru(&object, mode)?;
        let member = BridgePort::new(core, mac);
        core.data.macs.set_stations(self.switch.stations());
        if let Some(held) = &mut self.held {
            held.check(&member.wants(&object), host)?;
            held.give(&member, host)?;
        }
        let index = self.members.iter().position(Option::is_none).unwrap_or(self.members.len());
        let id = PortId::try_from(index).ok().filter(|&id| id < PortId::MAX).ok_or_else(|| {
            Error::limit(&object, "its parent has 65535 ports already", "use another parent")
        })?;
        let (link, own) = match &self.held {
            Some(held) => (held.link.clone(), held.has_own_mac()),
            None => (link, true),
        };
        member.parent_changed(&link, own);
        info!(
            "{object}: on {} in userspace, {mode} mode{}, MAC {mac}, MTU {}",
            link.known_as(&core.config.parent),
            if core.config.compat { " as the kernel's" } else { "" },
            core.data.mtu(),
        );
        let attachments: Vec<Attachment> = (0..core.pairs.len())
            .filter_map(|pair| self.uplink_queues.get(pair % self.uplink_queues.len()))
            .map(|uplink_queue| Attachment {
                switch: Arc::clone(&self.switch),
                port: id,
                uplink_queue: Arc::clone(uplink_queue),
                groups: member.snooped(),
            })
            .collect();
        if index == self.members.len() {
            self.members.push(None);
        }
        self.members[index] = Some(member);
        // Before the port is in the table nothing is sent to it; afterwards it must be plugged in.
        core.attachment.set_attachments(&attachments, &core.pairs);
        self.stale = true;
        Ok(id)
    }

    /// Refuses an address that a sibling in this process has.
    fn check_mac(&self, object: &str, mac: Mac) -> Result<()> {
        match self.members().find(|member| member.mac() == mac && member.object() != object) {
            Some(sibling) => Err(Error::mac_taken(
                object,
                format!("MAC address {mac} belongs to {} on the same parent", sibling.object()),
                "choose another address; every port of a parent needs its own",
            )),
            None => Ok(()),
        }
    }

    /// Refuses a second port beside one in passthru mode.
    fn check_passthru(&self, object: &str, mode: Mode) -> Result<()> {
        let alone =
            |member: &&BridgePort| mode == Mode::Passthru || member.mode() == Mode::Passthru;
        match self.members().find(alone) {
            Some(sibling) => Err(Error::parent_in_use(
                object,
                format!(
                    "shares its parent with {}, but passthru mode needs it alone",
                    sibling.object()
                ),
                "use another parent, or another mode for both",
            )),
            None => Ok(()),
        }
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, id: PortId) -> Mac {
        self.member(id).map(BridgePort::own_mac).unwrap_or_default()
    }

    /// Gives a port another address; in passthru mode the parent with it.
    ///
    /// # Errors
    /// The address is another's.
    pub fn set_mac(&mut self, id: PortId, host: &mut dyn Host, mac: Mac) -> Result<()> {
        let Some(member) = self.member(id) else { return Ok(()) };
        let object = member.object();
        let wanted = Wanted { mac: Some(mac), mtu: None, ..member.wants(&object) };
        self.check_mac(&object, mac)?;
        if let Some(held) = &mut self.held {
            match wanted.mode {
                Mode::Passthru => held.set_mac(host, mac)?,
                _ => held.check(&wanted, host)?,
            }
        }
        if let Some(member) = self.member(id) {
            member.set_mac(mac);
        }
        self.stale = true;
        self.follow(host);
        Ok(())
    }

    /// What a port's guest had joined goes with it.
    pub fn forget_guest(&mut self, id: PortId) {
        if let Some(member) = self.member(id) {
            member.forget_guest();
        }
    }

    /// Takes a port out; the table follows at the next [`ParentManager::refresh`].
    pub fn leave(&mut self, id: PortId, core: &PortCore) {
        core.attachment.set_attachments(&[], &core.pairs);
        if let Some(member) = self.members.get_mut(usize::from(id)) {
            *member = None;
        }
        self.stale = true;
    }

    /// Gives the parent back as it was.
    pub fn close(mut self, host: &mut dyn Host) {
        if let Some(held) = &mut self.held
            && let Err(error) = held.give_back_mac(host)
        {
            warn!("{error}");
        }
        self.switch.show(ForwardingView::default());
        self.slots.iter().for_each(WorkerSlot::leave);
        self.release();
    }

    /// Logs what was lost on the way from the wire to the switch.
    pub fn report_losses(&self) {
        let mut sum = Losses::default();
        for losses in self
            .uplink_queues
            .iter()
            .filter_map(|uplink_queue| uplink_queue.with(|uplink| uplink.losses()))
        {
            match losses {
                Ok(losses) => sum += losses,
                Err(error) => warn!("parent {}: cannot read its losses: {error}", self.name),
            }
        }
        info!("parent {}: lost from the wire: {sum}", self.name);
    }

    fn gone(&self) -> Error {
        Error::parent_missing(
            format!("parent {}", self.name),
            "there is no such network device any more",
            "make it again, or name another",
        )
    }
}

/// The error of a packet socket on `parent` that cannot be opened.
pub(crate) fn socket_failed(parent: &str, error: &io::Error) -> Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            return Error::permission(
                format!("parent {parent}"),
                format!("its packet socket: {error}"),
                "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
            );
        }
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EMFILE) => "see the limits of the process",
        _ => "the kernel needs CONFIG_PACKET",
    };
    Error::system(format!("parent {parent}"), format!("its packet socket: {error}"), remedy)
}
