//! The wire as a switch needs it: the trait [`Uplink`].
//!
//! An uplink is a worker's own way to and from a parent. It receives a batch and it sends a batch;
//! a call through the trait object is made for each batch, never for each frame. Frames are passed
//! as they are: a received one lies in the uplink's memory ([`ReceivedBatch`]), one to be sent in
//! the guest's ([`SendFrame`]).
//!
//! Packet sockets are the first ([`PacketQueue`](crate::uplink::packet::queue::PacketQueue)).
//! Another kind of uplink may wrap one, to record or to spoil its frames, or may be rings shared
//! with a driver.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use crate::net::mac::Mac;
use crate::uplink::packet::long_frames::LongFrames;
use crate::uplink::received::{Losses, ReceivedBatch};
use crate::uplink::send_frame::{SEND_HEADER, SendFrame};
use crate::virtqueue::guest_slice::GuestSlice;

/// The frames that a switch wants of a parent.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedFilters<'a> {
    /// Every frame that the parent receives.
    pub promiscuous: bool,
    /// Every multicast frame.
    pub all_multicast: bool,
    /// Frames to these addresses, each once.
    pub unicast: &'a [Mac],
}

/// A way to and from a parent.
pub trait Uplink: Send {
    /// Takes frames that wait, at most `budget`, and never waits for any. They stay where they are
    /// until the next call. Allocates nothing.
    fn receive(&mut self, budget: usize) -> ReceivedBatch<'_>;

    /// Sends frames, at most 1024, of at most 1024 pieces each. Never waits. Returns how many were
    /// taken; less than all means that the next one has a reason, which the next call returns.
    ///
    /// Frames that need a checksum or segmentation get it from the device, or from the kernel
    /// before it. A guest that changes a piece meanwhile changes its own frame only.
    ///
    /// # Errors
    /// They are about the first frame:
    /// - EAGAIN: there is no room. Nothing is lost; try when [`Uplink::outlet`] is writable.
    /// - ENOBUFS: the parent's queueing discipline dropped it. It is lost.
    /// - EMSGSIZE: longer than the MTU allows, and no segmentation is asked for.
    /// - EINVAL: shorter than an Ethernet header, or the virtio-net header does not fit the frame.
    /// - ENETDOWN: the parent is down.
    /// - ENXIO: the parent has been deleted or has left the network namespace.
    fn send(&mut self, frames: &mut [SendFrame<'_>]) -> io::Result<usize>;

    /// Sends one complete frame from ordinary memory.
    ///
    /// # Errors
    /// Those of [`Uplink::send`].
    fn send_one(&mut self, frame: &[u8]) -> io::Result<()> {
        let pieces = [&[0; SEND_HEADER], frame].map(GuestSlice::from);
        match self.send(&mut [SendFrame::new(&pieces)]) {
            Ok(0) => Err(Errno::EAGAIN.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The descriptor that is readable while a frame waits, and in error until
    /// [`Uplink::take_error`] was called.
    fn inlet(&self) -> BorrowedFd<'_>;

    /// The descriptor that is writable when there is room to send. Watch it only while a queue pair
    /// waits for that: a watched socket costs a call for every frame that has left.
    fn outlet(&self) -> BorrowedFd<'_>;

    /// All descriptors that [`Uplink::outlet`] may have been.
    fn outlets(&self) -> [Option<BorrowedFd<'_>>; 2];

    /// The error that the kernel keeps for the uplink, if any; the call clears it. ENETDOWN once
    /// the parent has gone down or was deleted.
    fn take_error(&mut self) -> Option<Errno>;

    /// Lets the NIC pass the wanted frames, and no others on this uplink's account. An unchanged
    /// filter costs no system call. An uplink that is dropped takes its filters back.
    ///
    /// # Errors
    /// ENODEV when the parent was deleted, EINVAL for a group address on some drivers.
    fn set_filters(&mut self, wanted: &WantedFilters<'_>) -> io::Result<()>;

    /// Whether unicast to the host's own address is received, too: for passthru and source mode.
    ///
    /// # Errors
    /// The kernel refuses the filter.
    fn set_host_unicast(&mut self, wanted: bool) -> io::Result<()>;

    /// Sets the sender of frames that are longer than the MTU by their VLAN tags, or none. Returns
    /// the former one, because closing it takes time. An uplink that sends such frames anyway needs
    /// none.
    fn set_long_frames(&mut self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        long
    }

    /// The losses since the uplink was opened.
    ///
    /// # Errors
    /// The kernel does not answer.
    fn losses(&mut self) -> io::Result<Losses>;
}
