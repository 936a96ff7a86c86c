//! The end of a port, and of many ports in the time of a few.
//!
//! The kernel waits for an RCU grace period, some 17 ms, at every close of a tap (tap_put_queue),
//! and about as long at every deletion of a device. One after the other, 32 queues or 25 devices
//! already take the half second that the process has to leave in. Together they share one period:
//!
//! - queues are dropped by parallel threads;
//! - devices are put into a group of a random number, and the group is deleted by one message. The
//!   number is checked to be unused first. If anything about the group fails, the devices go one by
//!   one, as they do when there is only one.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;

use crate::error::{Error, Result};
use crate::host::create::is_still_there;
use crate::host::macvtap::Macvtap;
use crate::host::netlink::Netlink;
use crate::process::threads;

impl Macvtap {
    /// Ends the use: a created device is deleted, an adopted one put back as it was found. A device
    /// that no longer exists is no error. Takes some 50 ms; for many ports see [`close_all`].
    pub fn close(mut self, netlink: &mut Netlink) -> Result<()> {
        let result = self.give_back(netlink);
        threads::drop_together(mem::take(&mut self.queues));
        result
    }

    /// The device's part of closing.
    fn give_back(&mut self, netlink: &mut Netlink) -> Result<()> {
        self.closed = true;
        let result = match &self.before {
            Some(before) => before.restore(netlink),
            None => match self.is_still_there(netlink) {
                Ok(true) => netlink.delete(self.link.index),
                other => other.map(|_| ()),
            },
        };
        match result {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                Err(self.failed("restoring it", &error))
            }
            _ => Ok(()),
        }
    }

    /// True unless the device has vanished.
    fn is_still_there(&self, netlink: &mut Netlink) -> io::Result<bool> {
        is_still_there(netlink, &self.link)
    }
}

impl Drop for Macvtap {
    fn drop(&mut self) {
        if !self.closed && self.created() {
            log::error!("macvtap {}: left behind; ip link delete it", self.link.name);
        } else if !self.closed {
            log::error!("macvtap {}: not restored to its state before", self.link.name);
        }
    }
}

/// Ends the use of many ports as [`Macvtap::close`] does for one, in the time of a few. Goes on
/// after a failure; returns all of them.
pub fn close_all(ports: impl IntoIterator<Item = Macvtap>, netlink: &mut Netlink) -> Vec<Error> {
    let mut queues = Vec::new();
    let mut errors = Vec::new();
    let ports: Vec<Macvtap> = ports.into_iter().collect();
    if let Err(error) = delete_together(&ports, netlink) {
        log::debug!("deleting devices one by one: {error}");
    }
    // The group's devices no longer exist, which is no error.
    for mut port in ports {
        errors.extend(port.give_back(netlink).err());
        queues.append(&mut port.queues);
    }
    threads::drop_together(queues);
    errors
}

/// Deletes all created devices by one message, if there are several.
fn delete_together(ports: &[Macvtap], netlink: &mut Netlink) -> io::Result<()> {
    let created: Vec<&Macvtap> = ports.iter().filter(|port| port.created()).collect();
    if created.len() < 2 {
        return Ok(());
    }
    // Bit 30 is always set, unlike in a small number that a user chose. RandomState is randomly
    // seeded.
    let group = (RandomState::new().hash_one(0) as u32 & 0x3fff_ffff) | 0x4000_0000;
    if netlink.links()?.iter().any(|link| link.group == group) {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    let mut any = false;
    for port in created {
        if port.is_still_there(netlink)? {
            netlink.set_group(port.ifindex(), group)?;
            any = true;
        }
    }
    if any { netlink.delete_group(group) } else { Ok(()) }
}
