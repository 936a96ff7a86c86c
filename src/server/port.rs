//! A port, as the control side owns it: socket, front-end if there is one, and what carries its frames.
//!
//! A port outlives what it is made of. Front-ends come and go; the device or the parent may be lost and
//! found again (`macvtap.rs`, `lan/`). In between the queue pairs stay, and a connected guest keeps its
//! rings.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::core::{Core, Ground};
use super::lan::LanPort;
use super::listen::SocketFile;
use super::macvtap::{self, KernelPort};
use super::session::{Over, Session};
use crate::config::{Kind, PortConfig};
use crate::error::Result;
use crate::mac::Mac;
use crate::port::{MacPolicy, PortData};
use crate::stats::Counters;
use crate::uplink::{LinkEvent, Macvtap};

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

/// What carries a port's frames.
enum Carrier {
    Kernel(Box<KernelPort>),
    Switch(LanPort),
}

/// A port.
pub struct Port {
    /// How front-ends reach it; none before it serves.
    pub door: Option<Door>,
    /// The connected front-end.
    pub session: Option<Session>,
    pub(super) core: Core,
    carrier: Carrier,
    follow_not_before: Option<Instant>,
    refused: (u64, Option<Instant>),
}

impl Port {
    /// Makes the port with its device. It does not serve yet.
    ///
    /// # Errors
    /// The device or the parent cannot be had; nothing is left behind.
    pub fn open(config: &PortConfig, ground: &mut Ground) -> Result<Port> {
        let data = PortData::new(&config.name, MacPolicy::of(config), Arc::clone(&ground.bell));
        let (core, carrier) = match config.kind {
            Kind::Macvtap => {
                let device = macvtap::open(config, &mut ground.netlink)?;
                let seats = (0..config.queue_pairs).map(|_| ground.pool.seat()).collect();
                let core = Core::new(config, data, seats);
                let carrier = Carrier::Kernel(Box::new(KernelPort::start(&core, device)));
                (core, carrier)
            }
            Kind::Macvlan => {
                let seats = ground.lans.seats(config, &mut ground.netlink, &mut ground.pool)?;
                let core = Core::new(config, data, seats);
                match ground.lans.join(&core, &mut ground.netlink) {
                    Ok(port) => (core, Carrier::Switch(port)),
                    Err(error) => {
                        core.leave();
                        return Err(error);
                    }
                }
            }
        };
        Ok(Port {
            door: None,
            session: None,
            core,
            carrier,
            follow_not_before: None,
            refused: (0, None),
        })
    }

    /// What it is to be.
    pub fn config(&self) -> &PortConfig {
        &self.core.config
    }

    fn name(&self) -> &str {
        self.core.name()
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
                    self.core.name(),
                    session.pid()
                );
                self.refused = (0, Some(Instant::now()));
            }
            return;
        }
        let Core { config, data, pairs, attachment, .. } = &self.core;
        match Session::start(stream, config, data.mtu(), pairs, attachment) {
            Ok(session) => {
                info!("port {}: front-end (process {}) connected", self.name(), session.pid());
                self.session = Some(session);
            }
            Err(error) => warn!("port {}: cannot serve a front-end: {error}", self.name()),
        }
    }

    /// Ends the session.
    pub fn farewell(&mut self, why: &Over, ground: &mut Ground) {
        let Some(session) = self.session.take() else { return };
        session.end(why);
        self.tell_counters();
        // The next guest starts with the address that was printed for it.
        let own = match &self.carrier {
            Carrier::Kernel(port) => port.own_mac(),
            Carrier::Switch(port) => ground.lans.own_mac(port),
        };
        if self.core.data.mac() != own
            && let Err(error) = self.set_mac(own, ground)
        {
            warn!("{error}");
        }
        self.core.data.forget_guest();
        if let Carrier::Switch(port) = &self.carrier {
            ground.lans.forget_guest(port);
        }
    }

    fn set_mac(&mut self, mac: Mac, ground: &mut Ground) -> Result<()> {
        match &mut self.carrier {
            Carrier::Kernel(port) => port.set_mac(&self.core, &mut ground.netlink, mac),
            Carrier::Switch(port) => ground.lans.set_mac(port, &mut ground.netlink, mac),
        }
    }

    /// Logs what was moved and dropped so far.
    pub fn tell_counters(&self) {
        let (from_guest, to_guest) = self.counters();
        info!("port {}: from the guest: {from_guest}; to the guest: {to_guest}", self.name());
    }

    /// What was moved and dropped so far: from the guest, to the guest.
    fn counters(&self) -> (Counters, Counters) {
        let mut sum = (Counters::default(), Counters::default());
        for pair in &self.core.pairs {
            let (from_guest, to_guest) = pair.counters();
            sum.0 += from_guest;
            sum.1 += to_guest;
        }
        sum
    }

    /// Lets the port follow the guest's MAC address, if that is due. Returns when to ask again.
    pub fn follow_mac(&mut self, ground: &mut Ground, now: Instant) -> Option<Instant> {
        if !self.core.data.has_wanted() {
            return None;
        }
        if let Some(later) = self.follow_not_before.filter(|&time| time > now) {
            return Some(later);
        }
        let wanted = self.core.data.take_wanted()?;
        self.follow_not_before = Some(now + MAC_PAUSE);
        let old = self.core.data.mac();
        match self.set_mac(wanted, ground) {
            Ok(()) => {
                self.core.data.followed();
                info!("port {}: follows its guest from {old} to {wanted}", self.name());
            }
            Err(error) => {
                self.core.data.deny(Some(wanted));
                warn!("port {}: does not follow its guest to {wanted}: {error}", self.name());
            }
        }
        None
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, ground: &mut Ground) {
        if let Carrier::Kernel(port) = &mut self.carrier {
            port.note(&self.core, event, &mut ground.netlink);
        }
        self.tell_mtu();
    }

    /// Makes a lost device again, if that is due and possible. Returns when to ask again.
    pub fn restore(&mut self, ground: &mut Ground, now: Instant) -> Option<Instant> {
        let Carrier::Kernel(port) = &mut self.carrier else { return None };
        let again = port.restore(&self.core, &mut ground.netlink, now);
        self.tell_mtu();
        again
    }

    /// The front-end learns the MTU at its next question.
    fn tell_mtu(&mut self) {
        if let Some(session) = &mut self.session {
            session.set_mtu(self.core.data.mtu());
        }
    }

    /// Ends everything but a kernel device, which is returned.
    pub fn close(mut self, ground: &mut Ground) -> Option<Macvtap> {
        self.door = None;
        self.farewell(&Over::FrontEndGone, ground);
        let device = match self.carrier {
            Carrier::Kernel(port) => port.end(&self.core),
            Carrier::Switch(port) => {
                ground.lans.leave(port, &self.core);
                None
            }
        };
        self.core.leave();
        device
    }
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
