//! The options of a packet socket, each with the type of its value.
//!
//! nix makes them: its macro pairs an option's number with a type, and its `setsockopt` takes no
//! other.
//!
//! Reference: packet(7), linux/if_packet.h, net/packet/af_packet.c.

use libc::{SOL_PACKET, SOL_SOCKET};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// A virtio-net header stands before every frame.
    VnetHeader, SetOnly, SOL_PACKET, libc::PACKET_VNET_HDR, bool
);
sockopt_impl!(
    /// A control message comes with every frame that is received.
    PassAuxData, SetOnly, SOL_PACKET, libc::PACKET_AUXDATA, bool
);
sockopt_impl!(
    /// Outgoing frames are not received. Linux 4.20 and later.
    IgnoreOutgoing, SetOnly, SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, bool
);
sockopt_impl!(
    /// The layout of a ring.
    RingVersion, SetOnly, SOL_PACKET, libc::PACKET_VERSION, libc::c_int
);
sockopt_impl!(
    /// Memory for a ring of frames to be sent.
    SendRing, SetOnly, SOL_PACKET, libc::PACKET_TX_RING, libc::tpacket_req
);
sockopt_impl!(
    /// The group that frames are shared in: its number, and in the upper half how.
    FanoutGroup, Both, SOL_PACKET, libc::PACKET_FANOUT, u32
);
sockopt_impl!(
    /// An address, or all of a kind, that the device must receive.
    AddMembership, SetOnly, SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, libc::packet_mreq
);
sockopt_impl!(
    /// One that it need not receive any more.
    DropMembership, SetOnly, SOL_PACKET, libc::PACKET_DROP_MEMBERSHIP, libc::packet_mreq
);
sockopt_impl!(
    /// Frames received and lost since the last question. Two numbers: a socket with a ring of
    /// version 3 has one more, and is not asked.
    Statistics, GetOnly, SOL_PACKET, libc::PACKET_STATISTICS, libc::tpacket_stats
);
sockopt_impl!(
    /// The filter of what is received.
    AttachFilter, SetOnly, SOL_SOCKET, libc::SO_ATTACH_FILTER, StaticFilter
);

/// A filter in memory that stays: the kernel follows a pointer in the option's value.
#[repr(transparent)]
pub struct StaticFilter(libc::sock_fprog);

impl StaticFilter {
    /// This program.
    pub(crate) fn new(program: &'static [libc::sock_filter]) -> StaticFilter {
        // The kernel only reads it.
        let filter = program.as_ptr().cast_mut();
        StaticFilter(libc::sock_fprog { len: program.len() as libc::c_ushort, filter })
    }
}
