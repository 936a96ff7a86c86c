//! The listeners of all ports: published last of all, and resting where their front-ends connect in
//! a loop.
//!
//! A port's socket appears last of all, when everything behind it can serve. A listener whose
//! connection cannot be accepted, because the process is out of descriptors, rests a moment instead
//! of spinning, and so does a listener whose front-ends connect and disconnect in a loop
//! (`pace.rs`). We connect to a listening front-end again and again, without an end
//! ([`Port::dial`]): it may be started later than we are, and cloud-hypervisor removes its socket
//! and makes it again whenever it waits for a new back-end.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use log::info;

use crate::config::FrontendSocket;
use crate::control::deadline::sooner;
use crate::control::endpoint::{Endpoint, Reserved};
use crate::control::port::Port;
use crate::control::port_table::{PortKey, PortTable};
use crate::control::wake::WakeToken;
use crate::error::{Error, Result};
use crate::worker::poller::{Interest, Poller};

/// How long a listener rests after the process ran out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The ways for front-ends to connect: inherited connections, and sockets that wait to be
/// published; both by the port's name.
#[derive(Default)]
pub(crate) struct Entrances {
    pub(crate) inherited: BTreeMap<String, UnixStream>,
    pub(crate) sockets: BTreeMap<String, Reserved>,
}

/// Listeners that rest, and until when.
#[derive(Default)]
pub(crate) struct Listeners {
    resting: Vec<(PortKey, Instant)>,
}

/// Lets front-ends connect to every port. Last of all, because a socket must not appear before it
/// can be served.
///
/// # Errors
/// A socket cannot be published.
pub(crate) fn open_endpoints(
    ports: &mut PortTable<Port>,
    mut entrances: Entrances,
    poller: &Poller,
) -> Result<()> {
    for (key, port) in ports.entries_mut() {
        let name = port.config().name.clone();
        match port.config().socket.clone() {
            FrontendSocket::Listen(path) => {
                let Some(reserved) = entrances.sockets.remove(&name) else { continue };
                let reported = reserved.reported();
                let socket = reserved.publish()?;
                poller.add(&socket, Interest::EPOLLIN, WakeToken::Listener(key).number()).map_err(
                    |error| Error::system(format!("socket {}", path.display()), error, "retry"),
                )?;
                port.serve_at(Endpoint::Listening(socket));
                reported.log(&name, &path);
            }
            FrontendSocket::Connect(path) => {
                port.serve_at(Endpoint::Connecting(Instant::now()));
                info!("port {name}: connects to {}", path.display());
            }
            FrontendSocket::Fd(_) => {
                port.serve_at(Endpoint::Inherited);
                if let Some(stream) = entrances.inherited.remove(&name) {
                    port.attach_frontend(stream);
                }
            }
        }
    }
    Ok(())
}

impl Listeners {
    /// Takes one connection at the listener of a port.
    pub(crate) fn accept(&mut self, key: PortKey, ports: &mut PortTable<Port>, poller: &Poller) {
        let Some(port) = ports.get_mut(key) else { return };
        let Some(Endpoint::Listening(socket)) = port.endpoint() else { return };
        match socket.accept() {
            Ok(Some(stream)) => {
                port.attach_frontend(stream);
                let now = Instant::now();
                if let Some(rest) = port.pace.connected(now) {
                    self.rest(key, port, now + rest, poller);
                }
            }
            Ok(None) => {}
            Err(error) => {
                // Out of descriptors or memory: the connection stays in the queue, the event too.
                port.warn(format_args!("cannot accept a front-end: {error}"));
                self.rest(key, port, Instant::now() + ACCEPT_REST, poller);
            }
        }
    }

    /// The listener of a port is not watched until then.
    fn rest(&mut self, key: PortKey, port: &Port, until: Instant, poller: &Poller) {
        watch(key, port, Interest::empty(), poller);
        self.resting.push((key, until));
    }

    /// Watches the listeners that have rested. Returns when the next one has.
    pub(crate) fn end_rests(
        &mut self,
        now: Instant,
        ports: &mut PortTable<Port>,
        poller: &Poller,
    ) -> Option<Instant> {
        for (key, _) in self.resting.extract_if(.., |(_, until)| *until <= now) {
            if let Some(port) = ports.get_mut(key) {
                watch(key, port, Interest::EPOLLIN, poller);
            }
        }
        self.resting.iter().fold(None, |next, &(_, until)| sooner(next, Some(until)))
    }
}

fn watch(key: PortKey, port: &Port, interest: Interest, poller: &Poller) {
    if let Some(Endpoint::Listening(socket)) = port.endpoint() {
        let _ = poller.modify(socket, interest, WakeToken::Listener(key).number());
    }
}
