//! The simplest way out: `sendmmsg` of 64 frames on a packet socket, in a loop.
//!
//! Every program that sends by AF_PACKET needs that system call, so its rate is what the kernel
//! allows. The socket is like ours, with or without a virtio-net header of 10 bytes before each
//! frame. The same loop is the LAN's sender in the cases for received frames.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Frames in one system call.
const BATCH: usize = 64;
/// Bytes in flight before the kernel returns EAGAIN: a frame counts until its receiver has taken
/// it.
const ROOM: libc::c_int = 16 << 20;
/// Bytes of a `virtio_net_hdr` without `num_buffers`.
const HEADER: usize = 10;

/// Copies of the frame: as many as a guest has in its ring, so the caches hold no more of them
/// here.
pub const COPIES: usize = 256;

/// A packet socket that sends a frame in batches.
pub struct Sender {
    socket: OwnedFd,
    /// The copies, which the pieces point at, which the messages point at.
    _frames: Vec<u8>,
    _pieces: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    /// The next message.
    at: usize,
}

impl Sender {
    /// Opens it on a link of the calling thread's namespace. `message` has the 12-byte header in
    /// front.
    pub fn new(link: &str, message: &[u8], header: bool) -> io::Result<Sender> {
        let socket = open(link, 0)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &ROOM)?;
        let message = if header {
            set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32)?;
            [&message[..HEADER], &message[12..]].concat()
        } else {
            message[12..].to_vec()
        };
        let (frames, size) = copies(&message);
        let mut pieces: Vec<libc::iovec> = frames
            .chunks_exact(size)
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: message.len(),
            })
            .collect();
        let messages = pieces.iter_mut().map(|piece| {
            // SAFETY: an mmsghdr is numbers and pointers: all zero is a valid one.
            let mut one: libc::mmsghdr = unsafe { std::mem::zeroed() };
            one.msg_hdr.msg_iov = &raw mut *piece;
            one.msg_hdr.msg_iovlen = 1;
            one
        });
        let messages = messages.collect();
        Ok(Sender { socket, _frames: frames, _pieces: pieces, messages, at: 0 })
    }

    /// Sends a batch, and returns how many frames the kernel took.
    pub fn send(&mut self) -> usize {
        self.send_some(BATCH)
    }

    /// Sends `count` frames: at most a batch, and no more than are left before the first copy.
    pub fn send_some(&mut self, count: usize) -> usize {
        let messages = &mut self.messages[self.at..];
        let count = count.min(BATCH).min(messages.len()) as u32;
        let fd = self.socket.as_raw_fd();
        // SAFETY: so many messages are there; each points at one piece and that at its frame, which
        // live as long as we do and are not moved.
        let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        let sent = usize::try_from(sent).unwrap_or(0);
        self.at = (self.at + sent) % COPIES;
        sent
    }
}

/// Copies of a message in a row, like a guest's frames, and the distance between two.
pub fn copies(message: &[u8]) -> (Vec<u8>, usize) {
    let mut slot = message.to_vec();
    // Cache-line steps, but not a power of two, which would put all into the same sets of a cache.
    slot.resize(message.len().next_multiple_of(64) + 64, 0);
    (slot.repeat(COPIES), slot.len())
}

/// A packet socket bound to a link; with protocol 0 it receives nothing.
pub fn open(link: &str, protocol: u16) -> io::Result<OwnedFd> {
    let socket = unbound()?;
    bind(&socket, link, protocol)?;
    Ok(socket)
}

/// A packet socket that receives nothing yet.
pub fn unbound() -> io::Result<OwnedFd> {
    // SAFETY: a system call on numbers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: the descriptor is new, and this is its only owner.
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
