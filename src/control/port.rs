//! A port, as the control thread owns it: its endpoint, its front-end if there is one, and the
//! carrier of its frames.
//!
//! A port outlives its parts. Front-ends connect and disconnect; the device or the parent may be
//! lost and found again (`kernel_port.rs`, `parents/`). In between the queue pairs stay, and a
//! connected guest keeps its rings.
//!
//! A state machine ([`PortState`]) decides which front-end is served, and whether another one waits
//! or is refused: this file finds out which event it is and does what the table says. The port's
//! front-end thread (`vhost_user/frontend.rs`) serves the connection; here it is only attached, and
//! its end noted. A front-end that reconnects may be quicker than the end of its last connection:
//! it waits for that end, for `HANG_PATIENCE` at most.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use crate::config::{FrontendSocket, Guard, PortConfig};
use crate::control::carrier::Carrier;
use crate::control::context::ControlContext;
use crate::control::endpoint::Endpoint;
use crate::control::follow::{Follow, FollowStep};
use crate::control::kernel_port::UsedDevice;
use crate::control::pace::Pace;
use crate::control::port_core::PortCore;
use crate::control::port_mac;
use crate::control::port_state::{PortEvent, PortState, Reaction};
use crate::datapath::port::PortData;
use crate::error::{Error, Result};
use crate::host::watch::LinkEvent;
use crate::net::counters::Counters;
use crate::net::mac::Mac;
use crate::process::unix_socket::{connect_to, hung_up};
use crate::vhost_user::frontend::{Ended, FrontendThread};
use crate::vhost_user::received_fd::interrupted;

/// How long a front-end waits for the end of the connection before.
const HANG_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts to reach a front-end that listens.
const DIAL_RETRY: Duration = Duration::from_millis(250);

/// A port.
pub struct Port {
    state: PortState,
    /// The endpoint for front-ends; none before it serves, and none at its end.
    endpoint: Option<Endpoint>,
    /// The pace of new front-ends.
    pub(crate) pace: Pace,
    core: PortCore,
    frontend: FrontendThread,
    /// The front-end that waits for the end of the connection before, and the end of its wait.
    waiting: Option<(UnixStream, Instant)>,
    /// The reason why the port takes no front-end any more.
    condemned: Option<String>,
    carrier: Carrier,
    follow: Follow,
}

impl Port {
    /// Makes the port with its device. It does not serve yet.
    ///
    /// # Errors
    /// The device or the parent cannot be had; nothing is left behind.
    pub fn open(config: &PortConfig, context: &mut ControlContext) -> Result<Port> {
        let policy = port_mac::policy(config);
        let data = PortData::new(&config.name, policy, Arc::clone(&context.notifier))
            .guarded(config.guard == Guard::Stp);
        let (core, carrier) = Carrier::open(config, data, context)?;
        Ok(Port {
            state: PortState::Opening,
            endpoint: None,
            pace: Pace::default(),
            frontend: FrontendThread::new(core.served(), Arc::clone(&context.notifier)),
            core,
            waiting: None,
            condemned: None,
            carrier,
            follow: Follow::default(),
        })
    }

    /// The port's configuration.
    pub fn config(&self) -> &PortConfig {
        &self.core.config
    }

    fn name(&self) -> &str {
        self.core.name()
    }

    /// How front-ends reach the port.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// Whether the front-end thread still has a connection.
    pub fn is_connected(&self) -> bool {
        self.frontend.is_connected()
    }

    /// Processes an event. Returns the reaction.
    fn step(&mut self, event: PortEvent) -> Reaction {
        let (next, reaction) = self.state.after(event);
        if next != self.state {
            debug!("port {}: {:?}, {event:?}: {next:?}", self.name(), self.state);
        }
        self.state = next;
        reaction
    }

    /// Front-ends can reach the port by this endpoint from now on.
    pub fn serve_at(&mut self, endpoint: Endpoint) {
        self.endpoint = Some(endpoint);
        self.step(PortEvent::Opened);
    }

    /// Connects to a front-end that listens, if that is due. Returns when to ask again.
    pub fn dial(&mut self, now: Instant) -> Option<Instant> {
        let Some(Endpoint::Connecting(due)) = &mut self.endpoint else { return None };
        let FrontendSocket::Connect(path) = &self.core.config.socket else { return None };
        if !self.state.dials() {
            return None;
        }
        if *due > now {
            return Some(*due);
        }
        *due = now + DIAL_RETRY;
        let next = *due;
        match connect_to(path) {
            Ok(stream) => self.attach_frontend(stream),
            Err(error) => debug!("port {}: {}: {error}", self.name(), path.display()),
        }
        Some(next)
    }

    /// A front-end has connected: serves it, lets it wait, or refuses it.
    pub fn attach_frontend(&mut self, stream: UnixStream) {
        let room = self.waiting.as_ref().is_none_or(|(waiting, _)| hung_up(waiting));
        let overlaps = self.frontend.pid().is_some() && room && self.frontend.hangs_up();
        match self.step(if overlaps { PortEvent::Overlapped } else { PortEvent::Arrived }) {
            Reaction::Serve => self.serve(stream),
            Reaction::KeepWaiting => {
                let until = Instant::now() + HANG_PATIENCE;
                let before = self.waiting.replace((stream, until));
                interrupted(|| drop(before));
            }
            _ => self.refuse(stream),
        }
    }

    fn serve(&mut self, stream: UnixStream) {
        if let Err(error) = self.frontend.attach(stream) {
            self.step(PortEvent::Unserved);
            self.core.data.log.warn(format_args!(
                "cannot serve a front-end: no thread for it: {error}; see the limits of the process"
            ));
        }
    }

    /// Closes a connection that is not to be served, and logs the reason.
    fn refuse(&self, stream: UnixStream) {
        interrupted(|| drop(stream));
        let log = &self.core.data.log;
        match (&self.condemned, self.frontend.pid()) {
            (Some(reason), _) => log.warn(format_args!("a front-end was refused: {reason}")),
            (None, Some(pid)) => log.warn(format_args!(
                "connection refused: process {pid} is connected; every VM needs a port of its own"
            )),
            (None, None) => {}
        }
    }

    /// Whether the front-end's connection has ended since this was last asked.
    pub fn ended(&mut self) -> Option<Ended> {
        self.frontend.ended()
    }

    /// Processes the end of a front-end's connection; a front-end that waits for that is served.
    pub fn detach_frontend(&mut self, ended: Ended, context: &mut ControlContext) {
        self.log_end(&ended);
        // The next guest starts with the address that was printed for it.
        let own = self.carrier.own_mac(context);
        if self.core.data.mac() != own
            && let Err(error) = self.carrier.set_mac(&self.core, own, context)
        {
            warn!("{error}");
        }
        self.core.data.macs.forget_guest();
        self.follow.forget_guest();
        self.carrier.forget_guest(context);
        let event = match ended.condemned {
            Some(reason) => {
                // Once in the port's life, so the port's bounded log need not hold it.
                warn!("port {}: accepts no front-end any more: {reason}", self.name());
                self.condemned = Some(reason);
                PortEvent::Spoiled
            }
            None => PortEvent::Ended,
        };
        let reaction = self.step(event);
        let waiting = self.waiting.take().map(|(stream, _)| stream);
        match (reaction, waiting) {
            (Reaction::ServeWaiting, Some(stream)) => self.serve(stream),
            (_, Some(stream)) => self.refuse(stream),
            (_, None) => {}
        }
        if let Some(Endpoint::Connecting(due)) = &mut self.endpoint {
            *due = Instant::now() + DIAL_RETRY;
        }
    }

    fn log_end(&self, ended: &Ended) {
        let ((level, reported), log) = (&ended.reported, &self.core.data.log);
        match self.counters() {
            moved if moved == Default::default() => log.write(*level, format_args!("{reported}")),
            (from_guest, to_guest) => log.write(
                *level,
                format_args!("{reported}; from the guest: {from_guest}; to the guest: {to_guest}"),
            ),
        }
    }

    /// Refuses a front-end that has waited too long. Returns when to ask again.
    pub fn give_up_waiting(&mut self, now: Instant) -> Option<Instant> {
        let (_, until) = self.waiting.as_ref()?;
        if *until > now {
            return Some(*until);
        }
        self.step(PortEvent::Expired);
        interrupted(|| self.waiting = None);
        self.core.data.log.warn(format_args!(
            "a front-end was refused: the thread of the one before hangs in the kernel, probably in a \
             descriptor of that one; restart this process if it does not go on"
        ));
        None
    }

    /// Begins the end: the front-end's connection is to end. Does not wait for it.
    pub fn stop(&mut self) {
        if self.step(PortEvent::Stopped) != Reaction::Close {
            return;
        }
        // No front-end connects any more, and none waits.
        interrupted(|| {
            self.endpoint = None;
            self.waiting = None;
        });
        self.frontend.stop();
    }

    /// Lets the port adopt the guest's MAC address, if that is due. Returns when to ask again.
    pub fn follow_mac(&mut self, context: &mut ControlContext, now: Instant) -> Option<Instant> {
        match self.follow.step(&self.core.data, now) {
            FollowStep::Wait(next) => next,
            FollowStep::Take(wanted) => {
                let old = self.core.data.mac();
                let taken = self.take_mac(wanted, context).map(|()| old);
                self.follow.taken(&self.core.data, wanted, taken, now)
            }
        }
    }

    /// Adopts an address that the guest uses, unless the host knows that it is another machine's.
    fn take_mac(&mut self, wanted: Mac, context: &mut ControlContext) -> Result<()> {
        let data = &self.core.data;
        if !data.macs.is_exclusive()
            && !data.macs.had(wanted)
            && let Some(parent) = self.carrier.parent(context)
        {
            let object = || format!("MAC address {wanted}");
            let holder = context.host.address_holder(&parent, wanted);
            let holder = holder.map_err(|error| Error::system(object(), error, "give mac="))?;
            if let Some(holder) = holder {
                return Err(Error::mac_taken(
                    object(),
                    format!("that of {holder}"),
                    format!("if the address is the guest's own, set mac={wanted}"),
                ));
            }
        }
        self.carrier.set_mac(&self.core, wanted, context)
    }

    /// Logs the counters of moved and dropped frames.
    pub fn report_counters(&self) {
        let (from_guest, to_guest) = self.counters();
        info!("port {}: from the guest: {from_guest}; to the guest: {to_guest}", self.name());
    }

    /// The counters of moved and dropped frames: from the guest, to the guest.
    fn counters(&self) -> (Counters, Counters) {
        let mut sum = (Counters::default(), Counters::default());
        for pair in &self.core.pairs {
            let (from_guest, to_guest) = pair.counters();
            sum.0 += from_guest;
            sum.1 += to_guest;
        }
        sum
    }

    /// Logs the reports that workers and others have left. Returns when to ask again.
    pub fn report(&self, now: Instant) -> Option<Instant> {
        let data = &self.core.data;
        if let Some(foreign) = data.macs.take_foreign() {
            data.log.warn(format_args!(
                "the guest sends from {foreign}, and the port's address is {own}: such frames are \
                 dropped and counted as foreign MAC; give the VMM mac={own}, or let \
                 the port adopt the guest's address (--mac-changes allow)",
                own = data.mac()
            ));
        }
        data.log.flush(now)
    }

    /// Logs a line that the front-end or the system has caused, within the port's bounds.
    pub(crate) fn warn(&self, text: std::fmt::Arguments<'_>) {
        self.core.data.log.warn(text);
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, event: &LinkEvent, context: &mut ControlContext) {
        self.carrier.note(&self.core, event, context);
    }

    /// Makes a lost device again, if that is due and possible. Returns when to ask again.
    pub fn restore(&mut self, context: &mut ControlContext, now: Instant) -> Option<Instant> {
        self.carrier.restore(&self.core, context, now)
    }

    /// Ends everything but a kernel device, which is returned. After [`Port::stop`].
    pub fn close(mut self, context: &mut ControlContext) -> Option<UsedDevice> {
        if let Some(ended) = self.ended() {
            self.detach_frontend(ended, context);
        }
        let device = self.carrier.close(&self.core, context);
        self.core.leave();
        device
    }

    /// The end if a thread of the process hangs, which may have any lock of the port: only the
    /// kernel device is given back.
    pub fn abandon(self) -> Option<UsedDevice> {
        let Port { carrier, core, frontend, .. } = self;
        // Not dropped: that would take the locks.
        std::mem::forget((core, frontend));
        carrier.abandon()
    }
}
