//! The two sockets of a packet queue: options, set in the one order that works, sending and
//! receiving.
//!
//! The order for the one that receives, and why: 1. a socket without a protocol: it receives
//! nothing yet; 2. the virtio-net header, the words beside a frame, no outgoing frames, the buffer,
//! the filter: all
//!    before the first frame can come;
//! 3. bind, which names device and protocol and starts the flow of frames;
//! 4. fanout, which wants a bound socket.
//!
//! The one that sends is bound without a protocol and never receives. It is a socket of its own
//! because the kernel calls a watcher of a socket for every frame that has left, even if the
//! watcher waits only for received ones (`sock_wfree`, `ep_poll_callback`): measured, eight percent
//! of sending. Errors of receiving are not reported to the sender then, either.
//!
//! The header before a frame has 10 bytes both ways: `virtio_net_hdr` without `num_buffers`, which
//! is the receiving guest's matter. Linux 6.6 would also do 12 (PACKET_VNET_HDR_SZ). So 10 it is,
//! on every kernel.
//!
//! No PACKET_QDISC_BYPASS: it skips the segmentation in software, and a large frame for a device
//! that cannot cut it is then dropped (ENOBUFS).
//!
//! A third socket, one for a parent, has a ring: `long_frames.rs`.
//!
//! The options' types are in `option.rs`.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use libc::{c_int, c_uint, socklen_t};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, send, setsockopt, sockopt};

use crate::sys::mapped::Mapped;
use crate::uplink::packet::option;
use crate::uplink::send_frame::SendFrame;

/// An AF_PACKET socket, which receives no frame until it is bound.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// A socket that sends, on the device with that index. `fd` is not bound yet.
    pub(crate) fn sending(fd: OwnedFd, ifindex: u32) -> io::Result<Socket> {
        let socket = Self::new(fd)?;
        socket.bind(ifindex, 0)?;
        Ok(socket)
    }

    /// Gives a socket that sends a buffer of so many bytes, about.
    pub(crate) fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        // The kernel doubles it.
        let half = (bytes / 2).min(c_int::MAX as usize);
        // Without CAP_NET_ADMIN the kernel caps it (net.core.wmem_max), which is no error.
        setsockopt(&self.fd, sockopt::SndBufForce, &half)
            .or_else(|_| setsockopt(&self.fd, sockopt::SndBuf, &half))?;
        Ok(())
    }

    /// Gives a socket that sends a transmit ring: so much memory, in slots of so many bytes
    /// (`long_frames.rs`).
    pub(crate) fn make_ring(
        &self,
        memory: usize,
        stride: usize,
        slots: usize,
    ) -> io::Result<Mapped> {
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        setsockopt(&self.fd, option::RingVersion, &version)?;
        let word = |value: usize| c_uint::try_from(value).map_err(|_| Errno::EINVAL);
        let request = libc::tpacket_req {
            tp_block_size: word(memory)?,
            tp_block_nr: 1,
            tp_frame_size: word(stride)?,
            tp_frame_nr: word(slots)?,
        };
        setsockopt(&self.fd, option::SendRing, &request)?;
        Mapped::shared(&self.fd, 0, memory)
    }

    /// Asks the kernel to send the ring's requests, and never waits. The ring shows how many it
    /// took.
    pub(crate) fn send_ring(&self) -> io::Result<()> {
        // A message without bytes.
        send(self.fd.as_raw_fd(), &[], MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// A socket that is to receive: steps 1 and 2, but for the filter. `fd` is not bound yet.
    pub(crate) fn receiving(fd: OwnedFd) -> io::Result<Socket> {
        let socket = Self::new(fd)?;
        setsockopt(&socket.fd, option::PassAuxData, &true)?;
        match setsockopt(&socket.fd, option::IgnoreOutgoing, &true) {
            // Before Linux 4.20. The filter keeps them out too.
            Err(Errno::ENOPROTOOPT) => {}
            other => other?,
        }
        Ok(socket)
    }

    fn new(fd: OwnedFd) -> io::Result<Socket> {
        setsockopt(&fd, option::VnetHeader, &true)?;
        Ok(Socket { fd })
    }

    /// Step 3: all protocols of that device.
    pub(crate) fn listen(&self, ifindex: u32) -> io::Result<()> {
        self.bind(ifindex, libc::ETH_P_ALL as u16)
    }

    fn bind(&self, ifindex: u32, protocol: u16) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::sa_family_t,
            sll_protocol: protocol.to_be(),
            // Index 0 would mean every device. No device has index 0 or a negative one.
            sll_ifindex: c_int::try_from(ifindex).ok().filter(|&i| i > 0).unwrap_or(-1),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = mem::size_of_val(&address) as socklen_t;
        // SAFETY: the address is whole, of the announced size, and outlives the call.
        let done = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), size) };
        Errno::result(done)?;
        Ok(())
    }

    /// Step 4: shares the flows of the parent with the other members of a group, by flow hash. If
    /// no group is given, it makes a new one, whose number no other group has. A conversation's two
    /// directions have the same hash. Returns the group.
    pub(crate) fn join(&self, group: Option<u16>) -> io::Result<u16> {
        let mut how = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        if group.is_none() {
            how |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
        }
        let wanted = u32::from(group.unwrap_or(0)) | how << 16;
        setsockopt(&self.fd, option::FanoutGroup, &wanted)?;
        // The lower half.
        Ok(getsockopt(&self.fd, option::FanoutGroup)? as u16)
    }

    /// Sets the filter, or replaces it at once.
    pub(crate) fn filter(&self, program: &'static [libc::sock_filter]) -> io::Result<()> {
        setsockopt(&self.fd, option::AttachFilter, &option::StaticFilter::new(program))?;
        Ok(())
    }

    /// Adds or drops a membership.
    pub(crate) fn member(&self, request: &libc::packet_mreq, add: bool) -> io::Result<()> {
        if add {
            setsockopt(&self.fd, option::AddMembership, request)?;
        } else {
            setsockopt(&self.fd, option::DropMembership, request)?;
        }
        Ok(())
    }

    /// See [`crate::uplink::wire::Uplink::take_error`].
    pub(crate) fn take_error(&self) -> Option<Errno> {
        match getsockopt(&self.fd, sockopt::SocketError) {
            Ok(0) | Err(_) => None,
            Ok(number) => Some(Errno::from_raw(number)),
        }
    }

    /// Frames that found no room since the last call: the kernel clears the count.
    pub(crate) fn kernel_drops(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.fd, option::Statistics)?.tp_drops)
    }

    /// Takes frames that wait, one for each message, and never waits for any.
    ///
    /// # Safety
    /// Every message must point to `msg_iovlen` pieces, and pieces and control buffer must be
    /// writable for their whole length, until the call returns; the name pointer must be null.
    pub(crate) unsafe fn receive(&self, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
        let count = messages.len().min(libc::UIO_MAXIOV as usize) as c_uint;
        let (fd, how) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT as _);
        // SAFETY: the slice holds as many messages as are announced; the caller vouches for what
        // they point to. Without a timeout there is nothing else to point to.
        let taken =
            unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), count, how, ptr::null_mut()) };
        Ok(Errno::result(taken)? as usize)
    }

    /// See [`crate::uplink::wire::Uplink::send`].
    pub(crate) fn send(&self, messages: &mut [SendFrame<'_>]) -> io::Result<usize> {
        let count = messages.len().min(libc::UIO_MAXIOV as usize) as c_uint;
        let (fd, start) = (self.fd.as_raw_fd(), messages.as_mut_ptr().cast());
        // SAFETY: a SendFrame is an mmsghdr (`repr(transparent)`), and there are as many as are
        // announced. Each points to its pieces, which are readable while it borrows them, and to
        // nothing else.
        let sent = unsafe { libc::sendmmsg(fd, start, count, libc::MSG_DONTWAIT as _) };
        Ok(Errno::result(sent)? as usize)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A message of these pieces, without an address. It holds a pointer to them.
pub(crate) fn message(pieces: *mut libc::iovec, count: usize) -> libc::mmsghdr {
    // SAFETY: an mmsghdr is numbers and pointers: all zero is a valid one.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = pieces;
    message.msg_hdr.msg_iovlen = count as _;
    message
}
