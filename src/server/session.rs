//! One connected front-end.
//!
//! ```text
//! front-end ──socket── FrontDoor ──private socket── VhostUserDaemon (its own thread) ── Device
//! ```
//!
//! The crate's daemon can only accept a connection from a listener, so each session makes one for
//! itself: an unnamed (autobound) abstract socket with a queue of one, into which we connect before
//! anybody else can. Should somebody have been quicker, the queue is full, our connect fails, and
//! another listener is made. The daemon, the device and its rings live exactly as long as the
//! connection; the port's queue pairs stay.
//!
//! Requests are taken one at a time: while the crate owes an answer the front-end waits, so answers
//! of the door and of the crate cannot overtake each other. Nothing here ever blocks.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, listen,
    socket,
};
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::GuestMemoryMmap;

use super::front::{Action, FrontDoor, Limits, usual_memory};
use super::peer_pid;
use super::rarp;
use super::wire::{Inbox, Outbox, Received};
use crate::config::PortConfig;
use crate::device::Device;
use crate::device::attachment::Attachment;
use crate::device::features;
use crate::device::vring::{Shared, with_nursery};
use crate::poll::Interest;
use crate::queue::memory::SharedMemory;
use crate::queue::pair::QueuePair;

/// Most messages handled before the control loop looks at its other sockets.
const TURN: usize = 64;
/// Refusals told in full in one [`REFUSAL_WINDOW`].
const REFUSALS_TOLD: u32 = 10;
const REFUSAL_WINDOW: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Debug)]
pub enum Over {
    /// The front-end has closed its socket.
    FrontEndGone,
    /// The front-end did what it must not.
    Misbehaved(String),
    /// The crate has ended the connection.
    BackEndGone,
}

/// A connected front-end.
pub struct Session {
    port: String,
    pid: i32,
    front: UnixStream,
    back: UnixStream,
    front_in: Inbox,
    back_in: Inbox,
    front_out: Outbox,
    back_out: Outbox,
    awaiting: bool,
    refusals: (Instant, u32),
    door: FrontDoor,
    device: Arc<Device>,
    attachment: Arc<Attachment>,
    daemon: VhostUserDaemon<Arc<Device>>,
}

impl Session {
    /// Starts to serve the front-end behind `front`.
    ///
    /// # Errors
    /// No descriptors, threads or memory are left.
    pub fn start(
        front: UnixStream,
        config: &PortConfig,
        mtu: u32,
        pairs: &[Arc<QueuePair>],
        attachment: &Arc<Attachment>,
    ) -> io::Result<Session> {
        front.set_nonblocking(true)?;
        let (mut listener, back) = private_connection()?;
        let shared = Shared::new(pairs.to_vec());
        let device = Arc::new(Device::new(config, Arc::clone(&shared), Arc::clone(attachment)));
        let memory = SharedMemory::new(GuestMemoryMmap::new());
        // The kernel shows 15 bytes of a thread's name.
        let thread: String = format!("fe-{}", config.name).chars().take(15).collect();
        let (daemon, vrings) =
            with_nursery(&shared, || VhostUserDaemon::new(thread, Arc::clone(&device), memory));
        let mut daemon = daemon.map_err(|error| io::Error::other(error.to_string()))?;
        device.set_vrings(vrings);
        daemon.start(&mut listener).map_err(|error| io::Error::other(error.to_string()))?;
        for pair in pairs {
            pair.expect_front_end();
        }
        let limits = Limits {
            rings: 2 * u32::from(config.queue_pairs),
            features: features::offered(config),
            mtu,
            memory: config.memory_limit.unwrap_or_else(usual_memory),
        };
        Ok(Session {
            port: config.name.clone(),
            pid: peer_pid(&front),
            front,
            back,
            front_in: Inbox::default(),
            back_in: Inbox::default(),
            front_out: Outbox::default(),
            back_out: Outbox::default(),
            awaiting: false,
            refusals: (Instant::now(), 0),
            door: FrontDoor::new(limits),
            device,
            attachment: Arc::clone(attachment),
            daemon,
        })
    }

    /// The front-end's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The front-end's socket and what it is to be watched for.
    pub fn front(&self) -> (RawFd, Interest) {
        let take = !self.awaiting && self.front_out.is_empty() && self.back_out.is_empty();
        (self.front.as_raw_fd(), interest(take, !self.front_out.is_empty()))
    }

    /// The private socket and what it is to be watched for.
    pub fn back(&self) -> (RawFd, Interest) {
        (self.back.as_raw_fd(), interest(self.front_out.is_empty(), !self.back_out.is_empty()))
    }

    /// The port's MTU has become this, in bytes.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.door.set_mtu(mtu);
    }

    /// Moves what can be moved.
    ///
    /// # Errors
    /// The session is over.
    pub fn serve(&mut self) -> Result<(), Over> {
        for _ in 0..TURN {
            let mut moved = false;
            if self.front_out.is_empty() {
                match self.back_in.receive(&self.back) {
                    Ok(Received::Message(reply)) => {
                        self.awaiting = false;
                        self.front_out.push(self.door.reply(reply));
                        moved = true;
                    }
                    Ok(Received::Nothing) => {}
                    Ok(Received::Closed) | Err(_) => return Err(Over::BackEndGone),
                }
            }
            if !self.awaiting && self.front_out.is_empty() && self.back_out.is_empty() {
                match self.front_in.receive(&self.front) {
                    Ok(Received::Message(request)) => {
                        debug!("port {}: {}", self.port, request.name());
                        for action in self.door.request(request) {
                            self.act(action)?;
                        }
                        moved = true;
                    }
                    Ok(Received::Nothing) => {}
                    Ok(Received::Closed) => return Err(Over::FrontEndGone),
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
            Action::SendRarp(mac) => match self.attachment.inject(&rarp::frame(mac)) {
                Ok(()) => info!("port {}: announced {mac} by RARP", self.port),
                Err(error) => warn!("port {}: cannot announce {mac}: {error}", self.port),
            },
            Action::GuestMtu(mtu) => info!("port {}: the guest's MTU is {mtu}", self.port),
            Action::Refused(reason) => self.refused(&reason),
            Action::End(reason) => return Err(Over::Misbehaved(reason)),
        }
        Ok(())
    }

    /// Logs a refusal, unless there have been many: a front-end must not fill the disk.
    fn refused(&mut self, reason: &str) {
        let (since, count) = &mut self.refusals;
        if since.elapsed() >= REFUSAL_WINDOW {
            if *count > REFUSALS_TOLD {
                warn!("port {}: {} more refusals not told", self.port, *count - REFUSALS_TOLD);
            }
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count <= REFUSALS_TOLD {
            warn!("port {}: front-end refused: {reason}", self.port);
        }
    }

    /// Ends the session: afterwards nothing of the front-end's is mapped, open or running.
    pub fn end(mut self, why: &Over) {
        // Before anything can free the guest's memory.
        self.device.end();
        let _ = self.back.shutdown(std::net::Shutdown::Both);
        let outcome = self.daemon.wait();
        let (port, pid) = (&self.port, self.pid);
        match (why, outcome) {
            (Over::FrontEndGone, _) => info!("port {port}: front-end (process {pid}) has gone"),
            (Over::Misbehaved(reason), _) => {
                warn!("port {port}: front-end (process {pid}) disconnected: {reason}");
            }
            (Over::BackEndGone, Err(error)) => {
                warn!("port {port}: front-end (process {pid}) disconnected: {error}");
            }
            (Over::BackEndGone, Ok(())) => info!("port {port}: connection ended"),
        }
        // The connection's thread may have started a ring between the first call and its end.
        self.device.end();
    }
}

fn interest(input: bool, output: bool) -> Interest {
    let mut events = Interest::empty();
    events.set(Interest::EPOLLIN, input);
    events.set(Interest::EPOLLOUT, output);
    events
}

/// A listener for the daemon with our connection in its queue, and our end of it.
fn private_connection() -> io::Result<(Listener, UnixStream)> {
    let new = |flags: SockFlag| {
        socket(AddressFamily::Unix, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)
    };
    for _ in 0..100 {
        let listener: OwnedFd = new(SockFlag::empty())?;
        bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
        // A backlog of 0 has room for one connection.
        listen(&listener, Backlog::new(0)?)?;
        let address: UnixAddr = getsockname(listener.as_raw_fd())?;
        let ours = new(SockFlag::SOCK_NONBLOCK)?;
        match connect(ours.as_raw_fd(), &address) {
            Ok(()) => {
                return Ok((Listener::from(UnixListener::from(listener)), UnixStream::from(ours)));
            }
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other("another process keeps connecting to our private sockets"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_private_connection_has_room_for_nobody_else() {
        let (listener, mut ours) = private_connection().unwrap();
        let address: UnixAddr = getsockname(listener.as_raw_fd()).unwrap();
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let other = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        let refused = connect(other.as_raw_fd(), &address);
        assert_eq!(refused, Err(nix::errno::Errno::EAGAIN));
        let mut accepted = listener.accept().unwrap().unwrap();
        ours.set_nonblocking(false).unwrap();
        ours.write_all(b"x").unwrap();
        let mut byte = [0];
        accepted.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
