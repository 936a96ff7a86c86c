//! One queue of a macvtap device: a file descriptor, its settings, its reads and writes.
//!
//! Every open of the character device adds a queue to the network device, already attached: the
//! kernel spreads received frames over the attached queues by flow hash. One `readv` takes one
//! frame, one `writev` gives one; both start with a virtio-net header of 12 bytes.
//!
//! The host room opens the node and sets the descriptor up (`host/tap_setup.rs`).
//!
//! Kernel facts that shape the code (drivers/net/tap.c):
//! - Bytes 10 and 11 of the header are zero on a read: `num_buffers` is the reader's to fill in.
//! - TUNSETOFFLOAD counts for the device, not the queue.
//! - A short buffer truncates without an error: offer room for 65,535 + 18 bytes and the header.
//! - After the device was deleted, reads return EAGAIN indefinitely and writes still succeed; only
//!   the ioctls return ENOLINK. Netlink reports it to the control thread (`host/watch.rs`).
//!
//! The ioctls are in `sys/tap_ioctl.rs`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::c_int;
use nix::errno::Errno;

use crate::sys::tap_ioctl;
use crate::uplink::tap_offload::TapOffload;
use crate::virtqueue::guest_slice::{GuestSlice, GuestSliceMut};

/// One queue of a macvtap device. Dropping it closes the queue.
#[derive(Debug)]
pub struct TapQueue {
    fd: OwnedFd,
}

impl TapQueue {
    /// A tap's descriptor, non-blocking and set up; in tests also anything else that keeps frames
    /// apart, such as a datagram socket.
    pub fn new(fd: OwnedFd) -> TapQueue {
        TapQueue { fd }
    }

    /// Sets the length of the header before every frame, in bytes: 12 for virtio 1, 10 for a legacy
    /// driver without mergeable buffers.
    pub fn set_header_len(&self, len: usize) -> io::Result<()> {
        tap_ioctl::set_header_len(&self.fd, len as c_int)?;
        Ok(())
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Sets the guest's offloads for the whole device. Returns those that the kernel took: a kernel
    /// before 6.2 does not know USO, and the call is then repeated without it.
    ///
    /// Errors: ENOLINK when the device was deleted.
    pub fn set_offload(&self, features: TapOffload) -> io::Result<TapOffload> {
        match tap_ioctl::set_offload(&self.fd, features.bits()) {
            Ok(()) => Ok(features),
            Err(Errno::EINVAL) => {
                let fewer = features.without(TapOffload::USO4 | TapOffload::USO6);
                tap_ioctl::set_offload(&self.fd, fewer.bits())?;
                Ok(fewer)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives this queue its share of received frames again. Being attached already is fine.
    pub fn attach(&self) -> io::Result<()> {
        self.set_queue(libc::IFF_ATTACH_QUEUE)
    }

    /// Takes this queue out of the spreading of received frames; its waiting frames stay readable,
    /// and writing still works. Being detached already is fine. One queue of a device has to stay
    /// attached: with none, frames go up the host's stack.
    pub fn detach(&self) -> io::Result<()> {
        self.set_queue(libc::IFF_DETACH_QUEUE)
    }

    fn set_queue(&self, flag: c_int) -> io::Result<()> {
        match tap_ioctl::set_queue(&self.fd, flag) {
            // EINVAL has no other meaning with one valid flag: the queue is in that state already.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads one frame, header first, into the pieces. Returns the bytes filled; EAGAIN when none
    /// waits. At most 1024 pieces (EINVAL). Other writers (a guest, in its own memory) do no harm:
    /// the kernel only writes.
    pub fn read_vectored(&self, pieces: &[GuestSliceMut<'_>]) -> io::Result<usize> {
        let pieces = GuestSliceMut::as_iovecs(pieces);
        // SAFETY: as many pieces as are announced, each writable for its whole length while it is
        // borrowed.
        let read = unsafe { libc::readv(self.raw(), pieces.as_ptr(), pieces.len() as c_int) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes one frame, header first, from the pieces. Returns the bytes taken; EAGAIN when the
    /// send buffer is full, EINVAL when the header does not fit the frame. At most 1024 pieces. A
    /// guest that changes one meanwhile changes its own frame only: the kernel copies before it
    /// parses.
    pub fn write_vectored(&self, pieces: &[GuestSlice<'_>]) -> io::Result<usize> {
        let pieces = GuestSlice::as_iovecs(pieces);
        // SAFETY: as many pieces as are announced, each readable for its whole length while it is
        // borrowed.
        let written = unsafe { libc::writev(self.raw(), pieces.as_ptr(), pieces.len() as c_int) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Reads one frame, header first, into ordinary memory; EAGAIN when none waits.
    pub fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.fd, frame)?)
    }

    /// Writes one frame, header first, from ordinary memory; EAGAIN when the send buffer is full.
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(&self.fd, frame)?)
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for TapQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.raw()
    }
}
