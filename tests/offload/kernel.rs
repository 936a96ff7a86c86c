//! The kernel's own segmentation, asked through a packet socket.
//!
//! A veth pair in a namespace of its own. All transmit offloads of its near end are switched off,
//! so the kernel does all work that a frame leaves undone in software before the far end sees the
//! frame. A frame goes in with its header (`PACKET_VNET_HDR`), and the frames that arrive at the
//! far end are the answer.
//!
//! The far end's socket gets the outermost VLAN tag beside the frame (`PACKET_AUXDATA`) and puts it
//! back. A frame with a number of its own is sent behind each question: when it arrives, the answer
//! is complete. The asking thread stays on one processor, or the softirqs of two could swap frames.
//!
//! What can go wrong: the kernel refuses a question at once (EINVAL: `Err`), or drops it when it
//! cuts (an empty answer). A link that has just come up silently drops its frames (`wait_carries`).
//!
//! References: packet(7); net/packet/af_packet.c, `packet_snd`; include/linux/virtio_net.h.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use testkit::netns::{Netns, require};

const PACKET_VNET_HDR: i32 = 15;
const PACKET_AUXDATA: i32 = 8;
const MARK: [u8; 2] = [0x88, 0xb5];

/// The resulting frames, or the kernel's refusal.
pub type Answer = Result<Vec<Vec<u8>>, i32>;

/// The two ends of the pair.
pub struct Kernel {
    near: OwnedFd,
    far: OwnedFd,
    marks: u64,
    known: HashMap<([u8; 12], Vec<u8>), Answer>,
    _netns: Netns,
}

impl Kernel {
    pub fn new() -> Kernel {
        require(&[("ip", "iproute2"), ("ethtool", "ethtool")]);
        let netns = Netns::new("gso");
        netns.ip("link add near mtu 65535 type veth peer name far mtu 65535");
        for link in ["near", "far"] {
            netns.set_ipv6(link, false);
            netns.sh(&format!("ethtool -K {link} tx off sg off tso off gso off gro off"));
            // Not every kernel has them, and "off [fixed]" is as good.
            netns.run(&format!("ethtool -K {link} tx-udp-segmentation off"));
            netns.run(&format!("ethtool -K {link} ufo off"));
        }
        let features = netns.sh("ethtool -k near");
        for feature in ["tx-checksum", "tx-tcp", "tx-udp-segmentation", "tx-udp-fragmentation"] {
            let on = features
                .lines()
                .any(|line| line.trim_start().starts_with(feature) && line.contains(": on"));
            assert!(!on, "{feature} is on:\n{features}");
        }
        netns.ip("link set near up");
        netns.ip("link set far up");
        netns.wait_carries("near");
        let name = netns.name().to_string();
        let (near, far) = std::thread::spawn(move || {
            let file = File::open(format!("/run/netns/{name}")).unwrap();
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            (socket(c"near", 0), socket(c"far", (libc::ETH_P_ALL as u16).to_be()))
        })
        .join()
        .unwrap();
        option(&near, libc::SOL_PACKET, PACKET_VNET_HDR, 1);
        option(&near, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16 << 20);
        option(&far, libc::SOL_PACKET, PACKET_AUXDATA, 1);
        option(&far, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20);
        let pid = nix::unistd::Pid::from_raw(0);
        let mut cpus = nix::sched::sched_getaffinity(pid).unwrap();
        let first = (0..).find(|cpu| cpus.is_set(*cpu).unwrap()).unwrap();
        cpus = nix::sched::CpuSet::new();
        cpus.set(first).unwrap();
        nix::sched::sched_setaffinity(pid, &cpus).unwrap();
        Kernel { near, far, marks: 0, known: HashMap::new(), _netns: netns }
    }

    /// The frames that arrive when `frame` is sent with `header`.
    pub fn ask(&mut self, header: &[u8; 12], frame: &[u8]) -> Answer {
        let key = (*header, frame.to_vec());
        if let Some(answer) = self.known.get(&key) {
            return answer.clone();
        }
        let answer = self.send(header, frame).map(|()| self.until_mark());
        self.known.insert(key, answer.clone());
        answer
    }

    fn send(&self, header: &[u8; 12], frame: &[u8]) -> Result<(), i32> {
        // The socket's header is the old one, without `num_buffers`.
        let bytes = [&header[..10], frame].concat();
        match nix::unistd::write(&self.near, &bytes) {
            Ok(sent) => {
                assert_eq!(sent, bytes.len());
                Ok(())
            }
            Err(error) => Err(error as i32),
        }
    }

    fn until_mark(&mut self) -> Vec<Vec<u8>> {
        self.marks += 1;
        let mark = [&[2; 12][..], &MARK, &self.marks.to_be_bytes(), &[0; 40]].concat();
        self.send(&[0; 12], &mark).unwrap();
        let mut frames = Vec::new();
        loop {
            let frame = self.receive();
            if frame == mark {
                return frames;
            }
            frames.push(frame);
        }
    }

    fn receive(&self) -> Vec<u8> {
        let mut poll = libc::pollfd { fd: self.far.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which lives.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1, "the mark did not arrive");
        let mut bytes = vec![0u8; 66_000];
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: plain numbers and pointers; zero is valid for all.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message's buffers live and have the lengths announced.
        let length = unsafe { libc::recvmsg(self.far.as_raw_fd(), &raw mut message, 0) };
        bytes.truncate(usize::try_from(length).expect("recvmsg"));
        // SAFETY: the kernel filled in the control buffer; a header it has is whole.
        let aux = unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            assert!(!first.is_null() && (*first).cmsg_type == PACKET_AUXDATA);
            libc::CMSG_DATA(first).cast::<libc::tpacket_auxdata>().read_unaligned()
        };
        if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
            let tag = [aux.tp_vlan_tpid.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes()].concat();
            bytes.splice(12..12, tag);
        }
        bytes
    }
}

fn socket(link: &std::ffi::CStr, protocol: u16) -> OwnedFd {
    // SAFETY: system calls on numbers and a string that lives; the descriptor is owned at once.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = libc::if_nametoindex(link.as_ptr()) as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        let bound = libc::bind(fd, (&raw const address).cast(), size);
        assert_eq!(bound, 0, "bind: {}", io::Error::last_os_error());
        socket
    }
}

fn option(socket: &OwnedFd, level: i32, name: i32, value: i32) {
    // SAFETY: the value lives and is of the announced size.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(done, 0, "socket option {name}: {}", io::Error::last_os_error());
}
