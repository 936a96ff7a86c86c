//! The kernel's news about network devices, as they come.
//!
//! A tap descriptor does not show that its device is gone: reads say EAGAIN, writes succeed. The
//! only sign is RTM_DELLINK on a netlink socket that listens to the group RTNLGRP_LINK; the same
//! socket reports when a parent goes down, loses its carrier, changes its MTU or MAC, or comes
//! back. The socket is plain and non-blocking, so that it fits an epoll loop: no runtime is
//! involved. The groups of IPv4 and IPv6 addresses are subscribed to as well: the host must have
//! none on a guest's device.
//!
//! This file filters two traps. Bridges announce their *ports* with the same message types in
//! family AF_BRIDGE (an RTM_DELLINK there is no deletion of the device), and wireless drivers send
//! RTM_NEWLINK without a name. A device that moves to another network namespace is Gone here. If
//! news come faster than they are read, the kernel drops some and reports it once (ENOBUFS):
//! [`LinkEvent::Overrun`] means "query every device again".

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt,
    socket,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::{AddressFamily as Family, RouteNetlinkMessage};

use crate::error::{Error, Result};
use crate::host::address::HostAddress;
use crate::host::link::LinkInfo;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR: news about devices and addresses, as bits
/// for bind.
const GROUPS: u32 = 1 | 0x10 | 0x100;

/// Room for news between two looks, in bytes: some two hundred messages.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Room for one datagram, in bytes. A device with many virtual functions fills the most.
const DATAGRAM: usize = 64 << 10;

/// Most datagrams that are read at a time: a loop of changes must not keep the reader indefinitely.
pub const AT_ONCE: usize = 256;

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A device is new, or something about it has changed.
    Changed(LinkInfo),
    /// A device was deleted, or moved to another network namespace.
    Gone {
        /// Its interface index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// The host has been given an address on a device, or has it still.
    Addressed(HostAddress),
    /// News were lost: the state of every device has to be asked for.
    Overrun,
}

/// A subscription to the news of one network namespace. Readable when there are some.
#[derive(Debug)]
pub struct LinkWatch {
    socket: OwnedFd,
    datagram: Vec<u8>,
}

impl LinkWatch {
    /// Subscribes in the calling thread's network namespace. News count from now.
    pub fn open() -> Result<LinkWatch> {
        Self::subscribe().map_err(|errno| {
            Error::system(
                "netlink socket",
                format!("cannot listen to device changes: {}", io::Error::from(errno)),
                "allow AF_NETLINK sockets (RestrictAddressFamilies= of systemd, seccomp filters)",
            )
        })
    }

    fn subscribe() -> nix::Result<LinkWatch> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        // The kernel caps it at net.core.rmem_max without an error.
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(LinkWatch { socket, datagram: vec![0; DATAGRAM] })
    }

    /// Hands over the news that wait, oldest first, at most `AT_ONCE` datagrams. Readable for as
    /// long as there are more.
    ///
    /// Errors are those of the socket; the subscription is then of no more use.
    pub fn drain(&mut self, mut report: impl FnMut(LinkEvent)) -> io::Result<()> {
        for _ in 0..AT_ONCE {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.datagram) {
                // Port 0 is the kernel; messages of other senders are ignored.
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    parse(&self.datagram[..length], &mut report);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::ENOBUFS) => report(LinkEvent::Overrun),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes a datagram apart. A message that cannot be decoded counts as lost.
fn parse(mut datagram: &[u8], report: &mut impl FnMut(LinkEvent)) {
    while !datagram.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else {
            report(LinkEvent::Overrun);
            return;
        };
        // Messages start at multiples of four; a length of zero would never end.
        let length = (message.header.length as usize).next_multiple_of(4);
        datagram = datagram.get(length.max(4)..).unwrap_or_default();
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                if let Some(link) = device(&link) {
                    report(LinkEvent::Changed(link));
                }
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                if let Some(LinkInfo { index, name, .. }) = device(&link) {
                    report(LinkEvent::Gone { index, name });
                }
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
                if let Some(address) = HostAddress::parse(&address) {
                    report(LinkEvent::Addressed(address));
                }
            }
            _ => {}
        }
    }
}

/// The device that the message is about, if it is about a device as such.
fn device(message: &LinkMessage) -> Option<LinkInfo> {
    if message.header.interface_family != Family::Unspec {
        return None;
    }
    Some(LinkInfo::parse(message)).filter(|link| !link.name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_counts_as_lost_and_ends() {
        let mut events = Vec::new();
        parse(&[0; 64], &mut |event| events.push(event));
        parse(&[0xff; 15], &mut |event| events.push(event));
        assert!(events.iter().all(|event| *event == LinkEvent::Overrun), "{events:?}");
    }
}
