//! A port, as the control side owns it: socket, front-end if there is one, and what carries its frames.
//!
//! A port outlives what it is made of. Front-ends come and go; the device or the parent may be lost and
//! found again (`macvtap.rs`, `switch/`). In between the queue pairs stay, and a connected guest keeps its
//! rings.
//!
//! The port's front-end thread (`frontend.rs`) serves the connection. Here it is only attached, and its end
//! taken note of. A front-end that connects again may be quicker than the end of its last connection: it
//! waits for that, for `HANG_PATIENCE` at most.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::config::{Guard, Kind, PortConfig};
use crate::control::context::ControlContext;
use crate::control::endpoint::SocketFile;
use crate::control::follow::Follow;
use crate::control::kernel_port;
use crate::control::kernel_port::{KernelPort, UsedDevice};
use crate::control::pace::Pace;
use crate::control::parents::UserspacePort;
use crate::control::port_core::PortCore;
use crate::control::port_mac;
use crate::datapath::port::PortData;
use crate::error::Result;
use crate::host::link::LinkInfo;
use crate::host::watch::LinkEvent;
use crate::net::counters::Counters;
use crate::net::mac::Mac;
use crate::process::unix_socket::hung_up;
use crate::vhost_user::frontend::{Ended, FrontendThread};
use crate::vhost_user::received_fd::interrupted;

/// How long a front-end waits for the end of the connection before.
const HANG_PATIENCE: Duration = Duration::from_secs(2);

/// How front-ends reach the port.
#[derive(Debug)]
pub enum Endpoint {
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
    Switch(UserspacePort),
}

/// A port.
pub struct Port {
    /// How front-ends reach it; none before it serves.
    pub door: Option<Endpoint>,
    /// How fast front-ends may come.
    pub(crate) pace: Pace,
    pub(crate) core: PortCore,
    frontend: FrontendThread,
    /// A front-end that waits for the end of the connection before, and until when.
    waiting: Option<(UnixStream, Instant)>,
    /// Why the port takes no front-end any more.
    condemned: Option<String>,
    carrier: Carrier,
    pub(crate) follow: Follow,
}

impl Port {
    /// Makes the port with its device. It does not serve yet.
    ///
    /// # Errors
    /// The device or the parent cannot be had; nothing is left behind.
    pub fn open(config: &PortConfig, ground: &mut ControlContext) -> Result<Port> {
        let data =
            PortData::new(&config.name, port_mac::policy(config), Arc::clone(&ground.notifier))
                .guarded(config.guard == Guard::Stp);
        let (core, carrier) = match config.kind {
            Kind::Macvtap => {
                let device = kernel_port::open(config, ground.host.as_mut())?;
                let slots = (0..config.queue_pairs).map(|_| ground.pool.slot()).collect();
                let core = PortCore::new(config, data, slots);
                let carrier = Carrier::Kernel(Box::new(KernelPort::start(&core, device)));
                (core, carrier)
            }
            Kind::Macvlan => {
                let slots = ground.parents.slots(config, ground.host.as_mut(), &mut ground.pool)?;
                let core = PortCore::new(config, data, slots);
                match ground.parents.join(&core, ground.host.as_mut()) {
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
            pace: Pace::default(),
            frontend: FrontendThread::new(core.served(), Arc::clone(&ground.notifier)),
            core,
            waiting: None,
            condemned: None,
            carrier,
            follow: Follow::default(),
        })
    }

    /// What it is to be.
    pub fn config(&self) -> &PortConfig {
        &self.core.config
    }

    fn name(&self) -> &str {
        self.core.name()
    }

    /// Whether a front-end is connected, or its connection not yet ended.
    pub fn is_served(&self) -> bool {
        self.frontend.pid().is_some()
    }

    /// Whether the front-end thread still has a connection.
    pub fn is_connected(&self) -> bool {
        self.frontend.is_connected()
    }

    /// Serves the front-end that has connected, unless there is one already.
    pub fn attach_frontend(&mut self, stream: UnixStream) {
        if let Some(reason) = &self.condemned {
            self.core.data.log.warn(format_args!("a front-end was refused: {reason}"));
            interrupted(|| drop(stream));
            return;
        }
        let Some(pid) = self.frontend.pid() else { return self.attach(stream) };
        let room = self.waiting.as_ref().is_none_or(|(waiting, _)| hung_up(waiting));
        if room && self.frontend.hangs_up() {
            let until = Instant::now() + HANG_PATIENCE;
            let before = self.waiting.replace((stream, until));
            return interrupted(|| drop(before));
        }
        interrupted(|| drop(stream));
        self.core.data.log.warn(format_args!(
            "connection refused: process {pid} is connected; every VM needs a port of its own"
        ));
    }

    fn attach(&mut self, stream: UnixStream) {
        if let Err(error) = self.frontend.attach(stream) {
            self.core.data.log.warn(format_args!(
                "cannot serve a front-end: no thread for it: {error}; see the limits of the process"
            ));
        }
    }

    /// Whether the front-end's connection has ended since this was last asked.
    pub fn ended(&mut self) -> Option<Ended> {
        self.frontend.ended()
    }

    /// Follows the end of a front-end's connection; one that waits for that is served.
    pub fn detach_frontend(&mut self, ended: Ended, ground: &mut ControlContext) {
        let ((level, reported), log) = (&ended.reported, &self.core.data.log);
        match self.counters() {
            moved if moved == Default::default() => log.write(*level, format_args!("{reported}")),
            (from_guest, to_guest) => log.write(
                *level,
                format_args!("{reported}; from the guest: {from_guest}; to the guest: {to_guest}"),
            ),
        }
        // The next guest starts with the address that was printed for it.
        let own = match &self.carrier {
            Carrier::Kernel(port) => port.own_mac(),
            Carrier::Switch(port) => ground.parents.own_mac(port),
        };
        if self.core.data.mac() != own
            && let Err(error) = self.set_mac(own, ground)
        {
            warn!("{error}");
        }
        self.core.data.forget_guest();
        self.follow.forget_guest();
        if let Carrier::Switch(port) = &self.carrier {
            ground.parents.forget_guest(port);
        }
        if let Some(reason) = ended.condemned
            && self.condemned.is_none()
        {
            // Once in the port's life, so the port's bounded log need not hold it.
            warn!("port {}: accepts no front-end any more: {reason}", self.name());
            self.condemned = Some(reason);
        }
        if let Some((stream, _)) = self.waiting.take() {
            self.attach_frontend(stream);
        }
    }

    /// Refuses a front-end that has waited too long. Returns when to ask again.
    pub fn give_up_waiting(&mut self, now: Instant) -> Option<Instant> {
        let (_, until) = self.waiting.as_ref()?;
        if *until > now {
            return Some(*until);
        }
        interrupted(|| self.waiting = None);
        self.core.data.log.warn(format_args!(
            "a front-end was refused: the thread of the one before hangs in the kernel, probably in a \
             descriptor of that one; restart this process if it does not go on"
        ));
        None
    }

    /// Begins the end: the front-end's connection is to end. Does not wait for it.
    pub fn stop(&mut self) {
        // No front-end comes any more, and none waits.
        interrupted(|| {
            self.door = None;
            self.waiting = None;
        });
        self.frontend.stop();
    }

    pub(crate) fn set_mac(&mut self, mac: Mac, ground: &mut ControlContext) -> Result<()> {
        match &mut self.carrier {
            Carrier::Kernel(port) => port.set_mac(&self.core, ground.host.as_mut(), mac),
            Carrier::Switch(port) => ground.parents.set_mac(port, ground.host.as_mut(), mac),
        }
    }

    /// Logs what was moved and dropped so far.
    pub fn report_counters(&self) {
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

    /// Reports what workers and others have left for the log. Returns when to ask again.
    pub fn report(&self, now: Instant) -> Option<Instant> {
        let data = &self.core.data;
        if let Some(foreign) = data.take_foreign() {
            data.log.warn(format_args!(
                "the guest sends from {foreign}, and the port's address is {own}: such frames are \
                 dropped and counted as foreign MAC; give the VMM mac={own}, or let \
                 the port adopt the guest's address (--mac-changes allow)",
                own = data.mac()
            ));
        }
        data.log.flush(now)
    }

    /// The device that carries the port's frames to the LAN, while it is there.
    pub(crate) fn parent(&self, ground: &ControlContext) -> Option<LinkInfo> {
        match &self.carrier {
            Carrier::Kernel(port) => port.parent(),
            Carrier::Switch(port) => ground.parents.parent(port),
        }
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, ground: &mut ControlContext) {
        if let Carrier::Kernel(port) = &mut self.carrier {
            port.note(&self.core, event, ground.host.as_mut());
        }
    }

    /// Makes a lost device again, if that is due and possible. Returns when to ask again.
    pub fn restore(&mut self, ground: &mut ControlContext, now: Instant) -> Option<Instant> {
        let Carrier::Kernel(port) = &mut self.carrier else { return None };
        port.restore(&self.core, ground.host.as_mut(), now)
    }

    /// Ends everything but a kernel device, which is returned. After [`Port::stop`].
    pub fn close(mut self, ground: &mut ControlContext) -> Option<UsedDevice> {
        if let Some(ended) = self.ended() {
            self.detach_frontend(ended, ground);
        }
        let device = match self.carrier {
            Carrier::Kernel(port) => port.end(&self.core),
            Carrier::Switch(port) => {
                ground.parents.leave(port, &self.core);
                None
            }
        };
        self.core.leave();
        device
    }

    /// What is left to do where a thread of the process hangs, which may have any lock of the port: nothing
    /// but to give the kernel device back.
    pub fn abandon(self) -> Option<UsedDevice> {
        let Port { carrier, core, frontend, .. } = self;
        // Not dropped: that would take the locks.
        std::mem::forget((core, frontend));
        match carrier {
            Carrier::Kernel(port) => port.abandon(),
            Carrier::Switch(_) => None,
        }
    }
}
