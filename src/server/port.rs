//! A port, as the control side owns it: device, queue pairs, socket, and the front-end if there is one.
//!
//! A port outlives what it is made of. Front-ends come and go; the device may be lost (its parent was
//! removed, somebody deleted it) and is made again when that is possible. In between the queue pairs
//! stay, with or without a tap behind them, and a connected guest keeps its rings: it sees a network
//! without traffic, not a dead back-end.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::listen::SocketFile;
use super::session::{Over, Session};
use crate::config::{self, MacChoice, PortConfig};
use crate::device::taps::Taps;
use crate::error::Result;
use crate::mac::Mac;
use crate::mode::Mode;
use crate::port::PortData;
use crate::queue::pair::QueuePair;
use crate::queue::pool::{Pool, Seat};
use crate::stats::Counters;
use crate::uplink::{LinkEvent, LinkInfo, Macvtap, MacvtapSpec, Netlink, is_leftover};
use nix::sys::eventfd::EventFd;

/// Pause between two attempts to make a lost device again.
const DEVICE_RETRY: Duration = Duration::from_secs(1);
/// Least time between two changes of a port's MAC address: a guest must not keep netlink busy.
const MAC_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about refused front-ends.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// How front-ends reach the port.
#[derive(Debug)]
pub enum Door {
    /// They connect to us.
    Listening(SocketFile),
    /// We connect to them; the next attempt is due at this time.
    Connecting(Instant),
    /// There was one inherited connection.
    Inherited,
}

/// A port.
pub struct Port {
    /// What it is to be.
    pub config: PortConfig,
    /// How front-ends reach it; none before it serves.
    pub door: Option<Door>,
    /// The connected front-end.
    pub session: Option<Session>,
    data: Arc<PortData>,
    pairs: Vec<Arc<QueuePair>>,
    seats: Vec<Seat>,
    taps: Arc<Taps>,
    device: Option<Macvtap>,
    own_mac: Mac,
    retry_device: Option<Instant>,
    parent_up: Option<bool>,
    follow_not_before: Option<Instant>,
    refused: (u64, Option<Instant>),
}

impl Port {
    /// Makes the port with its device. It does not serve yet.
    ///
    /// # Errors
    /// The device cannot be had; nothing is left behind.
    pub fn open(
        config: &PortConfig,
        netlink: &mut Netlink,
        pool: &mut Pool,
        bell: &Arc<EventFd>,
    ) -> Result<Port> {
        let device = open_device(config, netlink)?;
        let data = PortData::new(&config.name, config.mac_changes, Arc::clone(bell));
        let data = Arc::new(data);
        let mut port = Port {
            config: config.clone(),
            door: None,
            session: None,
            pairs: Vec::new(),
            seats: Vec::new(),
            taps: Arc::default(),
            own_mac: device.mac(),
            device: None,
            retry_device: None,
            parent_up: None,
            follow_not_before: None,
            refused: (0, None),
            data: Arc::clone(&data),
        };
        for index in 0..config.queue_pairs {
            let seat = pool.seat();
            let pair = Arc::new(QueuePair::new(index, Arc::clone(&data), seat.clone()));
            seat.take(Arc::clone(&pair));
            port.pairs.push(pair);
            port.seats.push(seat);
        }
        port.use_device(device);
        Ok(port)
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn use_device(&mut self, device: Macvtap) {
        self.own_mac = device.mac();
        self.data.set_device(device.mac(), device.mtu());
        self.taps.replace(device.queues(), &self.pairs, &self.config.name);
        if let Some(session) = &mut self.session {
            session.set_mtu(device.mtu());
        }
        info!(
            "port {}: {} macvtap {} on {}, {} mode, MAC {}, MTU {}",
            self.config.name,
            if device.created() { "created" } else { "adopted" },
            device.name(),
            device.parent_name(),
            self.config.mode,
            device.mac(),
            device.mtu()
        );
        self.device = Some(device);
        self.retry_device = None;
    }

    /// Serves the front-end that has connected, unless there is one already.
    pub fn welcome(&mut self, stream: UnixStream) {
        if let Some(session) = &self.session {
            let (count, last) = &mut self.refused;
            *count += 1;
            if last.is_none_or(|last| last.elapsed() >= REFUSAL_PAUSE) {
                warn!(
                    "port {}: {count} connection(s) refused: process {} is connected; \
                     every VM needs a port of its own",
                    self.config.name,
                    session.pid()
                );
                self.refused = (0, Some(Instant::now()));
            }
            return;
        }
        match Session::start(stream, &self.config, self.data.mtu(), &self.pairs, &self.taps) {
            Ok(session) => {
                info!("port {}: front-end (process {}) connected", self.name(), session.pid());
                self.session = Some(session);
            }
            Err(error) => warn!("port {}: cannot serve a front-end: {error}", self.name()),
        }
    }

    /// Ends the session.
    pub fn farewell(&mut self, why: &Over, netlink: &mut Netlink) {
        let Some(session) = self.session.take() else { return };
        session.end(why);
        self.tell_counters();
        // The next guest starts with the address that was printed for it.
        if let Some(device) = self.device.as_mut().filter(|device| device.mac() != self.own_mac) {
            match device.set_mac(netlink, self.own_mac) {
                Ok(()) => self.data.set_device(device.mac(), self.data.mtu()),
                Err(error) => warn!("{error}"),
            }
        }
        self.data.forget_guest();
    }

    /// Logs what was moved and dropped so far.
    pub fn tell_counters(&self) {
        let (from_guest, to_guest) = self.counters();
        info!("port {}: from the guest: {from_guest}; to the guest: {to_guest}", self.name());
    }

    /// What was moved and dropped so far: from the guest, to the guest.
    fn counters(&self) -> (Counters, Counters) {
        let mut sum = (Counters::default(), Counters::default());
        for pair in &self.pairs {
            let (from_guest, to_guest) = pair.counters();
            sum.0 += from_guest;
            sum.1 += to_guest;
        }
        sum
    }

    /// Lets the device follow the guest's MAC address, if that is due. Returns when to ask again.
    pub fn follow_mac(&mut self, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        if !self.data.has_wanted() {
            return None;
        }
        if let Some(later) = self.follow_not_before.filter(|&time| time > now) {
            return Some(later);
        }
        let wanted = self.data.take_wanted()?;
        self.follow_not_before = Some(now + MAC_PAUSE);
        let device = self.device.as_mut()?;
        let old = device.mac();
        match device.set_mac(netlink, wanted) {
            Ok(()) => {
                self.data.set_device(wanted, self.data.mtu());
                self.data.deny(None);
                info!("port {}: follows its guest from {old} to {wanted}", self.config.name);
            }
            Err(error) => {
                self.data.deny(Some(wanted));
                warn!("port {}: does not follow its guest to {wanted}: {error}", self.config.name);
            }
        }
        None
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, netlink: &mut Netlink) {
        let own = self.device.as_ref().map(|device| (device.ifindex(), device.parent_index()));
        match (event, own) {
            (LinkEvent::Gone { index, .. }, Some((device, _))) if *index == device => {
                self.lose_device(netlink);
            }
            (LinkEvent::Gone { index, name }, Some((_, parent))) if *index == parent => {
                warn!("port {}: its parent {name} has vanished", self.name());
            }
            (LinkEvent::Changed(link), Some((device, _))) if link.index == device => {
                self.device_changed(link);
            }
            (LinkEvent::Changed(link), Some((_, parent))) if link.index == parent => {
                let up = link.up && link.running;
                if self.parent_up.replace(up).is_some_and(|was| was != up) {
                    let word = if up { "is up again" } else { "is down" };
                    info!("port {}: its parent {} {word}", self.name(), link.name);
                }
                self.follow_mtu(link.mtu, netlink);
            }
            (LinkEvent::Changed(link), None) if link.name == self.config.parent => {
                self.retry_device = Some(Instant::now());
            }
            (LinkEvent::Overrun, Some((device, _))) => {
                // Some news was lost: look for ourselves.
                match netlink.link_by_index(device) {
                    Ok(Some(link)) => self.device_changed(&link),
                    Ok(None) => self.lose_device(netlink),
                    Err(error) => warn!("port {}: {error}", self.name()),
                }
            }
            _ => {}
        }
    }

    /// The parent has this MTU now. The kernel lowers its ports' with it, but never raises them again.
    fn follow_mtu(&mut self, parent: u32, netlink: &mut Netlink) {
        let wanted = self.config.mtu.map_or(parent, |own| parent.min(own));
        let Some(device) = self.device.as_ref().filter(|device| device.created()) else { return };
        if wanted == self.data.mtu() {
            return;
        }
        // The device's own news, which follow, tell everybody else.
        if let Err(error) = netlink.set_mtu(device.ifindex(), wanted) {
            warn!("port {}: cannot follow its parent to MTU {wanted}: {error}", self.name());
        }
    }

    fn device_changed(&mut self, link: &LinkInfo) {
        let before = (self.data.mac(), self.data.longest_frame());
        self.data.set_device(link.mac, link.mtu);
        if before != (self.data.mac(), self.data.longest_frame()) {
            info!("port {}: now has MAC {}, MTU {}", self.name(), link.mac, link.mtu);
        }
        if let Some(session) = &mut self.session {
            session.set_mtu(link.mtu);
        }
    }

    fn lose_device(&mut self, netlink: &mut Netlink) {
        let Some(device) = self.device.take() else { return };
        warn!(
            "port {}: its device {} has vanished; it is made again when {} is there",
            self.name(),
            device.name(),
            self.config.parent
        );
        self.taps.replace(&[], &self.pairs, &self.config.name);
        if let Err(error) = device.close(netlink) {
            warn!("{error}");
        }
        self.parent_up = None;
        self.retry_device = Some(Instant::now());
    }

    /// Makes a lost device again, if that is due and possible. Returns when to ask again.
    pub fn restore_device(&mut self, netlink: &mut Netlink, now: Instant) -> Option<Instant> {
        let due = self.retry_device?;
        if due > now {
            return Some(due);
        }
        // Without its parent there is no point in trying: the kernel tells when it comes.
        if !matches!(netlink.link_by_name(&self.config.parent), Ok(Some(_))) {
            self.retry_device = Some(now + DEVICE_RETRY);
            return self.retry_device;
        }
        match open_device(&self.config, netlink) {
            Ok(device) => self.use_device(device),
            Err(error) => {
                warn!("port {}: {error}", self.config.name);
                self.retry_device = Some(now + DEVICE_RETRY);
            }
        }
        self.retry_device
    }

    /// Ends everything but the device, which is returned: all ports' are given back together, because
    /// that is quicker (`uplink::close_all`).
    pub fn close(mut self, netlink: &mut Netlink) -> Option<Macvtap> {
        self.door = None;
        self.farewell(&Over::FrontEndGone, netlink);
        self.taps.replace(&[], &self.pairs, &self.config.name);
        for seat in &self.seats {
            seat.leave();
        }
        self.device.take()
    }
}

/// Creates or adopts the device that the configuration asks for.
fn open_device(config: &PortConfig, netlink: &mut Netlink) -> Result<Macvtap> {
    let mac = match config.mac {
        MacChoice::Given(mac) => Some(mac),
        MacChoice::Auto if config.mode == Mode::Passthru => None,
        MacChoice::Auto if adopts(config, netlink) => None,
        MacChoice::Auto => auto_mac(config, netlink),
    };
    Macvtap::open(
        netlink,
        &MacvtapSpec {
            name: config.name.clone(),
            parent: config.parent.clone(),
            mode: config.mode,
            mac,
            mtu: config.mtu,
            queues: usize::from(config.queue_pairs),
            sources: config.sources.clone(),
        },
    )
}

/// Whether somebody else's device of that name is there: then its address is the port's.
fn adopts(config: &PortConfig, netlink: &mut Netlink) -> bool {
    match netlink.link_by_name(&config.name) {
        Ok(Some(link)) => !is_leftover(&link),
        _ => false,
    }
}

/// The stable address of a port to which none was given. Where the machine has no id, the parent's
/// address stands in: the printers do the same (`print::resolve_mac`).
fn auto_mac(config: &PortConfig, netlink: &mut Netlink) -> Option<Mac> {
    let machine = config::machine_id().or_else(|| match netlink.link_by_name(&config.parent) {
        Ok(Some(parent)) => Some(parent.mac.to_string()),
        _ => None,
    })?;
    Some(config::auto_mac(&machine, &config.name))
}

/// Connects to a front-end that listens.
pub fn dial(path: &std::path::Path) -> io::Result<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}
