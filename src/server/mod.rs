//! The control side: sockets, signals, devices.
//!
//! | file | idea |
//! | --- | --- |
//! | `message`, `wire` | a vhost-user message; messages on and off a socket, without waiting |
//! | `front`, `memory` | the front door: every request is judged here; memory regions are checked |
//! | `session` | one connected front-end, from its first byte to the last trace of it |
//! | `rarp` | the announcement frame |
//! | `listen` | a listening socket: stale, busy, ours |
//! | `port` | what a port is made of, and how it survives the loss of parts |
//!
//! [`Server::run`] is one loop on one thread over everything that can wake the control side. It may
//! look things up, allocate and fail; it never waits for a front-end. Frames never pass here.

pub mod front;
pub mod listen;
pub mod memory;
pub mod message;
pub mod port;
pub mod rarp;
pub mod session;
pub mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};

use crate::config::{Config, Socket};
use crate::error::{Error, Result};
use crate::poll::{Interest, Poller, Ready};
use crate::queue::fault;
use crate::queue::worker::Pool;
use crate::uplink::{LinkEvent, LinkWatch, Netlink, close_all};
use listen::SocketFile;
use port::{Door, Port};
use session::Over;

/// Pause between two attempts to reach a front-end that listens.
const DIAL_RETRY: Duration = Duration::from_millis(250);
/// How long a listener rests after the process ran out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Everything that can wake the control loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// A signal came.
    Signal,
    /// The kernel has news about devices.
    Links,
    /// A worker saw a new MAC address.
    Bell,
    /// A front-end wants to connect to this port.
    Listener(usize),
    /// This port's front-end sent something, or takes something again.
    FrontEnd(usize),
    /// The crate's daemon behind this port's front-end did.
    BackEnd(usize),
}

impl Token {
    fn number(self) -> u64 {
        let (kind, port) = match self {
            Token::Signal => (0, 0),
            Token::Links => (1, 0),
            Token::Bell => (2, 0),
            Token::Listener(port) => (3, port),
            Token::FrontEnd(port) => (4, port),
            Token::BackEnd(port) => (5, port),
        };
        (port as u64) << 3 | kind
    }

    fn of(number: u64) -> Option<Token> {
        let port = (number >> 3) as usize;
        Some(match number & 7 {
            0 => Token::Signal,
            1 => Token::Links,
            2 => Token::Bell,
            3 => Token::Listener(port),
            4 => Token::FrontEnd(port),
            5 => Token::BackEnd(port),
            _ => return None,
        })
    }
}

/// A descriptor that somebody else owns.
struct Borrowed(RawFd);

impl AsRawFd for Borrowed {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn borrowed(fd: BorrowedFd<'_>) -> Borrowed {
    Borrowed(fd.as_raw_fd())
}

/// The process id behind a connected socket; 0 when the kernel does not tell.
pub(crate) fn peer_pid(stream: &UnixStream) -> i32 {
    getsockopt(stream, sockopt::PeerCredentials).map_or(0, |peer| peer.pid())
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
    signals: SignalFd,
    watch: LinkWatch,
    bell: Arc<EventFd>,
    netlink: Netlink,
    ports: Vec<Port>,
    pool: Pool,
    /// What each descriptor of a session is watched for.
    watched: BTreeMap<u64, (RawFd, Interest)>,
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
        let inherited = take_inherited(&config)?;
        let signals = catch_signals().map_err(os("signals"))?;
        fault::install().map_err(os("signals"))?;
        let netlink = Netlink::open()?;
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
        let pool = Pool::start(config.threads()).map_err(os("worker threads"))?;
        let mut server = Server {
            config,
            poller,
            signals,
            watch,
            bell: Arc::new(bell),
            netlink,
            ports: Vec::new(),
            pool,
            watched: BTreeMap::new(),
            resting: Vec::new(),
        };
        match server.open_ports().and_then(|()| server.open_doors(inherited)) {
            Ok(()) => Ok(server),
            Err(error) => {
                server.close();
                Err(error)
            }
        }
    }

    fn open_ports(&mut self) -> Result<()> {
        for config in &self.config.ports {
            let port = Port::open(config, &mut self.netlink, &mut self.pool, &self.bell)?;
            self.ports.push(port);
        }
        Ok(())
    }

    /// Last of all, because a socket must not appear before it can be served.
    fn open_doors(&mut self, mut inherited: BTreeMap<usize, UnixStream>) -> Result<()> {
        for index in 0..self.ports.len() {
            let Some(port) = self.ports.get_mut(index) else { break };
            match port.config.socket.clone() {
                Socket::Listen(path) => {
                    let socket = SocketFile::listen(&path)?;
                    self.poller
                        .add(&socket, Interest::EPOLLIN, Token::Listener(index).number())
                        .map_err(|error| {
                            Error::failed(format!("socket {}", path.display()), error, "retry")
                        })?;
                    port.door = Some(Door::Listening(socket));
                    info!("port {}: listens at {}", port.config.name, path.display());
                }
                Socket::Connect(path) => {
                    port.door = Some(Door::Connecting(Instant::now()));
                    info!("port {}: connects to {}", port.config.name, path.display());
                }
                Socket::Fd(_) => {
                    port.door = Some(Door::Inherited);
                    if let Some(stream) = inherited.remove(&index) {
                        self.welcome(index, stream);
                    }
                }
            }
        }
        Ok(())
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
            let tokens: Vec<Token> = events.iter().filter_map(|e| Token::of(e.data)).collect();
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
            Token::Bell => {
                // The ports are asked by the timers, which run next.
                let _ = self.bell.read();
            }
            Token::Listener(index) => self.accept(index),
            Token::FrontEnd(index) | Token::BackEnd(index) => return self.session(index),
        }
        Next::GoOn
    }

    fn signal(&mut self) -> Next {
        match self.signals.read_signal() {
            Ok(Some(info)) if info.ssi_signo == Signal::SIGUSR1 as u32 => {
                for port in &self.ports {
                    let (from, to) = port.counters();
                    info!("port {}: from the guest: {from}; to the guest: {to}", port.config.name);
                }
                Next::GoOn
            }
            Ok(Some(signal)) => {
                info!("ends by signal {}", signal.ssi_signo);
                Next::Stop
            }
            _ => Next::GoOn,
        }
    }

    fn links(&mut self) {
        let mut events = Vec::new();
        if let Err(error) = self.watch.drain(|event| events.push(event)) {
            warn!("netlink: {error}");
            events.push(LinkEvent::Overrun);
        }
        for event in &events {
            debug!("netlink: {event:?}");
            for port in &mut self.ports {
                port.note(event, &mut self.netlink);
            }
        }
    }

    fn accept(&mut self, index: usize) {
        let Some(Door::Listening(socket)) = self.ports.get(index).and_then(|p| p.door.as_ref())
        else {
            return;
        };
        match socket.accept() {
            Ok(Some(stream)) => self.welcome(index, stream),
            Ok(None) => {}
            Err(error) => {
                // Out of descriptors or memory: the connection stays in the queue, the event too.
                warn!("port {}: cannot accept a front-end: {error}", self.ports[index].config.name);
                let _ =
                    self.poller.modify(socket, Interest::empty(), Token::Listener(index).number());
                self.resting.push((index, Instant::now() + ACCEPT_REST));
            }
        }
    }

    fn welcome(&mut self, index: usize, stream: UnixStream) {
        let Some(port) = self.ports.get_mut(index) else { return };
        let busy = port.session.is_some();
        port.welcome(stream);
        if !busy && port.session.is_some() {
            self.watch_session(index);
        }
    }

    /// Lets the poller follow what a session wants to be woken for.
    fn watch_session(&mut self, index: usize) {
        let session = self.ports.get(index).and_then(|port| port.session.as_ref());
        let wishes = session.map(|session| [session.front(), session.back()]);
        let tokens = [Token::FrontEnd(index).number(), Token::BackEnd(index).number()];
        for (side, token) in tokens.into_iter().enumerate() {
            let wish = wishes.map(|wishes| wishes[side]);
            let old = match wish {
                Some(wish) => self.watched.insert(token, wish),
                None => self.watched.remove(&token),
            };
            let done = match (old, wish) {
                (Some((fd, _)), None) => {
                    self.poller.remove(&Borrowed(fd));
                    Ok(())
                }
                (None, Some((fd, events))) => self.poller.add(&Borrowed(fd), events, token),
                (Some(old), Some(new)) if old != new => {
                    self.poller.modify(&Borrowed(new.0), new.1, token)
                }
                _ => Ok(()),
            };
            if let Err(error) = done {
                warn!("a front-end's socket cannot be watched: {error}");
            }
        }
    }

    fn session(&mut self, index: usize) -> Next {
        let Some(session) = self.ports.get_mut(index).and_then(|port| port.session.as_mut()) else {
            return Next::GoOn;
        };
        match session.serve() {
            Ok(()) => {
                self.watch_session(index);
                Next::GoOn
            }
            Err(over) => self.farewell(index, &over),
        }
    }

    fn farewell(&mut self, index: usize, over: &Over) -> Next {
        // Out of the poller before the descriptors are closed.
        for token in [Token::FrontEnd(index).number(), Token::BackEnd(index).number()] {
            if let Some((fd, _)) = self.watched.remove(&token) {
                self.poller.remove(&Borrowed(fd));
            }
        }
        let Some(port) = self.ports.get_mut(index) else { return Next::GoOn };
        port.farewell(over, &mut self.netlink);
        if let Some(Door::Connecting(next)) = &mut port.door {
            *next = Instant::now();
        }
        if self.config.one_off {
            info!("port {}: its front-end has gone, and --one-off was given", port.config.name);
            return Next::Stop;
        }
        Next::GoOn
    }

    /// Does what is due and returns how long the loop may sleep, in milliseconds (-1: for ever).
    fn timers(&mut self) -> i32 {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut sooner = |time: Option<Instant>| {
            next = [next, time].into_iter().flatten().min();
        };
        for port in &mut self.ports {
            sooner(port.restore_device(&mut self.netlink, now));
            sooner(port.follow_mac(&mut self.netlink, now));
        }
        let mut connected = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let Some(Door::Connecting(due)) = &mut port.door else { continue };
            let Socket::Connect(path) = &port.config.socket else { continue };
            if port.session.is_some() {
                continue;
            }
            if *due <= now {
                *due = now + DIAL_RETRY;
                match port::dial(path) {
                    Ok(stream) => connected.push((index, stream)),
                    Err(error) => debug!("port {}: {}: {error}", port.config.name, path.display()),
                }
            }
            sooner(Some(*due));
        }
        for (index, stream) in connected {
            self.welcome(index, stream);
        }
        let rested: Vec<usize> = self
            .resting
            .extract_if(.., |(_, until)| *until <= now)
            .map(|(index, _)| index)
            .collect();
        for index in rested {
            if let Some(Door::Listening(socket)) = self.ports[index].door.as_ref() {
                let token = Token::Listener(index).number();
                let _ = self.poller.modify(socket, Interest::EPOLLIN, token);
            }
        }
        for (_, until) in &self.resting {
            next = [next, Some(*until)].into_iter().flatten().min();
        }
        match next {
            // Rounded up, so that the loop does not wake just before the time.
            Some(time) => (time.saturating_duration_since(now).as_millis() + 1).min(60_000) as i32,
            None => -1,
        }
    }

    /// Takes everything back: sessions, sockets, devices. Failures are told, not returned: the rest
    /// is still to be done.
    fn close(&mut self) {
        let netlink = &mut self.netlink;
        let devices: Vec<_> = self.ports.drain(..).filter_map(|port| port.close(netlink)).collect();
        for error in close_all(devices, netlink) {
            warn!("{error}");
        }
    }
}

/// Blocks the signals that end the process or ask for its counters, and makes them readable.
fn catch_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The connections of the ports that were given one, by port.
fn take_inherited(config: &Config) -> Result<BTreeMap<usize, UnixStream>> {
    let mut streams = BTreeMap::new();
    for (index, port) in config.ports.iter().enumerate() {
        if let Socket::Fd(fd) = port.socket {
            streams.insert(index, inherited(fd)?);
        }
    }
    Ok(streams)
}

/// Takes over an inherited descriptor that must be a connected Unix socket.
fn inherited(fd: RawFd) -> Result<UnixStream> {
    let wrong = |reason: String| {
        Error::failed(
            format!("--fd {fd}"),
            reason,
            "pass a connected Unix stream socket that the VMM has the other end of",
        )
    };
    // SAFETY: only asked for its flags; F_GETFD touches nothing.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(wrong("no such descriptor was inherited".into()));
    }
    // SAFETY: it is open, and by the user's word ours to own: nothing in this process opened it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let kind = getsockopt(&owned, sockopt::SockType)
        .map_err(|errno| wrong(format!("it is not a socket ({errno})")))?;
    let stream = UnixStream::from(owned);
    if kind != nix::sys::socket::SockType::Stream || stream.peer_addr().is_err() {
        return Err(wrong("it is not a connected Unix stream socket".into()));
    }
    nix::fcntl::fcntl(&stream, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))
        .map_err(|errno| wrong(errno.to_string()))?;
    Ok(stream)
}
