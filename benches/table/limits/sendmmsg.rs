//! The plainest way out: `sendmmsg` of 64 frames on a packet socket, over and over.
//!
//! Nobody who sends by AF_PACKET can do without that system call, so its rate is what the kernel allows. The socket
//! is as ours is, with a virtio-net header of 10 bytes before each frame, or without. The same loop is the LAN's
//! sender where frames come in.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Frames in one system call.
const BATCH: usize = 64;
/// What may be under way before the kernel says EAGAIN, in bytes: frames count until their receiver has taken them.
const ROOM: libc::c_int = 16 << 20;
/// Bytes of a `virtio_net_hdr` without `num_buffers`.
const HEADER: usize = 10;

/// A packet socket that sends one message 64 times with each call.
pub struct Sender {
    socket: OwnedFd,
    /// The message, which the piece points at.
    _message: Vec<u8>,
    _piece: Box<libc::iovec>,
    messages: Box<[libc::mmsghdr; BATCH]>,
}

impl Sender {
    /// Opens it on a link of the calling thread's namespace. `message` has the 12-byte header in front.
    pub fn new(link: &str, message: &[u8], header: bool) -> io::Result<Sender> {
        let socket = open(link, 0)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &ROOM)?;
        let message = if header {
            set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32)?;
            [&message[..HEADER], &message[12..]].concat()
        } else {
            message[12..].to_vec()
        };
        let mut piece = Box::new(libc::iovec {
            iov_base: message.as_ptr().cast_mut().cast(),
            iov_len: message.len(),
        });
        // SAFETY: an mmsghdr is numbers and pointers: all zero is a valid one.
        let mut one: libc::mmsghdr = unsafe { std::mem::zeroed() };
        one.msg_hdr.msg_iov = &raw mut *piece;
        one.msg_hdr.msg_iovlen = 1;
        Ok(Sender { socket, _message: message, _piece: piece, messages: Box::new([one; BATCH]) })
    }

    /// Sends a batch; how many frames the kernel took.
    pub fn send(&mut self) -> usize {
        self.send_some(BATCH)
    }

    /// Sends so many, at most a batch.
    pub fn send_some(&mut self, count: usize) -> usize {
        let count = count.min(BATCH) as u32;
        let fd = self.socket.as_raw_fd();
        // SAFETY: all messages point at one piece and that at the message; both live as long as we do.
        let sent =
            unsafe { libc::sendmmsg(fd, self.messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        usize::try_from(sent).unwrap_or(0)
    }
}

/// A packet socket bound to a link; protocol 0 hears nothing.
pub fn open(link: &str, protocol: u16) -> io::Result<OwnedFd> {
    let socket = unbound()?;
    bind(&socket, link, protocol)?;
    Ok(socket)
}

/// A packet socket that hears nothing yet.
pub fn unbound() -> io::Result<OwnedFd> {
    // SAFETY: a system call on numbers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds it to a link of the calling thread's namespace.
pub fn bind(socket: &OwnedFd, link: &str, protocol: u16) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(link)?;
    // SAFETY: a sockaddr_ll is plain numbers: all zero is a valid one.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index as i32;
    let size = size_of_val(&address) as u32;
    // SAFETY: the address is whole, of the announced size, and outlives the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    Errno::result(done)?;
    Ok(())
}

/// Sets an option whose value is plain numbers.
pub fn set<T: Copy>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let (fd, size) = (socket.as_raw_fd(), size_of::<T>() as u32);
    // SAFETY: the kernel reads `size` bytes at `value`, which is so long and outlives the call.
    let done =
        unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), size) };
    Errno::result(done)?;
    Ok(())
}
