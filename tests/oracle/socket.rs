//! A packet socket that reports everything: device, packet type, and the frame as it was on the
//! wire.
//!
//! The kernel takes the outermost VLAN tag out of a frame before a packet socket sees it, and
//! reports it beside the data (`PACKET_AUXDATA`, packet(7)). This socket puts it back, so that
//! bytes can be compared.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns};

use testkit::netns::Netns;

/// A frame, and the kernel's facts about it.
pub struct Seen {
    /// The interface that it came in on.
    pub ifindex: u32,
    /// `PACKET_HOST` and so on.
    pub kind: u8,
    /// The frame with its VLAN tag.
    pub bytes: Vec<u8>,
}

/// A packet socket in a namespace, which does not block.
pub struct Socket(OwnedFd);

impl Socket {
    /// For frames of `protocol`, on one device or on all.
    pub fn open(netns: &Netns, device: Option<u32>, protocol: u16) -> Socket {
        let path = format!("/run/netns/{}", netns.name());
        let inside = move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            Socket::open_here(device.unwrap_or(0), protocol).unwrap()
        };
        std::thread::spawn(inside).join().expect("the thread inside the namespace")
    }

    fn open_here(device: u32, protocol: u16) -> io::Result<Socket> {
        let protocol = protocol.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: a system call on numbers; the descriptor is owned at once.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Socket(OwnedFd::from_raw_fd(fd))
        };
        // SAFETY: a sockaddr_ll is plain numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = device as i32;
        let len = size_of_val(&address) as u32;
        // SAFETY: the address is whole and of the announced length.
        if unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        // All stimuli of a world are under way at once.
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 8 << 20)?;
        Ok(socket)
    }

    fn set(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        let value = (&raw const value).cast();
        // SAFETY: the value is an int and outlives the call.
        match unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, value, 4) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, frame), Ok(frame.len()));
    }

    /// The next frame, if there is one.
    pub fn receive(&self) -> Option<Seen> {
        let mut bytes = vec![0u8; 70_000];
        // Aligned as control messages want it.
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: both are plain numbers and pointers, for which 0 is a value.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as u32;
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message points at buffers of the announced lengths that outlive the call.
        let n = unsafe { libc::recvmsg(self.0.as_raw_fd(), &mut message, 0) };
        bytes.truncate(usize::try_from(n).ok()?);
        if let Some((protocol, tag)) = vlan_tag(&message) {
            let tag = [protocol.to_be_bytes(), tag.to_be_bytes()].concat();
            bytes.splice(12..12, tag);
        }
        Some(Seen { ifindex: from.sll_ifindex as u32, kind: from.sll_pkttype, bytes })
    }
}

/// The tag that was taken out: its type (0x8100), and priority and VLAN.
fn vlan_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel has filled the control buffer that the message points at, which is alive;
    // the macros of cmsg(3) walk it within its length.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = at.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                let data: *const libc::tpacket_auxdata = libc::CMSG_DATA(at).cast();
                let data = data.read_unaligned();
                let valid = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
                return valid.then_some((data.tp_vlan_tpid, data.tp_vlan_tci));
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    }
    None
}
