//! Which frames the kernel copies into the ring: a few instructions that it runs on each.
//!
//! Every frame of the parent passes the socket, also the host's own traffic. To copy the host's own
//! downloads, which no guest wants, costs as much as a frame for a guest. So a classic BPF program
//! (Documentation/networking/filter.rst) reads the frame's type, as the device has classified it by
//! its destination, and returns "all of it" or "nothing".
//!
//! It does not look for the guests' addresses: a table of a thousand is the switch's to search, and
//! frames for strangers are few on a switched LAN. On a promiscuous parent behind a hub or a mirror
//! port they are many, and cost a copy each.
//!
//! Frames that go *out* (the host's, other sockets', and those that the kernel loops back) are
//! never let through, under any rule. PACKET_IGNORE_OUTGOING keeps them away even earlier; the
//! filter repeats it for kernels before 4.20, which lack it, and for frames looped back.

use libc::{BPF_ABS, BPF_B, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, sock_filter};

/// Which of the parent's inbound frames are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFilter {
    /// Broadcast, multicast, and unicast to every station but the host: the guests' share.
    Guests,
    /// Also unicast to the host's own address: for passthru and source mode.
    Everything,
}

impl SocketFilter {
    pub(crate) fn program(self) -> &'static [sock_filter] {
        match self {
            SocketFilter::Guests => GUESTS,
            SocketFilter::Everything => EVERYTHING,
        }
    }
}

/// Lets no frame through.
pub(crate) const NOTHING: &[sock_filter] = &[give(0)];

const GUESTS: &[sock_filter] = &[
    load_type(),
    jump(BPF_JEQ, libc::PACKET_HOST, 2, 0),
    jump(BPF_JGT, libc::PACKET_OTHERHOST, 1, 0),
    give(u32::MAX),
    give(0),
];

const EVERYTHING: &[sock_filter] =
    &[load_type(), jump(BPF_JGT, libc::PACKET_OTHERHOST, 1, 0), give(u32::MAX), give(0)];

/// Loads the frame's type (`pkt_type`): from a negative offset, which stands for "not in the
/// frame".
const fn load_type() -> sock_filter {
    let k = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    sock_filter { code: (BPF_LD | BPF_B | BPF_ABS) as u16, jt: 0, jf: 0, k }
}

/// Compares the type and skips `yes` or `no` instructions.
const fn jump(how: u32, kind: u8, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | how | BPF_K) as u16, jt: yes, jf: no, k: kind as u32 }
}

/// Ends: copy at most so many bytes of the frame.
const fn give(bytes: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough of an interpreter for the programs above.
    fn run(program: &[sock_filter], kind: u8) -> u32 {
        let (mut a, mut at) = (0, 0);
        loop {
            let step = program[at];
            let skip = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            at += 1;
            match u32::from(step.code) {
                0x30 => a = u32::from(kind),
                0x15 => at += skip(a == step.k),
                0x25 => at += skip(a > step.k),
                0x06 => return step.k,
                code => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn each_admits_what_it_says() {
        for kind in 0..8 {
            let guests = (1..=3).contains(&kind);
            assert_eq!(run(SocketFilter::Guests.program(), kind) != 0, guests, "{kind}");
            assert_eq!(run(SocketFilter::Everything.program(), kind) != 0, kind <= 3, "{kind}");
            assert_eq!(run(NOTHING, kind), 0);
        }
    }
}
