//! The lanes' sockets, opened on the side.
//!
//! To give a socket its receive ring the kernel waits until no processor can still be looking at the old
//! state (`synchronize_net` in af_packet.c's `packet_set_ring`): some 15 ms on a host with nothing to do,
//! whatever the size of the ring, and ten times what everything else about a port takes. So a thread waits
//! for it while the ports are made and their front-ends' sockets appear.
//!
//! A front-end that is very quick finds its connection in the listener's queue meanwhile: nothing is
//! accepted before the parent's sockets are there.
//!
//! What can go wrong: there is no right to open such sockets, or no memory. The front-ends' sockets are
//! then taken away again, some milliseconds after they appeared.

use std::io;
use std::thread::{Builder, JoinHandle};

use super::socket_failed;
use crate::error::{Error, Result};
use crate::uplink::LinkInfo;
use crate::uplink::packet::{Admit, PacketQueue};

/// Sockets that are being opened.
pub(super) struct Opening {
    parent: String,
    thread: JoinHandle<io::Result<Vec<PacketQueue>>>,
}

impl Opening {
    /// Begins to open `count` sockets on the parent, in the calling thread's network namespace.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn begin(parent: &LinkInfo, admit: Admit, count: usize) -> Result<Opening> {
        let index = parent.index;
        // A thread inherits its maker's network namespace.
        let thread = Builder::new()
            .name("opening".into())
            .spawn(move || PacketQueue::open_all(index, admit, count))
            .map_err(|error| Error::failed("threads", error, "see the limits of the process"))?;
        Ok(Opening { parent: parent.name.clone(), thread })
    }

    /// Waits for them.
    ///
    /// # Errors
    /// The kernel has refused; the message says what it wants.
    pub(super) fn end(self) -> Result<Vec<PacketQueue>> {
        let opened = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
        opened.map_err(|error| socket_failed(&self.parent, &error))
    }
}
