//! The control loop: one thread over everything that can wake the control side.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::config::Config;
use crate::control::context::ControlContext;
use crate::control::deadline::{sleep_until, sooner};
use crate::control::inherited::take_inherited;
use crate::control::parents::Parents;
use crate::control::port::Port;
use crate::control::signals::{Order, Signals};
use crate::control::wake::{Token, borrowed};
use crate::error::{Error, Result};
use crate::host::local::LocalHost;
use crate::host::verbs::Host;
use crate::host::watch::LinkWatch;
use crate::virtqueue::{address_space, fault};
use crate::worker::poller::{Interest, Poller, Ready};
use crate::worker::pool::Pool;

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Stop,
}

/// The control side of the process.
pub struct Server {
    pub(crate) config: Config,
    pub(crate) poller: Poller,
    pub(crate) signals: Signals,
    pub(crate) watch: LinkWatch,
    pub(crate) ports: Vec<Port>,
    pub(crate) ground: ControlContext,
    /// Sources of events that may rest.
    pub(crate) shares: crate::control::news::Shares,
    /// Listeners that rest, and until when.
    pub(crate) resting: Vec<(usize, Instant)>,
}

impl Server {
    /// Makes all ports with their devices and sockets. Call before any other thread exists: signals
    /// are blocked here for all of them.
    ///
    /// # Errors
    /// A port cannot be made; what was made before is taken back.
    pub fn start(config: Config) -> Result<Server> {
        let os = |what: &'static str| {
            move |error: io::Error| Error::system(what, error, "see the limits of the process")
        };
        // Before anything is opened here: a number that was not inherited could become ours.
        let inherited = take_inherited(&config);
        crate::control::identity::check(&config)?;
        crate::process::descriptors::allow(config.ports.iter().map(|port| port.queue_pairs));
        let signals = Signals::catch().map_err(os("signals"))?;
        fault::install().map_err(os("signals"))?;
        address_space::share_among(config.ports.len());
        let mut host: Box<dyn Host> = Box::new(LocalHost::open()?);
        let entrances = crate::control::precheck::judge(&config, inherited, host.as_mut())?;
        let watch = host.watch()?;
        let poller = Poller::new().map_err(os("epoll"))?;
        let notifier = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| os("eventfd")(errno.into()))?;
        let input = Interest::EPOLLIN;
        poller
            .add(&borrowed(signals.as_fd()), input, Token::Signal.number())
            .and_then(|()| poller.add(&borrowed(watch.as_fd()), input, Token::Links.number()))
            .and_then(|()| poller.add(&borrowed(notifier.as_fd()), input, Token::Bell.number()))
            .map_err(os("epoll"))?;
        let pool = Pool::start(config.threads(), config.busy_poll).map_err(os("worker threads"))?;
        let parents = Parents::new(&config);
        let mut server = Server {
            config,
            poller,
            signals,
            watch,
            ports: Vec::new(),
            ground: ControlContext { host, pool, notifier: Arc::new(notifier), parents },
            shares: crate::control::news::Shares::default(),
            resting: Vec::new(),
        };
        match server.open_ports().and_then(|()| server.open_endpoints(entrances)) {
            Ok(()) => Ok(server),
            Err(error) => {
                server.close();
                Err(error)
            }
        }
    }

    fn open_ports(&mut self) -> Result<()> {
        for config in &self.config.ports {
            let port = Port::open(config, &mut self.ground)?;
            self.ports.push(port);
        }
        let ControlContext { parents, host, .. } = &mut self.ground;
        parents.refresh(host.as_mut())
    }

    /// Serves until a signal, or with `--one-off` a front-end's leaving, ends it; then takes
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
            let mut tokens: Vec<Token> = events.iter().filter_map(|e| Token::of(e.data)).collect();
            tokens.sort_by_key(|token| *token != Token::Signal);
            if tokens.into_iter().any(|token| self.serve(token) == Next::Stop) {
                break;
            }
        }
        self.close();
        Ok(())
    }

    fn serve(&mut self, token: Token) -> Next {
        match token {
            Token::Signal => return self.signal(),
            Token::Links => self.links(),
            Token::Bell => return self.notifier(),
            Token::Listener(index) => self.accept(index),
        }
        Next::GoOn
    }

    fn signal(&mut self) -> Next {
        match self.signals.take() {
            Order::Counters => {
                self.ports.iter().for_each(Port::report_counters);
                self.ground.parents.report_losses();
                Next::GoOn
            }
            Order::End => Next::Stop,
            Order::Nothing => Next::GoOn,
        }
    }

    /// Does what is due and returns how long the loop may sleep, in milliseconds (-1: without a limit).
    fn timers(&mut self) -> i32 {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for port in &mut self.ports {
            next = sooner(next, port.restore(&mut self.ground, now));
            next = sooner(next, port.follow_mac(&mut self.ground, now));
            next = sooner(next, port.give_up_waiting(now));
            next = sooner(next, port.report(now));
        }
        let ControlContext { parents, host, .. } = &mut self.ground;
        next = sooner(next, parents.restore(host.as_mut(), now));
        next = sooner(next, self.dial(now));
        next = sooner(next, self.rested(now));
        next = sooner(next, self.signals.flush(now));
        next = sooner(next, self.end_rests(now));
        sleep_until(next, now)
    }
}
