//! The event loop: one thread over everything that can wake the control side.
//!
//! The loop may look things up, allocate and fail. It never waits for a front-end, and never
//! touches a front-end's messages. Signals are handled before all other events, and each wake-up
//! takes one connection of a listener at most, so that no flood delays the end of the process.
//! Frames never pass here.
//!
//! A round has two parts: the events ([`WakeToken`]), and the work that is due by now. Every part
//! with later work returns the time of that work, and the loop sleeps until the earliest one
//! (`deadline.rs`).

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info, warn};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::config::Config;
use crate::control::context::ControlContext;
use crate::control::deadline::{sleep_until, sooner};
use crate::control::endpoints::{Listeners, open_endpoints};
use crate::control::inherited::take_inherited;
use crate::control::kernel_port::give_back;
use crate::control::news::News;
use crate::control::parents::Parents;
use crate::control::port::Port;
use crate::control::port_table::PortTable;
use crate::control::share::used;
use crate::control::signals::{Order, Signals};
use crate::control::sources::Sources;
use crate::control::wake::{Next, WakeToken, borrowed};
use crate::control::{ending, identity, port_checks};
use crate::error::{Error, Result};
use crate::host::local::LocalHost;
use crate::host::verbs::Host;
use crate::host::watch::{LinkEvent, LinkWatch};
use crate::process::descriptors;
use crate::virtqueue::{address_space, fault};
use crate::worker::poller::{Interest, Poller, Ready};
use crate::worker::pool::Pool;

/// The control side of the process.
pub struct EventLoop {
    /// The first end of a connection ends the process.
    one_off: bool,
    poller: Poller,
    signals: Signals,
    watch: LinkWatch,
    ports: PortTable<Port>,
    context: ControlContext,
    sources: Sources,
    listeners: Listeners,
}

impl EventLoop {
    /// Makes all ports with their devices and sockets. Call before any other thread exists: signals
    /// are blocked here for all of them.
    ///
    /// # Errors
    /// A port cannot be made; the ports made before are taken back.
    pub fn start(config: &Config) -> Result<EventLoop> {
        let os = |what: &'static str| {
            move |error: io::Error| Error::system(what, error, "see the limits of the process")
        };
        // Before this process opens any descriptor: a number that was not inherited could become
        // ours.
        let inherited = take_inherited(config);
        identity::check(config)?;
        descriptors::allow(config.ports.iter().map(|port| port.queue_pairs));
        let signals = Signals::catch().map_err(os("signals"))?;
        fault::install().map_err(os("signals"))?;
        address_space::share_among(config.ports.len());
        let mut host: Box<dyn Host> = Box::new(LocalHost::open()?);
        let entrances = port_checks::judge_all(config, inherited, host.as_mut())?;
        let watch = host.watch()?;
        let poller = Poller::new().map_err(os("epoll"))?;
        let notifier = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| os("eventfd")(errno.into()))?;
        let input = Interest::EPOLLIN;
        poller
            .add(&borrowed(signals.as_fd()), input, WakeToken::Signal.number())
            .and_then(|()| poller.add(&borrowed(watch.as_fd()), input, WakeToken::Links.number()))
            .and_then(|()| {
                poller.add(&borrowed(notifier.as_fd()), input, WakeToken::Notifier.number())
            })
            .map_err(os("epoll"))?;
        let pool = Pool::start(config.threads(), config.busy_poll).map_err(os("worker threads"))?;
        let mut this = EventLoop {
            one_off: config.one_off,
            poller,
            signals,
            watch,
            ports: PortTable::default(),
            context: ControlContext {
                host,
                pool,
                notifier: Arc::new(notifier),
                parents: Parents::new(config),
            },
            sources: Sources::default(),
            listeners: Listeners::default(),
        };
        let opened = this
            .open_ports(config)
            .and_then(|()| open_endpoints(&mut this.ports, entrances, &this.poller));
        match opened {
            Ok(()) => Ok(this),
            Err(error) => {
                this.close();
                Err(error)
            }
        }
    }

    fn open_ports(&mut self, config: &Config) -> Result<()> {
        for config in &config.ports {
            let port = Port::open(config, &mut self.context)?;
            if let Err(mut port) = self.ports.insert(&config.name, port) {
                port.stop();
                let device = port.close(&mut self.context);
                let errors = give_back(device, self.context.host.as_mut());
                errors.iter().for_each(|error| warn!("{error}"));
                return Err(Error::duplicate(
                    format!("port {}", config.name),
                    "there is a port of this name",
                    "choose another name (name=NAME)",
                ));
            }
        }
        let ControlContext { parents, host, .. } = &mut self.context;
        parents.refresh(host.as_mut())
    }

    /// Serves until a signal ends it, or with `--one-off` a front-end disconnects; then takes
    /// everything back.
    pub fn run(mut self) -> Result<()> {
        let mut ready = [Ready::new(Interest::empty(), 0); 64];
        loop {
            let timeout = self.timers();
            let events = match self.poller.wait(timeout, &mut ready) {
                Ok(events) => events,
                Err(error) => {
                    self.close();
                    return Err(Error::internal("epoll", error, "this is a bug; please report it"));
                }
            };
            let mut tokens: Vec<WakeToken> =
                events.iter().filter_map(|e| WakeToken::of(e.data)).collect();
            tokens.sort_by_key(|token| *token != WakeToken::Signal);
            if tokens.into_iter().any(|token| self.serve(token) == Next::Stop) {
                break;
            }
        }
        self.close();
        Ok(())
    }

    /// Takes everything back.
    fn close(self) {
        ending::close(self.ports, self.context);
    }

    fn serve(&mut self, token: WakeToken) -> Next {
        match token {
            WakeToken::Signal => return self.signal(),
            WakeToken::Links => self.links(),
            WakeToken::Notifier => return self.notified(),
            WakeToken::Listener(key) => self.listeners.accept(key, &mut self.ports, &self.poller),
        }
        Next::GoOn
    }

    fn signal(&mut self) -> Next {
        match self.signals.take() {
            Order::Counters => {
                self.ports.iter().for_each(Port::report_counters);
                self.context.parents.report_losses();
                Next::GoOn
            }
            Order::End => Next::Stop,
            Order::Nothing => Next::GoOn,
        }
    }

    /// The kernel has news about devices.
    fn links(&mut self) {
        let before = used();
        let mut news = News::default();
        if let Err(error) = self.watch.drain(|event| news.add(event)) {
            warn!("netlink: {error}");
            news.add(LinkEvent::Overrun);
        }
        for event in news.events() {
            debug!("netlink: {event:?}");
            self.context.parents.note(event, self.context.host.as_mut());
            for port in self.ports.iter_mut() {
                port.note(event, &mut self.context);
            }
        }
        self.sources.links_done(before, &self.watch, &self.poller);
    }

    /// A worker or a front-end thread has something for the control thread. The ports are asked for
    /// addresses by the timers, which run next.
    fn notified(&mut self) -> Next {
        let before = used();
        let _ = self.context.notifier.read();
        let next = self.endings();
        self.sources.tables_behind(&mut self.context);
        self.sources.notifier_done(before, &self.context, &self.poller);
        next
    }

    /// Follows the ends of front-ends' connections.
    fn endings(&mut self) -> Next {
        for port in self.ports.iter_mut() {
            let Some(ended) = port.ended() else { continue };
            port.detach_frontend(ended, &mut self.context);
            if self.one_off {
                info!(
                    "port {}: its front-end has disconnected, and --one-off was given",
                    port.config().name
                );
                return Next::Stop;
            }
        }
        Next::GoOn
    }

    /// Does the due work and returns how long the loop may sleep, in milliseconds (-1: without a
    /// limit).
    fn timers(&mut self) -> i32 {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for port in self.ports.iter_mut() {
            next = sooner(next, port.restore(&mut self.context, now));
            next = sooner(next, port.follow_mac(&mut self.context, now));
            next = sooner(next, port.give_up_waiting(now));
            next = sooner(next, port.report(now));
        }
        let ControlContext { parents, host, .. } = &mut self.context;
        next = sooner(next, parents.restore(host.as_mut(), now));
        for port in self.ports.iter_mut() {
            next = sooner(next, port.dial(now));
        }
        next = sooner(next, self.listeners.end_rests(now, &mut self.ports, &self.poller));
        next = sooner(next, self.signals.flush(now));
        let rests = self.sources.end_rests(now, &self.watch, &mut self.context, &self.poller);
        sleep_until(sooner(next, rests), now)
    }
}
