//! The host sends nothing on a port's device, and does not filter the guest's groups.
//!
//! A macvtap is a full network device of the host as well. Once up, it would form an IPv6
//! link-local address from the *guest's* MAC, probe for it, answer ARP for the host's addresses and
//! join groups, all under the guest's address on the guest's wire. The other way round, the kernel
//! lets only those multicast groups through that the *host* joined on the device, so that the
//! guest's IPv6 neighbour discovery works by accident at best. Hence, before the device goes up:
//!
//! - no ARP (IFF_NOARP): the host sends no ARP request or answer on it;
//! - no IPv6: address generation off by netlink, and the whole protocol off by the sysctl
//!   `disable_ipv6`. Either alone is enough. If /proc/sys is read-only (containers), the first still
//!   holds; a kernel without IPv6 needs neither;
//! - all multicast (IFF_ALLMULTI): every group reaches the guest, which filters for itself.
//!
//! The parent's own sockets and addresses are not touched. /proc/sys/net shows the network
//! namespace of the thread that reads it, so the calling thread must be in the port's.

use std::fs;
use std::io;

use rtnetlink::packet_route::link::LinkFlags;

use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;

/// The flags of a quiesced device.
fn flags() -> LinkFlags {
    LinkFlags::Noarp | LinkFlags::Allmulti
}

/// The former settings, to be put back on an adopted device.
#[derive(Clone, Debug)]
pub(crate) struct HostQuiesce {
    flags: LinkFlags,
    /// The sysctl's old value, where it was changed.
    disable_ipv6: Option<String>,
}

impl HostQuiesce {
    /// Quiesces the device. If it was adopted, its IPv6 addresses of the host are deleted now and
    /// do not come back: only the setting does.
    pub(crate) fn impose(
        netlink: &mut Netlink,
        link: &LinkInfo,
        created: bool,
    ) -> io::Result<HostQuiesce> {
        if !link.flags.contains(flags()) {
            netlink.set_flags(link.index, flags(), flags())?;
        }
        let path = sysctl(&link.name);
        // Address generation is only touched on our own device: its old value is not known.
        let no_addresses = created && netlink.no_ipv6_addresses(link.index).is_ok();
        let before = fs::read_to_string(&path).ok().filter(|value| value.trim() != "1");
        let disable_ipv6 = match before {
            Some(before) => match fs::write(&path, "1") {
                Ok(()) => Some(before),
                Err(error) if no_addresses => {
                    log::debug!("{path}: {error}; the device has no IPv6 address all the same");
                    None
                }
                Err(error) => {
                    log::warn!("{path}: {error}; the host may speak IPv6 on {}", link.name);
                    None
                }
            },
            None => None,
        };
        Ok(HostQuiesce { flags: link.flags & flags(), disable_ipv6 })
    }

    /// Sets the flags of a quiesced device again.
    pub(crate) fn flags_again(netlink: &mut Netlink, index: u32) -> io::Result<()> {
        netlink.set_flags(index, flags(), flags())
    }

    /// Puts the former settings back.
    pub(crate) fn lift(&self, netlink: &mut Netlink, now: &LinkInfo) -> io::Result<()> {
        if now.flags & flags() != self.flags {
            netlink.set_flags(now.index, self.flags, flags())?;
        }
        match &self.disable_ipv6 {
            Some(before) => fs::write(sysctl(&now.name), before.trim()),
            None => Ok(()),
        }
    }
}

/// Switches IPv6 off on the device, by which the kernel takes all of its IPv6 addresses away.
/// Writes nothing if it is off already, or if the kernel has no IPv6.
pub(crate) fn no_ipv6(name: &str) -> io::Result<()> {
    let path = sysctl(name);
    match fs::read_to_string(&path) {
        Ok(value) if value.trim() != "1" => fs::write(&path, "1"),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the device may have IPv6 addresses.
pub(crate) fn has_ipv6(name: &str) -> bool {
    fs::read_to_string(sysctl(name)).is_ok_and(|value| value.trim() != "1")
}

fn sysctl(name: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
}
