//! One queue of a macvtap device: a file descriptor, its settings, its reads and writes.
//!
//! Every open of the character device adds a queue to the network device, already attached: the
//! kernel spreads received frames over the attached queues by flow hash. One `readv` takes one
//! frame, one `writev` gives one; both start with a virtio-net header of 12 bytes.
//!
//! Kernel facts that shape the code (drivers/net/tap.c):
//! - TUNSETIFF ignores the name: the node already says which device it is. It demands exactly
//!   IFF_TAP|IFF_NO_PI and allows IFF_VNET_HDR and IFF_MULTI_QUEUE; anything else is EINVAL.
//! - The header is 10 bytes until TUNSETVNETHDRSZ says otherwise. Its bytes 10 and 11 are zero on a
//!   read: `num_buffers` is the reader's to fill in.
//! - All offloads are on right after open, and TUNSETOFFLOAD counts for the device, not the queue.
//! - A short buffer truncates without a word: offer room for 65,535 + 18 bytes and the header.
//! - After the device is gone, reads say EAGAIN for ever and writes still succeed; only the ioctls
//!   say ENOLINK. Nobody learns of it here: that is what `watch.rs` is for.
//!
//! All `unsafe` of reading, writing and ioctl lives in this file.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{c_int, c_short};
use nix::errno::Errno;

use crate::net::mac::Mac;
use crate::uplink::tap_offload::TapOffload;

/// Size of the virtio-net header before every frame, in bytes: virtio 1 with `num_buffers`.
pub(crate) const HEADER: c_int = 12;

/// What may wait in the device's transmit path before a write says EAGAIN, in bytes.
///
/// The kernel's default (208 KiB) holds barely two frames of 64 KiB with their bookkeeping;
/// unlimited (INT_MAX) would never say EAGAIN, so that a guest could fill the parent's queue until
/// frames are dropped silently. 1 MiB is some sixteen large frames: enough to keep a 40 Gbit/s
/// parent busy between two turns of a worker, and the guest feels the wire's back-pressure.
const SEND_BUFFER: c_int = 1 << 20;

const INT: usize = mem::size_of::<c_int>();
mod ioctl {
    use super::{INT, c_int};
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, INT), libc::ifreq);
    nix::ioctl_read_bad!(tun_get_iff, nix::request_code_read!(b'T', 210, INT), libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_offload, nix::request_code_write!(b'T', 208, INT));
    nix::ioctl_write_ptr_bad!(tun_set_sndbuf, nix::request_code_write!(b'T', 212, INT), c_int);
    nix::ioctl_write_ptr_bad!(tun_set_header, nix::request_code_write!(b'T', 216, INT), c_int);
    nix::ioctl_write_ptr_bad!(tun_set_queue, nix::request_code_write!(b'T', 217, INT), libc::ifreq);
    nix::ioctl_read_bad!(get_hardware_address, libc::SIOCGIFHWADDR, libc::ifreq);
    #[cfg(target_endian = "big")]
    nix::ioctl_write_ptr_bad!(tun_set_le, nix::request_code_write!(b'T', 220, INT), c_int);
}
use ioctl::*;

/// One queue of a macvtap device. Dropping it closes the queue.
#[derive(Debug)]
pub struct TapQueue {
    fd: OwnedFd,
}

impl TapQueue {
    /// Takes a freshly opened tap node (non-blocking) and sets it up: virtio-net header of 12 bytes
    /// in little-endian order, send buffer of 1 MiB. Offloads are not touched.
    ///
    /// Errors are the ioctls' own: EINVAL for a descriptor that is not a macvtap's, ENOLINK when
    /// the device has gone meanwhile.
    pub fn new(fd: OwnedFd) -> io::Result<TapQueue> {
        let queue = TapQueue { fd };
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        let request = flags_request(flags);
        // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call.
        unsafe { tun_set_iff(queue.raw(), &request) }?;
        // SAFETY: as above, with an int.
        unsafe { tun_set_header(queue.raw(), &HEADER) }?;
        // virtio 1 headers are little endian; the tap's are the host's unless told otherwise.
        #[cfg(target_endian = "big")]
        // SAFETY: as above, with an int.
        unsafe { tun_set_le(queue.raw(), &1) }?;
        // SAFETY: as above, with an int.
        unsafe { tun_set_sndbuf(queue.raw(), &SEND_BUFFER) }?;
        Ok(queue)
    }

    /// Anything that keeps frames apart, such as a datagram socket, in the place of a tap.
    #[cfg(test)]
    pub(crate) fn stand_in(fd: OwnedFd) -> TapQueue {
        TapQueue { fd }
    }

    /// Sets the length of the header before every frame, in bytes: 12 for virtio 1, 10 for a legacy
    /// driver without mergeable buffers.
    pub fn set_header_len(&self, len: usize) -> io::Result<()> {
        // SAFETY: the descriptor is open and the int outlives the call.
        unsafe { tun_set_header(self.raw(), &(len as c_int)) }?;
        Ok(())
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The name of the device behind this queue; ENOLINK when it has gone.
    pub fn device_name(&self) -> io::Result<String> {
        let mut request = empty_request();
        // SAFETY: the kernel writes one ifreq, which `request` is.
        unsafe { tun_get_iff(self.raw(), &mut request) }?;
        // SAFETY: c_char and u8 have the same layout, and the array is IFNAMSIZ bytes long.
        let name: &[u8; libc::IFNAMSIZ] = unsafe { &*request.ifr_name.as_ptr().cast() };
        let name = CStr::from_bytes_until_nul(name).map_err(io::Error::other)?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// The hardware address of the device behind this queue; ENOLINK when it has gone.
    pub fn device_mac(&self) -> io::Result<Mac> {
        let mut request = empty_request();
        // SAFETY: the kernel writes one ifreq, which `request` is.
        unsafe { get_hardware_address(self.raw(), &mut request) }?;
        // SAFETY: SIOCGIFHWADDR fills the hardware address member; any bytes are a valid one.
        let data = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
        let mut mac = [0u8; 6];
        for (to, from) in mac.iter_mut().zip(data) {
            *to = from as u8;
        }
        Ok(Mac(mac))
    }

    /// Says what the guest can take, for the whole device. Returns what the kernel took: a kernel
    /// before 6.2 does not know USO, and the call is then repeated without it.
    ///
    /// Errors: ENOLINK when the device has gone.
    pub fn set_offload(&self, features: TapOffload) -> io::Result<TapOffload> {
        // SAFETY: TUNSETOFFLOAD takes a number, no memory is involved.
        match unsafe { tun_set_offload(self.raw(), features.bits() as c_int) } {
            Ok(_) => Ok(features),
            Err(Errno::EINVAL) => {
                let fewer = features.without(TapOffload::USO4 | TapOffload::USO6);
                // SAFETY: as above.
                unsafe { tun_set_offload(self.raw(), fewer.bits() as c_int) }?;
                Ok(fewer)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives this queue its share of received frames again. Being attached already is fine.
    pub fn attach(&self) -> io::Result<()> {
        self.set_queue(libc::IFF_ATTACH_QUEUE)
    }

    /// Takes this queue out of the spreading of received frames; what waits in it stays readable,
    /// and writing still works. Being detached already is fine. One queue of a device has to stay
    /// attached: with none, frames go up the host's stack.
    pub fn detach(&self) -> io::Result<()> {
        self.set_queue(libc::IFF_DETACH_QUEUE)
    }

    fn set_queue(&self, flag: c_int) -> io::Result<()> {
        let request = flags_request(flag);
        // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call.
        match unsafe { tun_set_queue(self.raw(), &request) } {
            // EINVAL has no other meaning with one valid flag: the queue is in that state already.
            Ok(_) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads one frame, header first, into the pieces. Returns the bytes filled; EAGAIN when none
    /// waits. At most 1024 pieces (EINVAL).
    ///
    /// # Safety
    /// Every piece must be writable for its whole length until the call returns. Other writers (a
    /// guest, in its own memory) do no harm: the kernel only writes.
    pub unsafe fn read_vectored(&self, pieces: &[libc::iovec]) -> io::Result<usize> {
        // SAFETY: the caller vouches for the pieces; the slice holds as many as are announced.
        let read = unsafe { libc::readv(self.raw(), pieces.as_ptr(), pieces.len() as c_int) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes one frame, header first, from the pieces. Returns the bytes taken; EAGAIN when the
    /// send buffer is full, EINVAL when the header does not fit the frame. At most 1024 pieces.
    ///
    /// # Safety
    /// Every piece must be readable for its whole length until the call returns. A guest that
    /// changes it meanwhile changes its own frame only: the kernel copies before it looks.
    pub unsafe fn write_vectored(&self, pieces: &[libc::iovec]) -> io::Result<usize> {
        // SAFETY: the caller vouches for the pieces; the slice holds as many as are announced.
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

fn empty_request() -> libc::ifreq {
    // SAFETY: an ifreq is plain numbers in every variant of its union: all zero is a valid one.
    unsafe { mem::zeroed() }
}

fn flags_request(flags: c_int) -> libc::ifreq {
    let mut request = empty_request();
    request.ifr_ifru.ifru_flags = flags as c_short;
    request
}
