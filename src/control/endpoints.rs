//! How front-ends come in and go: listeners, dialling, sessions.
//!
//! A port's socket appears last of all, when everything behind it can serve. A front-end that listens is
//! dialled again and again, for ever: it may be started later than we are, and cloud-hypervisor takes its
//! socket away and makes it anew whenever it waits for a new back-end. A listener whose connection cannot
//! be accepted, because the process is out of descriptors, rests a moment instead of spinning, and so does
//! one whose front-ends come and go in a loop (`pace.rs`).

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use log::{debug, info};

use crate::config::Socket;
use crate::control::deadline::sooner;
use crate::control::port::Endpoint;
use crate::control::precheck::Entrances;
use crate::control::server::{Next, Server};
use crate::control::wake::Token;
use crate::error::{Error, Result};
use crate::process::unix_socket::connect_to;
use crate::vhost_user::frontend::Ended;
use crate::worker::poller::Interest;

/// Pause between two attempts to reach a front-end that listens.
const DIAL_RETRY: Duration = Duration::from_millis(250);
/// How long a listener rests after the process ran out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Server {
    /// Last of all, because a socket must not appear before it can be served.
    pub(crate) fn open_endpoints(&mut self, mut entrances: Entrances) -> Result<()> {
        for index in 0..self.ports.len() {
            let Some(port) = self.ports.get_mut(index) else { break };
            match port.core.config.socket.clone() {
                Socket::Listen(path) => {
                    let Some(reserved) = entrances.sockets.remove(&index) else { continue };
                    let reported = reserved.reported();
                    let socket = reserved.publish()?;
                    self.poller
                        .add(&socket, Interest::EPOLLIN, Token::Listener(index).number())
                        .map_err(|error| {
                            Error::system(format!("socket {}", path.display()), error, "retry")
                        })?;
                    port.door = Some(Endpoint::Listening(socket));
                    reported.log(&port.core.config.name, &path);
                }
                Socket::Connect(path) => {
                    port.door = Some(Endpoint::Connecting(Instant::now()));
                    info!("port {}: connects to {}", port.core.config.name, path.display());
                }
                Socket::Fd(_) => {
                    port.door = Some(Endpoint::Inherited);
                    if let Some(stream) = entrances.inherited.remove(&index) {
                        self.attach_frontend(index, stream);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a connection at a port's listener.
    pub(crate) fn accept(&mut self, index: usize) {
        let Some(Endpoint::Listening(socket)) = self.ports.get(index).and_then(|p| p.door.as_ref())
        else {
            return;
        };
        match socket.accept() {
            Ok(Some(stream)) => {
                self.attach_frontend(index, stream);
                let now = Instant::now();
                if let Some(rest) = self.ports.get_mut(index).and_then(|p| p.pace.connected(now)) {
                    self.rest(index, now + rest);
                }
            }
            Ok(None) => {}
            Err(error) => {
                // Out of descriptors or memory: the connection stays in the queue, the event too.
                let log = &self.ports[index].core.data.log;
                log.warn(format_args!("cannot accept a front-end: {error}"));
                self.rest(index, Instant::now() + ACCEPT_REST);
            }
        }
    }

    /// A listener is not listened to until then.
    fn rest(&mut self, index: usize, until: Instant) {
        let Some(Endpoint::Listening(socket)) = self.ports.get(index).and_then(|p| p.door.as_ref())
        else {
            return;
        };
        let _ = self.poller.modify(socket, Interest::empty(), Token::Listener(index).number());
        self.resting.push((index, until));
    }

    /// Serves a new connection.
    fn attach_frontend(&mut self, index: usize, stream: UnixStream) {
        if let Some(port) = self.ports.get_mut(index) {
            port.attach_frontend(stream);
        }
    }

    /// Looks which front-ends' connections have ended.
    pub(crate) fn endings(&mut self) -> Next {
        for index in 0..self.ports.len() {
            if let Some(ended) = self.ports[index].ended()
                && self.detach_frontend(index, ended) == Next::Stop
            {
                return Next::Stop;
            }
        }
        Next::GoOn
    }

    fn detach_frontend(&mut self, index: usize, ended: Ended) -> Next {
        let Some(port) = self.ports.get_mut(index) else { return Next::GoOn };
        port.detach_frontend(ended, &mut self.ground);
        if let Some(Endpoint::Connecting(next)) = &mut port.door {
            *next = Instant::now() + DIAL_RETRY;
        }
        if self.config.one_off {
            info!(
                "port {}: its front-end has disconnected, and --one-off was given",
                port.core.config.name
            );
            return Next::Stop;
        }
        Next::GoOn
    }

    /// Dials the front-ends that listen, where that is due. Returns when to do it again.
    pub(crate) fn dial(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut connected = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let served = port.is_served();
            let Some(Endpoint::Connecting(due)) = port.door.as_mut().filter(|_| !served) else {
                continue;
            };
            let Socket::Connect(path) = &port.core.config.socket else { continue };
            if *due <= now {
                *due = now + DIAL_RETRY;
                match connect_to(path) {
                    Ok(stream) => connected.push((index, stream)),
                    Err(error) => {
                        debug!("port {}: {}: {error}", port.core.config.name, path.display())
                    }
                }
            }
            next = sooner(next, Some(*due));
        }
        for (index, stream) in connected {
            self.attach_frontend(index, stream);
        }
        next
    }

    /// Wakes listeners that have rested. Returns when the next one has.
    pub(crate) fn rested(&mut self, now: Instant) -> Option<Instant> {
        let rested: Vec<usize> = self
            .resting
            .extract_if(.., |(_, until)| *until <= now)
            .map(|(index, _)| index)
            .collect();
        for index in rested {
            if let Some(Endpoint::Listening(socket)) = self.ports[index].door.as_ref() {
                let token = Token::Listener(index).number();
                let _ = self.poller.modify(socket, Interest::EPOLLIN, token);
            }
        }
        self.resting.iter().map(|&(_, until)| until).min()
    }
}
