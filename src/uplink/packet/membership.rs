//! Which frames the NIC lets in on our account: packet memberships.
//!
//! A NIC drops a frame that is for no station of this host before any socket could receive it. A
//! membership adds a station: a further unicast address (the same call that a kernel macvlan makes,
//! `dev_uc_add`), all multicast, or everything. The kernel counts memberships, over all sockets and
//! for each socket. The end of a socket, in any way, takes its own back: none can be left behind,
//! even by `kill -9`.
//!
//! The counting is why the two switches remember their state: switching on twice would need two
//! switches off. What can go wrong: another socket or a kernel macvlan may claim the same address,
//! and the kernel permits it. `parent.rs` and `device_lock.rs` find that clash, or it is never
//! found.
//!
//! None of this affects a VLAN filter of the NIC; promiscuous mode switches it off.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::net::mac::Mac;
use crate::uplink::packet::socket::Socket;

/// The memberships of one socket.
#[derive(Debug)]
pub(crate) struct Memberships {
    ifindex: u32,
    all_multicast: AtomicBool,
    promiscuous: AtomicBool,
}

impl Memberships {
    pub(crate) fn new(ifindex: u32) -> Memberships {
        Memberships {
            ifindex,
            all_multicast: AtomicBool::new(false),
            promiscuous: AtomicBool::new(false),
        }
    }

    pub(crate) fn unicast(&self, socket: &Socket, mac: Mac, on: bool) -> io::Result<()> {
        socket.member(&self.request(libc::PACKET_MR_UNICAST, mac), on)
    }

    pub(crate) fn all_multicast(&self, socket: &Socket, on: bool) -> io::Result<()> {
        self.switch(&self.all_multicast, libc::PACKET_MR_ALLMULTI, socket, on)
    }

    pub(crate) fn promiscuous(&self, socket: &Socket, on: bool) -> io::Result<()> {
        self.switch(&self.promiscuous, libc::PACKET_MR_PROMISC, socket, on)
    }

    fn switch(
        &self,
        state: &AtomicBool,
        kind: libc::c_int,
        socket: &Socket,
        on: bool,
    ) -> io::Result<()> {
        if state.swap(on, Ordering::Relaxed) == on {
            return Ok(());
        }
        let done = socket.member(&self.request(kind, Mac::default()), on);
        if done.is_err() {
            state.store(!on, Ordering::Relaxed);
        }
        done
    }

    fn request(&self, kind: libc::c_int, mac: Mac) -> libc::packet_mreq {
        let mut address = [0; 8];
        for (to, from) in address.iter_mut().zip(mac.0) {
            *to = from;
        }
        libc::packet_mreq {
            // An index that is out of range belongs to no device: the kernel says ENODEV.
            mr_ifindex: libc::c_int::try_from(self.ifindex).unwrap_or(-1),
            mr_type: kind as libc::c_ushort,
            // The kernel wants the device's address length for unicast, and no more for the others.
            mr_alen: mac.0.len() as libc::c_ushort,
            mr_address: address,
        }
    }
}
