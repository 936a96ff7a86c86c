//! The control side: sockets, signals, devices.
//!
//! | file | idea |
//! | --- | --- |
//! | `message`, `wire` | a vhost-user message; messages on and off a socket, without waiting |
//! | `front/` | the front door: every request is judged here |
//! | `frontend` | the thread of a port that has to do with its front-end |
//! | `session` | one connected front-end, from its first byte to the last trace of it |
//! | `rarp` | the announcement frame |
//! | `precheck` | everything that can be judged, judged before anything is made |
//! | `listen/`, `inherited` | a listening socket: reserved, published, ours; a connection that came with the process |
//! | `port_mac` | which address a port has before its guest has said anything |
//! | `identity` | parents that have several names are one device all the same |
//! | `port`, `core` | what a port is made of |
//! | `macvtap`, `patience` | a port's kernel device, lost and made again, changed by others and put right |
//! | `lan/` | a parent with ports in userspace: what they share, their table and filters |
//! | `doors` | how front-ends come in and go |
//! | `pace` | how fast they may |
//! | `signals` | what a signal means |
//! | `wake` | everything that can wake the loop |
//! | `ending` | the end of the process, in time whatever tenants do |
//! | `follow` | which of its guest's addresses a port takes |
//! | `news`, `share` | news about devices, the workers' bell; what share of the time they get |
//! | `last_holder` | a process that outlives this one, for descriptors that cannot be closed |
//! | `descriptors` | how many of them the process may open |
//! | `fd_kind` | what a front-end's descriptor is, without asking the object behind it |
//! | `received_fd` | a front-end's descriptor, and how it is let go |
//!
//! [`Server::run`] is one loop on one thread over everything that can wake the control side. It may
//! look things up, allocate and fail; it never waits for a front-end, and never touches what one has sent.
//! Signals are looked at before anything else, and each wake-up takes one connection of a listener at most,
//! so that no flood keeps the process from its end. Frames never pass here.

mod core;
mod descriptors;
mod doors;
mod ending;
pub mod fd_kind;
mod follow;
pub mod front;
pub mod frontend;
pub mod identity;
mod inherited;
mod lan;
pub mod last_holder;
pub mod listen;
mod macvtap;
pub mod message;
mod news;
mod pace;
mod patience;
pub mod port;
pub mod port_mac;
mod precheck;
pub mod rarp;
pub mod received_fd;
pub mod session;
mod share;
mod signals;
mod wake;
pub mod wire;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt};

use self::core::Ground;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::poll::{Interest, Poller, Ready};
use crate::queue::pool::Pool;
use crate::queue::{address_space, fault};
use crate::uplink::{LinkWatch, Neighbours, Netlink};
use inherited::take_inherited;
use lan::Lans;
use port::Port;
use signals::{Order, Signals};
use wake::{Token, borrowed};

/// The process id behind a connected socket; 0 when the kernel does not tell.
pub(crate) fn peer_pid(stream: &UnixStream) -> i32 {
    getsockopt(stream, sockopt::PeerCredentials).map_or(0, |peer| peer.pid())
}

/// The earlier of two times, where there are any.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// The control side of the process.
pub struct Server {
    config: Config,
    poller: Poller,
    signals: Signals,
    watch: LinkWatch,
    ports: Vec<Port>,
    ground: Ground,
    /// Sources of events that may rest.
    shares: news::Shares,
    /// Listeners that rest, and until when.
    resting: Vec<(usize, Instant)>,
}

impl Server {
    /// Makes all ports with their devices and sockets. Call before any other thread exists: signals
    /// are blocked here for all of them.
    ///
    /// # Errors
    /// A port cannot be made; what was made before is taken back.
    pub fn start(config: Config) -> Result<Server> {
        let os = |what: &'static str| {
            move |error: io::Error| Error::failed(what, error, "see the limits of the process")
        };
        // Before anything is opened here: a number that was not inherited could become ours.
        let inherited = take_inherited(&config);
        identity::check(&config)?;
        descriptors::allow(&config);
        let signals = Signals::catch().map_err(os("signals"))?;
        fault::install().map_err(os("signals"))?;
        address_space::share_among(config.ports.len());
        let mut netlink = Netlink::open()?;
        let entrances = precheck::judge(&config, inherited, &mut netlink)?;
        let watch = LinkWatch::open()?;
        let poller = Poller::new().map_err(os("epoll"))?;
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| os("eventfd")(errno.into()))?;
        let input = Interest::EPOLLIN;
        poller
            .add(&borrowed(signals.as_fd()), input, Token::Signal.number())
            .and_then(|()| poller.add(&borrowed(watch.as_fd()), input, Token::Links.number()))
            .and_then(|()| poller.add(&borrowed(bell.as_fd()), input, Token::Bell.number()))
            .map_err(os("epoll"))?;
        let pool = Pool::start(config.threads(), config.busy_poll).map_err(os("worker threads"))?;
        let lans = Lans::new(&config);
        let mut server = Server {
            config,
            poller,
            signals,
            watch,
            ports: Vec::new(),
            ground: Ground {
                netlink,
                pool,
                bell: Arc::new(bell),
                lans,
                neighbours: Neighbours::default(),
            },
            shares: news::Shares::default(),
            resting: Vec::new(),
        };
        match server.open_ports().and_then(|()| server.open_doors(entrances)) {
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
        self.ground.lans.refresh()
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
                    return Err(Error::failed("epoll", error, "this is a bug; please report it"));
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
            Token::Bell => return self.bell(),
            Token::Listener(index) => self.accept(index),
        }
        Next::GoOn
    }

    fn signal(&mut self) -> Next {
        match self.signals.take() {
            Order::Counters => {
                self.ports.iter().for_each(Port::tell_counters);
                self.ground.lans.tell_losses();
                Next::GoOn
            }
            Order::End => Next::Stop,
            Order::Nothing => Next::GoOn,
        }
    }

    /// Does what is due and returns how long the loop may sleep, in milliseconds (-1: for ever).
    fn timers(&mut self) -> i32 {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for port in &mut self.ports {
            next = sooner(next, port.restore(&mut self.ground, now));
            next = sooner(next, port.follow_mac(&mut self.ground, now));
            next = sooner(next, port.give_up_waiting(now));
            next = sooner(next, port.report(now));
        }
        let Ground { lans, netlink, .. } = &mut self.ground;
        next = sooner(next, lans.restore(netlink, now));
        next = sooner(next, self.dial(now));
        next = sooner(next, self.rested(now));
        next = sooner(next, self.signals.flush(now));
        next = sooner(next, self.end_rests(now));
        match next {
            // Rounded up, so that the loop does not wake just before the time.
            Some(time) => (time.saturating_duration_since(now).as_millis() + 1).min(60_000) as i32,
            None => -1,
        }
    }
}
