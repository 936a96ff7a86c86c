//! The plainest program that moves frames through a macvtap: a loop around one system call.
//!
//! `scripts/rates.sh` compares the back-end with it. A back-end moves a frame between a ring in shared memory and a tap;
//! this does the half that nobody can do without, the system call, and nothing else. Its rate is what the kernel allows
//! on this machine, and the ratio of the two is what the back-end costs.
//!
//! ```text
//! tap_loop write NAME SECONDS BYTES MAC     frames out of the macvtap NAME, as fast as write takes them
//! tap_loop read NAME SECONDS                frames out of the macvtap's queue, as fast as read gives them
//! tap_loop pair NAME SECONDS BYTES MAC OTHER frames from one macvtap to the other, whose address is MAC: one thread
//!                                           writes a batch, then reads until there is no more
//! tap_loop flood LINK SECONDS BYTES MAC     frames to MAC out of LINK by sendmmsg, until the time is over
//! tap_loop count LINK SECONDS              frames that arrive at LINK, as its counter tells
//! ```
//!
//! Each prints one number, frames per second, and to stderr another, how many nanoseconds it waited for a processor
//! that somebody else had. `write` and `read` open /dev/tapN with a virtio_net_hdr, as the back-end
//! does; `read` waits in poll when there is nothing. The first tenth of the time is not counted.
//!
//! What can go wrong: /dev/tapN is found by the index alone, which is not safe where two network namespaces have
//! devices of the same index (src/uplink/node.rs tells why and how). The script gives its devices indices of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

const HEADER: usize = 12;
/// Frames between two looks at the clock.
const BATCH: usize = 64;
const USAGE: &str = "tap_loop write|read|pair|flood|count NAME SECONDS [BYTES] [MAC] [NAME]";

nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, 4));
nix::ioctl_write_ptr_bad!(set_header, nix::request_code_write!(b'T', 216, 4), libc::c_int);

fn main() {
    let args: Vec<String> = env::args().collect();
    let word = |at: usize| args.get(at).map(String::as_str).expect(USAGE);
    let seconds = Duration::from_secs_f64(word(3).parse().expect(USAGE));
    let rate = match word(1) {
        "write" => write(word(2), seconds, &frame(word(4), source(word(2)), mac(word(5)))),
        "read" => read(word(2), seconds),
        "pair" => pair(word(2), word(6), seconds, &frame(word(4), source(word(2)), mac(word(5)))),
        "flood" => flood(word(2), seconds, &frame(word(4), source(word(2)), mac(word(5)))),
        "count" => count(word(2), seconds),
        _ => panic!("{USAGE}"),
    };
    println!("{rate:.0}");
    // How long it ran and how long it waited for a processor, in nanoseconds: first and second number.
    eprint!("{}", fs::read_to_string("/proc/self/schedstat").expect("a kernel with schedstat"));
}

fn mac(text: &str) -> Vec<u8> {
    text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC address")).collect()
}

fn attribute(link: &str, name: &str) -> String {
    let path = format!("/sys/class/net/{link}/{name}");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

fn source(link: &str) -> Vec<u8> {
    mac(&attribute(link, "address"))
}

/// UDP from 198.18.0.1 to 198.18.0.2 (RFC 2544), as testpmd sends it.
fn frame(bytes: &str, source: Vec<u8>, target: Vec<u8>) -> Vec<u8> {
    let bytes: usize = bytes.parse().expect(USAGE);
    let mut frame = [target, source, vec![8, 0]].concat();
    let total = (bytes - 14) as u16;
    frame.extend([0x45, 0, (total >> 8) as u8, total as u8, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([198, 18, 0, 1, 198, 18, 0, 2]);
    let sum: u32 = frame[14..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let udp = total - 20;
    frame.extend([0, 9, 0, 9, (udp >> 8) as u8, udp as u8, 0, 0]);
    frame.resize(bytes, 0);
    frame
}

fn open_tap(link: &str) -> File {
    let path = format!("/dev/tap{}", attribute(link, "ifindex"));
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .unwrap_or_else(|e| panic!("{path}: {e}"));
    // SAFETY: TUNSETVNETHDRSZ reads the number behind the pointer, which outlives the call.
    unsafe { set_header(tap.as_raw_fd(), &(HEADER as libc::c_int)) }.expect("TUNSETVNETHDRSZ");
    tap
}

fn wait_for(fd: &impl AsRawFd, events: i16, timeout: i32) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut poll, 1, timeout) };
}

/// Calls `batch`, which tells how many frames it moved, for this long; frames per second after the first tenth.
fn rate(seconds: Duration, mut batch: impl FnMut() -> usize) -> f64 {
    let (mut start, mut frames, mut warm) = (Instant::now(), 0usize, false);
    loop {
        frames += batch();
        let passed = start.elapsed();
        if !warm && passed >= seconds / 10 {
            (start, frames, warm) = (Instant::now(), 0, true);
        } else if warm && passed >= seconds * 9 / 10 {
            return frames as f64 / passed.as_secs_f64();
        }
    }
}

fn write(link: &str, seconds: Duration, frame: &[u8]) -> f64 {
    let tap = open_tap(link);
    let message = [&[0; HEADER], frame].concat();
    rate(seconds, || {
        let mut done = 0;
        for _ in 0..BATCH {
            // A tap takes or gives a frame whole, so the length tells nothing.
            match nix::unistd::write(&tap, &message) {
                Ok(_) => done += 1,
                Err(_) => wait_for(&tap, libc::POLLOUT, 100),
            }
        }
        done
    })
}

fn read(link: &str, seconds: Duration) -> f64 {
    let tap = open_tap(link);
    let mut buffer = [0; 65536];
    rate(seconds, || {
        let mut done = 0;
        for _ in 0..BATCH {
            match nix::unistd::read(&tap, &mut buffer) {
                Ok(_) => done += 1,
                Err(_) => wait_for(&tap, libc::POLLIN, 100),
            }
        }
        done
    })
}

/// What two guests on macvtap devices cost the kernel at least. Above 1514 bytes a frame is a super-frame (TSO).
fn pair(from: &str, to: &str, seconds: Duration, frame: &[u8]) -> f64 {
    let (from, to) = (open_tap(from), open_tap(to));
    // CSUM, TSO4: a super-frame stays one.
    // SAFETY: the request takes its argument as a number.
    unsafe { set_offload(to.as_raw_fd(), 3) }.expect("TUNSETOFFLOAD");
    let mut message = [&[0; HEADER], frame].concat();
    if frame.len() > 1514 {
        message[..10].copy_from_slice(&[1, 1, 54, 0, 168, 5, 34, 0, 16, 0]);
        message[HEADER + 23] = 6;
        message[HEADER + 46..HEADER + 48].copy_from_slice(&[0x50, 0x10]);
    }
    // The queue of a tap holds some hundred.
    let batch = if frame.len() > 1514 { 8 } else { BATCH };
    let mut buffer = vec![0; 1 << 17];
    rate(seconds, || {
        for _ in 0..batch {
            let _ = nix::unistd::write(&from, &message);
        }
        let mut done = 0;
        while nix::unistd::read(&to, &mut buffer).is_ok_and(|len| len == message.len()) {
            done += 1;
        }
        done
    })
}

fn flood(link: &str, seconds: Duration, frame: &[u8]) -> f64 {
    let index: i32 = attribute(link, "ifindex").parse().expect("an index");
    let socket = packet_socket();
    // SAFETY: plain numbers; zero is a valid value of each field.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = index;
    let size = size_of_val(&to) as u32;
    // SAFETY: the address is whole and of the announced size. Protocol 0: nothing is received.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const to).cast(), size) };
    assert_eq!(bound, 0, "bind: {}", std::io::Error::last_os_error());
    let mut piece =
        libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
    // SAFETY: as above.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut piece;
    message.msg_hdr.msg_iovlen = 1;
    let mut messages = [message; BATCH];
    rate(seconds, || {
        // SAFETY: all messages point at one piece, which points at the frame; both outlive the call.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BATCH as u32, 0) };
        usize::try_from(sent).unwrap_or(0)
    })
}

fn packet_socket() -> OwnedFd {
    // SAFETY: a system call on numbers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
    // SAFETY: new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Frames under way count against the sender until the receiver has taken them.
    let room: libc::c_int = 16 << 20;
    // SAFETY: the option is a number of four bytes.
    let set = unsafe {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE);
        libc::setsockopt(fd, level, name, (&raw const room).cast(), 4)
    };
    assert_eq!(set, 0, "SO_SNDBUFFORCE: {}", std::io::Error::last_os_error());
    socket
}

/// What the link has received, from its own counter: nobody has to look at the frames.
fn count(link: &str, seconds: Duration) -> f64 {
    let frames = || attribute(link, "statistics/rx_packets").parse::<u64>().expect("a number");
    std::thread::sleep(seconds / 10);
    let (start, before) = (Instant::now(), frames());
    std::thread::sleep(seconds * 9 / 10);
    (frames() - before) as f64 / start.elapsed().as_secs_f64()
}
