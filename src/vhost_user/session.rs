//! One connected front-end.
//!
//! ```text
//! front-end ──socket── RequestFilter ──private socket── VhostUserDaemon (its own thread) ── Device
//! ```
//!
//! The crate's daemon can only accept a connection from a listener, so each session makes one for
//! itself (`private_socket.rs`). The daemon, the device and its rings live exactly as long as the
//! connection; the port's queue pairs stay.
//!
//! Requests are taken one at a time: while the crate owes an answer no further request is read, so
//! the answers of the filter and of the crate cannot overtake each other. All of this runs on the
//! port's front-end thread (`frontend.rs`), which alone waits for the two sockets.
//!
//! The order of the end matters, because the crate's thread serves requests until it is joined:
//!
//! 1. The rings are stopped.
//! 2. The private socket is shut down and the crate's thread joined.
//! 3. Rings that the crate's thread has started meanwhile are stopped.
//! 4. Only then is the guest's memory released, and with it the watch over it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use log::{Level, debug};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vhost_user_backend::VhostUserDaemon;
use vm_memory::GuestMemoryMmap;

use crate::datapath::port::PortData;
use crate::datapath::port_backend::PortBackend;
use crate::net::mac::Mac;
use crate::process::threads;
use crate::process::unix_socket::peer_pid;
use crate::vhost_user::device::Device;
use crate::vhost_user::private_socket::private_connection;
use crate::vhost_user::rarp::Announcements;
use crate::vhost_user::request_filter::action::Action;
use crate::vhost_user::request_filter::memory::usual_memory;
use crate::vhost_user::request_filter::{Limits, RequestFilter};
use crate::vhost_user::request_pace::RequestPace;
use crate::vhost_user::served_port::ServedPort;
use crate::vhost_user::vring_handle::{ConnectionRings, with_factory};
use crate::vhost_user::wire::{MessageInbox, Outbox, ReceivedMessage};
use crate::vhost_user::{features, rarp};
use crate::virtqueue::guest_map::SharedMemory;

/// Most messages handled before the thread checks whether it is to end.
const TURN: usize = 64;

/// The reason why a session is over.
#[derive(Debug)]
pub enum Over {
    /// The front-end has closed its socket.
    FrontEndGone,
    /// The front-end broke the protocol.
    Misbehaved(String),
    /// The crate has ended the connection.
    BackEndGone,
    /// The process or the port ends.
    Stopped,
}

/// A connected front-end.
pub struct Session {
    data: Arc<PortData>,
    front: Arc<UnixStream>,
    back: UnixStream,
    front_in: MessageInbox,
    back_in: MessageInbox,
    front_out: Outbox,
    back_out: Outbox,
    awaiting: bool,
    announcements: Announcements,
    requests: RequestPace,
    filter: RequestFilter,
    device: Arc<Device>,
    attachment: Arc<PortBackend>,
    daemon: VhostUserDaemon<Arc<Device>>,
}

impl Session {
    /// Starts to serve the front-end behind `front`.
    ///
    /// # Errors
    /// No descriptors, threads or memory are left.
    pub fn start(front: Arc<UnixStream>, port: &ServedPort) -> io::Result<Session> {
        front.set_nonblocking(true)?;
        let ServedPort { config, data, pairs, attachment } = port;
        let (mut listener, back) = private_connection()?;
        let shared = ConnectionRings::new(pairs.clone());
        let device = Arc::new(Device::new(config, Arc::clone(&shared), Arc::clone(attachment)));
        let memory = SharedMemory::new(GuestMemoryMmap::new());
        // The crate starts its thread by itself.
        threads::room()?;
        let thread = threads::name("vu", &config.name);
        let (daemon, vrings) =
            with_factory(&shared, || VhostUserDaemon::new(thread, Arc::clone(&device), memory));
        let mut daemon = daemon.map_err(|error| io::Error::other(error.to_string()))?;
        device.set_vrings(vrings);
        daemon.start(&mut listener).map_err(|error| io::Error::other(error.to_string()))?;
        for pair in pairs {
            pair.expect_front_end();
        }
        let limits = Limits {
            rings: 2 * u32::from(config.queue_pairs),
            features: features::offered(config),
            mtu: data.mtu(),
            mac: data.mac(),
            pid: peer_pid(&front),
            memory: config.memory_limit.unwrap_or_else(usual_memory),
        };
        Ok(Session {
            data: Arc::clone(data),
            front,
            back,
            front_in: MessageInbox::default(),
            back_in: MessageInbox::default(),
            front_out: Outbox::default(),
            back_out: Outbox::default(),
            awaiting: false,
            announcements: Announcements::default(),
            requests: RequestPace::default(),
            filter: RequestFilter::new(limits),
            device,
            attachment: Arc::clone(attachment),
            daemon,
        })
    }

    /// Waits until a message can be moved, or the front-end's socket is shut down.
    pub fn wait(&mut self) {
        let rest = self.requests.rest(Instant::now());
        let take = !self.awaiting
            && rest.is_none()
            && self.front_out.is_empty()
            && self.back_out.is_empty();
        let front = interest(take, !self.front_out.is_empty());
        let back = interest(self.front_out.is_empty(), !self.back_out.is_empty());
        let mut fds =
            [PollFd::new(self.front.as_fd(), front), PollFd::new(self.back.as_fd(), back)];
        // A socket that has hung up wakes even a poll without any wanted event, again and again.
        let waits = match (front.is_empty(), back.is_empty()) {
            (true, _) => &mut fds[1..],
            (false, true) => &mut fds[..1],
            (false, false) => &mut fds[..],
        };
        let time = rest.map_or(PollTimeout::NONE, |rest| {
            // Rounded up, so that the thread does not wake just before the time.
            PollTimeout::from(u8::try_from(rest.as_millis() + 1).unwrap_or(u8::MAX))
        });
        // A signal or a lack of memory: the next check is merely early.
        let _ = poll(waits, time);
    }

    /// Moves the messages that can be moved.
    ///
    /// # Errors
    /// The session is over.
    pub fn serve(&mut self) -> Result<(), Over> {
        for _ in 0..TURN {
            let mut moved = false;
            if self.front_out.is_empty() {
                match self.back_in.receive(&self.back) {
                    Ok(ReceivedMessage::Message(reply)) => {
                        self.awaiting = false;
                        self.front_out.push(self.filter.reply(reply));
                        moved = true;
                    }
                    Ok(ReceivedMessage::Nothing) => {}
                    Ok(ReceivedMessage::Closed) | Err(_) => return Err(Over::BackEndGone),
                }
            }
            if !self.awaiting
                && self.front_out.is_empty()
                && self.back_out.is_empty()
                && self.requests.rest(Instant::now()).is_none()
            {
                match self.front_in.receive(&self.front) {
                    Ok(ReceivedMessage::Message(request)) => {
                        self.requests.took();
                        debug!("port {}: {}", self.data.name, request.name());
                        self.filter.set_mtu(self.data.mtu());
                        self.filter.set_mac(self.data.mac());
                        for action in self.filter.request(request) {
                            self.act(action)?;
                        }
                        moved = true;
                    }
                    Ok(ReceivedMessage::Nothing) => {}
                    Ok(ReceivedMessage::Closed) => return Err(Over::FrontEndGone),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        return Err(Over::Misbehaved(error.to_string()));
                    }
                    Err(_) => return Err(Over::FrontEndGone),
                }
            }
            self.back_out.send(&self.back).map_err(|_| Over::BackEndGone)?;
            self.front_out.send(&self.front).map_err(|_| Over::FrontEndGone)?;
            if !moved {
                break;
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Over> {
        match action {
            Action::ToBackend(message) => self.back_out.push(message),
            Action::AwaitReply => self.awaiting = true,
            Action::ToFrontEnd(message) => self.front_out.push(message),
            Action::SendRarp(mac) => self.announce(mac),
            Action::GuestMtu(mtu) => self.data.log.info(format_args!("the guest's MTU is {mtu}")),
            Action::Refused(reason) => {
                self.data.log.warn(format_args!("front-end refused: {reason}"));
            }
            Action::End(reason) => return Err(Over::Misbehaved(reason)),
        }
        Ok(())
    }

    /// Announces the port's address, but not more often than a migration needs.
    fn announce(&mut self, mac: Mac) {
        let log = &self.data.log;
        if !self.announcements.permit(Instant::now()) {
            return log.warn(format_args!(
                "SEND_RARP: requested too often; not every request is announced"
            ));
        }
        match self.attachment.inject(&rarp::frame(mac)) {
            Ok(()) => log.info(format_args!("announced {mac} by RARP")),
            Err(error) => log.warn(format_args!("cannot announce {mac}: {error}")),
        }
    }

    /// Ends the session. Afterwards nothing of the front-end's is mapped, open or running, except
    /// kept descriptors (`received_fd.rs`). Returns the text to be logged about it.
    pub fn end(mut self, why: &Over) -> (Level, String) {
        self.device.stop_rings();
        let _ = self.back.shutdown(std::net::Shutdown::Both);
        let outcome = self.daemon.wait();
        // Only this thread can still touch the guest's memory.
        self.device.end();
        let who = format!("front-end (process {})", peer_pid(&self.front));
        match (why, outcome) {
            // The crate refused the last request, and the front-end left before it was told.
            (Over::FrontEndGone, Err(error)) if is_refusal(&error) => {
                (Level::Warn, format!("{who} disconnected: {error}"))
            }
            (Over::FrontEndGone, _) => match self.filter.why_left() {
                Some(reason) => (Level::Warn, format!("{who} has disconnected: {reason}")),
                None => (Level::Info, format!("{who} has disconnected")),
            },
            (Over::Misbehaved(reason), _) => (Level::Warn, format!("{who} disconnected: {reason}")),
            (Over::BackEndGone, Err(error)) => {
                (Level::Warn, format!("{who} disconnected: {error}"))
            }
            (Over::BackEndGone, Ok(())) => (Level::Info, "connection ended".to_owned()),
            (Over::Stopped, _) => (Level::Info, format!("{who} disconnected: the port ends")),
        }
    }
}

/// Whether the crate ended because a request failed, not because its socket was closed.
fn is_refusal(error: &vhost_user_backend::Error) -> bool {
    use vhost::vhost_user::Error::ReqHandlerError;
    matches!(error, vhost_user_backend::Error::HandleRequest(ReqHandlerError(_)))
}

fn interest(input: bool, output: bool) -> PollFlags {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, input);
    events.set(PollFlags::POLLOUT, output);
    events
}
