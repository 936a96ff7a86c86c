//! A parent's uplink queues: one for each worker that has ports of the parent.
//!
//! The queues live as long as the parent's manager. Their sockets come and go with the parent:
//! without a parent a queue is empty, and the table says that there is no wire.

use std::io;
use std::sync::Arc;

use log::{debug, warn};

use crate::datapath::attachment::Attachment;
use crate::datapath::forwarding_view::SwitchHandle;
use crate::datapath::scratch::Scratch;
use crate::datapath::uplink_queue::UplinkQueue;
use crate::error::Error;
use crate::host::verbs::Host;
use crate::process::threads;
use crate::switch::{Groups, PortId};
use crate::uplink::packet::filter::SocketFilter;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::packet::queue::{PacketQueue, PacketSockets};
use crate::uplink::received::Losses;
use crate::uplink::wire::WantedFilters;
use crate::worker::pool::Pool;
use crate::worker::slot::WorkerSlot;

/// The uplink queues of one parent.
pub struct UplinkQueues {
    queues: Vec<Arc<UplinkQueue>>,
    slots: Vec<WorkerSlot<Scratch>>,
    /// The worker of the first queue.
    home: usize,
    /// For frames that the queues' sockets refuse for their length; made when the first guest is
    /// there.
    long: Option<Arc<LongFrames>>,
    /// The MTU that it was made for, or was to be made for.
    long_mtu: Option<u32>,
}

impl UplinkQueues {
    /// Queues for ports with up to `pairs` queue pairs on the parent `name`, at most one for each
    /// worker. They have no sockets yet.
    pub fn new(
        name: &str,
        pairs: usize,
        switch: &Arc<SwitchHandle>,
        pool: &mut Pool<Scratch>,
    ) -> UplinkQueues {
        let home = pool.next_worker();
        let (mut queues, mut slots) = (Vec::new(), Vec::new());
        for index in 0..pairs.clamp(1, pool.workers()) {
            let slot = pool.slot_at(home + index);
            let queue = Arc::new(UplinkQueue::new(name, Arc::clone(switch), slot.clone()));
            slot.take(queue.clone());
            queues.push(queue);
            slots.push(slot);
        }
        UplinkQueues { queues, slots, home, long: None, long_mtu: None }
    }

    /// A worker slot for queue pair `index` of any port: at the worker of its uplink queue.
    pub fn slot(&self, index: usize, pool: &Pool<Scratch>) -> WorkerSlot<Scratch> {
        pool.slot_at(self.home + index % self.queues.len())
    }

    /// The attachments of a port's queue pairs to the switch, each with the uplink queue of its
    /// worker.
    pub fn attachments(
        &self,
        pairs: usize,
        switch: &Arc<SwitchHandle>,
        port: PortId,
        groups: Option<Arc<Groups>>,
    ) -> Vec<Attachment> {
        let queues = (0..pairs).filter_map(|pair| self.queues.get(pair % self.queues.len()));
        let attach = |queue| Attachment {
            switch: Arc::clone(switch),
            port,
            uplink_queue: Arc::clone(queue),
            groups: groups.clone(),
        };
        queues.map(attach).collect()
    }

    /// Opens packet sockets on the device with this index for every queue. `host_unicast`: frames
    /// to the host's own address are received, too.
    ///
    /// # Errors
    /// One cannot be opened; the queues keep their former sockets.
    pub fn open_sockets(
        &self,
        index: u32,
        host_unicast: bool,
        host: &mut dyn Host,
    ) -> io::Result<()> {
        let open = |_| {
            Ok(PacketSockets { receive: host.receiving_socket()?, send: host.sending_socket()? })
        };
        let sockets: io::Result<_> = self.queues.iter().map(open).collect();
        let admit = if host_unicast { SocketFilter::Everything } else { SocketFilter::Guests };
        let opened = PacketQueue::open_all(index, admit, sockets?)?;
        for (queue, sockets) in self.queues.iter().zip(opened) {
            queue.replace(Some(Box::new(sockets)));
        }
        Ok(())
    }

    /// Closes the sockets; side by side, since the kernel waits some 17 ms for each.
    pub fn close_sockets(&mut self) {
        // Its device has vanished with the parent; the last queue closes it.
        (self.long, self.long_mtu) = (None, None);
        let sockets: Vec<_> = self.queues.iter().filter_map(|queue| queue.replace(None)).collect();
        threads::drop_together(sockets);
    }

    /// Takes the queues out of their worker slots.
    pub fn leave(&self) {
        self.slots.iter().for_each(WorkerSlot::leave);
    }

    /// Makes the ring for long frames; another one after a change of the parent's MTU. Without it
    /// such frames are refused and counted, and the rest goes on. It takes some 15 ms, so it is no
    /// part of a refresh: tables rest many times as long as they took (`control/share.rs`), and the
    /// next guest would wait for its place in one.
    pub fn make_long_frames(&mut self, name: &str, index: u32, mtu: u32, host: &mut dyn Host) {
        if self.long_mtu == Some(mtu) {
            return;
        }
        self.long_mtu = Some(mtu);
        let opened = host.sending_socket();
        self.long = match opened.and_then(|socket| LongFrames::open(index, mtu, socket)) {
            Ok(long) => Some(Arc::new(long)),
            Err(error) => {
                debug!("parent {name}: frames longer than its MTU are refused: {error}");
                None
            }
        };
        for queue in &self.queues {
            drop(queue.set_long_frames(self.long.clone()));
        }
    }

    /// Sets the filter of the sockets and that of the NIC; the latter hangs on the first queue.
    ///
    /// # Errors
    /// The kernel refuses a filter.
    pub fn set_filters(&self, host_unicast: bool, wanted: &WantedFilters<'_>) -> io::Result<()> {
        for queue in &self.queues {
            queue.with(|uplink| uplink.set_host_unicast(host_unicast)).unwrap_or(Ok(()))?;
        }
        let first = self.queues.first();
        let set = first.and_then(|queue| queue.with(|uplink| uplink.set_filters(wanted)));
        set.unwrap_or(Ok(()))
    }

    /// The losses on the way from the wire to the switch.
    pub fn losses(&self, name: &str) -> Losses {
        let mut sum = Losses::default();
        for losses in self.queues.iter().filter_map(|queue| queue.with(|uplink| uplink.losses())) {
            match losses {
                Ok(losses) => sum += losses,
                Err(error) => warn!("parent {name}: cannot read its losses: {error}"),
            }
        }
        sum
    }
}

/// The error of a packet socket on `parent` that cannot be opened.
pub(crate) fn socket_failed(parent: &str, error: &io::Error) -> Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            return Error::permission(
                format!("parent {parent}"),
                format!("its packet socket: {error}"),
                "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
            );
        }
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EMFILE) => "see the limits of the process",
        _ => "the kernel needs CONFIG_PACKET",
    };
    Error::system(format!("parent {parent}"), format!("its packet socket: {error}"), remedy)
}
