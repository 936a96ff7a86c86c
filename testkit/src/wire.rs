//! The LAN's side: a raw socket on an interface in another network namespace.
//!
//! What a guest sends must come out *on the wire*, and what comes in from the wire must reach the
//! guest. So the tests keep an AF_PACKET socket at the far end of a veth whose near end is the
//! ports' parent. The socket is opened by a thread that enters the namespace for it; a socket stays
//! in the namespace it was made in, so the test itself never changes its own.
//!
//! What can go wrong: the kernel shows a packet socket its own transmissions too; they are ignored
//! (packet type OUTGOING). A veth passes checksums and GSO on unfinished; `PACKET_VNET_HDR` is not
//! used here, so tests that look at segments switch these offloads off on the veth.
//!
//! Reference: packet(7), setns(2).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::frames;

pub struct Wire {
    sock: OwnedFd,
}

impl Wire {
    /// A raw socket on `ifname` in this namespace (a name under /run/netns; None: our own).
    pub fn open(netns: Option<&str>, ifname: &str) -> Wire {
        let (netns, ifname) = (netns.map(str::to_owned), ifname.to_owned());
        let what = format!("raw socket on {ifname} in {netns:?}");
        std::thread::spawn(move || Wire::open_here(netns, &ifname))
            .join()
            .expect("the thread that opens the wire")
            .unwrap_or_else(|e| panic!("{what}: {e}"))
    }

    fn open_here(netns: Option<String>, ifname: &str) -> io::Result<Wire> {
        if let Some(name) = netns {
            let ns = File::open(format!("/run/netns/{name}"))?;
            nix::sched::setns(&ns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        }
        let all = (libc::ETH_P_ALL as u16).to_be();
        let name = CString::new(ifname)?;
        // SAFETY: plain system calls on valid arguments; the descriptor is owned at once, results
        // are checked.
        unsafe {
            let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            let fd = libc::socket(libc::AF_PACKET, flags, i32::from(all));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let sock = OwnedFd::from_raw_fd(fd);
            let index = libc::if_nametoindex(name.as_ptr());
            if index == 0 {
                return Err(io::Error::last_os_error());
            }
            let mut to: libc::sockaddr_ll = std::mem::zeroed();
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_protocol = all;
            to.sll_ifindex = index as i32;
            let len = size_of::<libc::sockaddr_ll>() as u32;
            if libc::bind(fd, (&raw const to).cast(), len) < 0 {
                return Err(io::Error::last_os_error());
            }
            // Frames for any address: the test is the whole LAN, not one station.
            let mut mreq: libc::packet_mreq = std::mem::zeroed();
            mreq.mr_ifindex = index as i32;
            mreq.mr_type = libc::PACKET_MR_PROMISC as u16;
            let len = size_of::<libc::packet_mreq>() as u32;
            let (level, name) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
            if libc::setsockopt(fd, level, name, (&raw const mreq).cast(), len) < 0 {
                return Err(io::Error::last_os_error());
            }
            // A test that is kept from the processor for a moment must not miss frames.
            let room: i32 = 64 << 20;
            let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
            if libc::setsockopt(fd, level, name, (&raw const room).cast(), 4) < 0 {
                return Err(io::Error::last_os_error());
            }
            // More than a tap's queue can hold, or a full queue would make the sender wait.
            let room: i32 = 8 << 20;
            let name = libc::SO_SNDBUFFORCE;
            if libc::setsockopt(fd, level, name, (&raw const room).cast(), 4) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Wire { sock })
        }
    }

    pub fn send(&self, frame: &[u8]) {
        let n = nix::unistd::write(&self.sock, frame).expect("send on the wire");
        assert_eq!(n, frame.len());
    }

    /// Sends unless that would wait. A frame counts against its sender's buffer for as long as it
    /// is in a tap's queue: a sender that waits hangs together with a guest that takes nothing.
    pub fn try_send(&self, frame: &[u8]) {
        use nix::sys::socket::{MsgFlags, send};
        let sent = send(self.sock.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
        assert!(matches!(sent, Ok(_) | Err(nix::errno::Errno::EAGAIN)), "on the wire: {sent:?}");
    }

    /// The next frame from the LAN, None when none came in time.
    pub fn recv(&self, timeout: Duration) -> Option<Vec<u8>> {
        let mut buf = vec![0u8; 70_000];
        let n = self.recv_into(&mut buf, timeout)?;
        buf.truncate(n);
        Some(buf)
    }

    /// The same into a buffer that is used again; returns the length.
    pub fn recv_into(&self, buf: &mut [u8], timeout: Duration) -> Option<usize> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fd =
                libc::pollfd { fd: self.sock.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: buffers and lengths belong together and live across the calls.
            unsafe {
                if libc::poll(&mut fd, 1, left.as_millis().min(60_000) as i32) != 1 {
                    return None;
                }
                let mut from: libc::sockaddr_ll = std::mem::zeroed();
                let mut len = size_of::<libc::sockaddr_ll>() as u32;
                let n = libc::recvfrom(
                    self.sock.as_raw_fd(),
                    buf.as_mut_ptr().cast(),
                    buf.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut from).cast(),
                    &mut len,
                );
                if n < 0 || u32::from(from.sll_pkttype) == libc::PACKET_OUTGOING as u32 {
                    continue;
                }
                return Some(n as usize);
            }
        }
    }

    /// The next frame that passes the test; others are dropped.
    pub fn recv_where(&self, timeout: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        loop {
            let f = self.recv(deadline.saturating_duration_since(Instant::now()))?;
            if wanted(&f) {
                return Some(f);
            }
        }
    }

    /// The tagged frame with this tag.
    pub fn recv_tag(&self, tag: u64, timeout: Duration) -> Option<Vec<u8>> {
        self.recv_where(timeout, |f| frames::tag_of(f) == Some(tag))
    }

    /// Throws away what is queued.
    pub fn clear(&self) {
        while self.recv(Duration::ZERO).is_some() {}
    }
}
