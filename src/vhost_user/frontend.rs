//! The thread of a port that serves its front-end.
//!
//! A front-end sends bytes and descriptors of its choice. Code that touches a descriptor may, in
//! the worst case, wait for the front-end: so only a thread that no other port needs runs it. Each
//! port has one (`fe-NAME`). It starts with the first front-end and then stays, since a front-end
//! may connect and disconnect in a loop. It receives, judges and closes descriptors, relays to the
//! crate's thread (`vu-NAME`, one for each connection), and ends the connection.
//!
//! ```text
//!  control thread                        fe-NAME
//!  accept / dial ──── socket ──────────► Session::start
//!                                        Session::serve   until it is over
//!                                        Session::end     rings, memory, descriptors
//!  Port::detach_frontend ◄── ended, notifier ───── (waits for the next)
//! ```
//!
//! The control thread never waits for this one. A front-end that comes back before the end of its
//! last connection is reported waits for that report, but not for long: after that the thread
//! counts as hung in the kernel, and the port is lost until it goes on. At the end of the process a
//! thread that hangs is left behind.
//!
//! A thread that cannot be started refuses one front-end (`threads.rs`).

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use log::Level;
use nix::sys::eventfd::EventFd;

use crate::process::threads;
use crate::process::unix_socket::{hung_up, peer_pid};
use crate::vhost_user::received_fd::{interrupted, kept};
use crate::vhost_user::served_port::ServedPort;
use crate::vhost_user::session::{Over, Session};

/// Most descriptors that a port keeps because they cannot be closed. A front-end that works sends
/// none.
const KEPT_MOST: usize = 64;
/// Stack of the thread, in bytes. Untouched pages take no memory.
const STACK: usize = 256 << 10;

/// The end of a connection.
#[derive(Debug)]
pub struct Ended {
    /// The text to be logged about it.
    pub reported: (Level, String),
    /// The reason why the port takes no front-end any more, if so.
    pub condemned: Option<String>,
}

/// The state shared by the control thread and the front-end thread. Locked for a moment only.
#[derive(Default)]
struct Desk {
    next: Option<Arc<UnixStream>>,
    ended: Option<Ended>,
}

#[derive(Default)]
struct FrontendShared {
    desk: Mutex<Desk>,
    changed: Condvar,
    stop: AtomicBool,
}

impl FrontendShared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection as the control thread knows it.
struct Connection {
    socket: Arc<UnixStream>,
    pid: i32,
}

/// The control thread's end of a port's front-end thread.
pub struct FrontendThread {
    port: Arc<ServedPort>,
    /// Written when a connection has ended.
    notifier: Arc<EventFd>,
    shared: Arc<FrontendShared>,
    started: bool,
    connection: Option<Connection>,
}

impl FrontendThread {
    /// The thread of this port, which is not started yet.
    pub fn new(port: ServedPort, notifier: Arc<EventFd>) -> FrontendThread {
        let shared = Arc::default();
        FrontendThread { port: Arc::new(port), notifier, shared, started: false, connection: None }
    }

    /// The process id of the connected front-end.
    pub fn pid(&self) -> Option<i32> {
        self.connection.as_ref().map(|connection| connection.pid)
    }

    /// Whether the thread has not yet ended the connection.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some() && self.shared.desk().ended.is_none()
    }

    /// Whether the connection is over, or about to be.
    pub fn hangs_up(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| hung_up(&connection.socket))
    }

    /// Lets the thread serve a front-end; there must be none. Starts the thread for the first one.
    ///
    /// # Errors
    /// The thread cannot be started. The socket is closed.
    pub fn attach(&mut self, socket: UnixStream) -> io::Result<()> {
        if !self.started {
            let (shared, notifier) = (Arc::clone(&self.shared), Arc::clone(&self.notifier));
            let port = Arc::clone(&self.port);
            let name = threads::name("fe", &port.config.name);
            let started = threads::start(name, STACK, move || run(&shared, &port, &notifier));
            if let Err(error) = started {
                interrupted(|| drop(socket));
                return Err(error);
            }
            self.started = true;
        }
        let pid = peer_pid(&socket);
        let socket = Arc::new(socket);
        self.shared.desk().next = Some(Arc::clone(&socket));
        self.shared.changed.notify_one();
        self.connection = Some(Connection { socket, pid });
        Ok(())
    }

    /// Whether the thread has ended the connection since it was last asked.
    pub fn ended(&mut self) -> Option<Ended> {
        let ended = self.shared.desk().ended.take()?;
        // The thread may have been quicker, and unread data in the socket is lost with the last
        // reference.
        interrupted(|| self.connection = None);
        Some(ended)
    }

    /// Asks the thread to end the connection, and itself. Does not wait for it.
    pub fn stop(&self) {
        // Under the lock, so that the thread cannot miss it between its check and its sleep.
        let desk = self.shared.desk();
        self.shared.stop.store(true, Ordering::Release);
        drop(desk);
        self.shared.changed.notify_one();
        if let Some(connection) = &self.connection {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
    }
}

/// The thread.
fn run(shared: &FrontendShared, port: &ServedPort, notifier: &EventFd) {
    while let Some(socket) = next(shared) {
        let reported = serve(shared, port, &socket);
        // The front-end gets the end of the connection now; the control thread may hold the socket
        // a little longer.
        let _ = socket.shutdown(Shutdown::Both);
        interrupted(|| drop(socket));
        let kept = kept();
        let condemned = (kept.count > KEPT_MOST).then(|| {
            format!(
                "its front-ends have left {} descriptors that cannot be closed without waiting for another \
                 party, such as {}; restart this process to use the port again",
                kept.count, kept.last
            )
        });
        shared.desk().ended = Some(Ended { reported, condemned });
        // A full counter means that the control thread is awake anyway.
        let _ = notifier.write(1);
    }
}

/// Waits for the next front-end; none when the thread is to end.
fn next(shared: &FrontendShared) -> Option<Arc<UnixStream>> {
    let mut desk = shared.desk();
    loop {
        if shared.stop.load(Ordering::Acquire) {
            return None;
        }
        if let Some(socket) = desk.next.take() {
            return Some(socket);
        }
        desk = shared.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Serves one front-end to its end. Returns the text to be logged about that.
fn serve(shared: &FrontendShared, port: &ServedPort, socket: &Arc<UnixStream>) -> (Level, String) {
    let log = &port.data.log;
    let mut session = match Session::start(Arc::clone(socket), port) {
        Ok(session) => session,
        Err(error) => {
            return (Level::Warn, format!("cannot serve a front-end: {error}"));
        }
    };
    log.info(format_args!("front-end (process {}) connected", peer_pid(socket)));
    let mut reported = kept().count;
    let over = loop {
        let served = session.serve();
        let kept = kept();
        if kept.count > reported {
            reported = kept.count;
            log.warn(format_args!(
                "{} cannot be closed without waiting for another party and is kept ({reported} of at most {KEPT_MOST})",
                kept.last
            ));
        }
        if shared.stop.load(Ordering::Acquire) {
            break Over::Stopped;
        }
        if let Err(over) = served {
            break over;
        }
        if kept.count > KEPT_MOST {
            break Over::Misbehaved("too many descriptors that cannot be closed".into());
        }
        session.wait();
    };
    session.end(&over)
}
