//! Changes by another program to a port's device, and their repair.
//!
//! A macvtap is a network device like any other. A network manager that does not know that it is
//! ours sets it down, gives it an address, takes its flags away; an operator may do the same. The
//! tap's descriptor shows none of that: reads stay empty and writes succeed, and the guest has no
//! network. So the device is compared with its state when it came up ([`differences`], pure), and
//! differing settings are set again.
//!
//! Two kinds of device are treated differently. One that we made is ours in all respects. One that
//! was adopted belongs to the user: settings that the configuration leaves open (`mac`, `mtu`, the
//! name, the alias) are taken over as they are now, and the rest, without which the guest has no
//! network, is put right.
//!
//! Left alone on purpose: promiscuity, which every `tcpdump` switches on and off; a longer queue.
//! Two things cannot be put right: a device in another network namespace (we cannot reach it), and
//! a name that is taken meanwhile.
//!
//! Kernel facts: a macvtap's receive ring is as long as its transmit queue (`tap_queue_resize`), so
//! that a queue of 0 frames loses everything. A device cannot become a port of a bridge, since the
//! tap has the receive handler, but it can be put into a VRF. The kernel lowers a port's MTU with
//! its parent's.

use std::fmt;
use std::io;

use rtnetlink::packet_route::link::LinkFlags;

use crate::error::Result;
use crate::host::link::LinkInfo;
use crate::host::macvtap::Macvtap;
use crate::host::netlink::Netlink;
use crate::host::quiesce;
use crate::host::quiesce::HostQuiesce;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// One setting in which the device differs from the wanted state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It was set down.
    Down,
    /// Multicast is not let through any more (IFF_ALLMULTI).
    AllMulticastOff,
    /// The host sends and answers ARP on it (IFF_NOARP is missing).
    ArpOn,
    /// IFF_MULTICAST is missing.
    MulticastOff,
    /// It has another MTU, in bytes.
    Mtu(u32),
    /// It has another address.
    Mac(Mac),
    /// Its receive ring is shorter, in frames.
    QueueLength(u32),
    /// It was renamed.
    Name(String),
    /// It has another mode, or one that we do not know.
    Mode(Option<Mode>),
    /// It has other sources.
    Sources,
    /// It was made a port of another device.
    Master,
    /// It has another alias.
    Alias,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Down => f.write_str("set down"),
            Difference::AllMulticastOff => f.write_str("allmulticast off"),
            Difference::ArpOn => f.write_str("arp on"),
            Difference::MulticastOff => f.write_str("multicast off"),
            Difference::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Difference::Mac(mac) => write!(f, "MAC {mac}"),
            Difference::QueueLength(frames) => write!(f, "txqueuelen {frames}"),
            Difference::Name(name) => write!(f, "renamed to {name}"),
            Difference::Mode(Some(mode)) => write!(f, "mode {mode}"),
            Difference::Mode(None) => f.write_str("another mode"),
            Difference::Sources => f.write_str("another source list"),
            Difference::Master => f.write_str("given a master"),
            Difference::Alias => f.write_str("another alias"),
        }
    }
}

/// The differences between the wanted device and the actual one.
pub fn differences(wanted: &LinkInfo, is: &LinkInfo) -> Vec<Difference> {
    let missing = |flag| wanted.flags.contains(flag) && !is.flags.contains(flag);
    let sources = |link: &LinkInfo| {
        let mut sources = link.sources.clone();
        sources.sort_unstable();
        sources
    };
    let found = [
        (!is.up, Difference::Down),
        (missing(LinkFlags::Allmulti), Difference::AllMulticastOff),
        (missing(LinkFlags::Noarp), Difference::ArpOn),
        (missing(LinkFlags::Multicast), Difference::MulticastOff),
        (is.mtu != wanted.mtu, Difference::Mtu(is.mtu)),
        (is.mac != wanted.mac, Difference::Mac(is.mac)),
        (is.queue_len < wanted.queue_len, Difference::QueueLength(is.queue_len)),
        (is.name != wanted.name, Difference::Name(is.name.clone())),
        (is.mode != wanted.mode, Difference::Mode(is.mode)),
        (sources(is) != sources(wanted), Difference::Sources),
        (is.master.is_some() && is.master != wanted.master, Difference::Master),
        (is.alias != wanted.alias, Difference::Alias),
    ];
    found.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
}

impl Macvtap {
    /// The device as it is wanted.
    pub fn wanted(&self) -> &LinkInfo {
        &self.link
    }

    /// It is wanted with this MTU from now on, in bytes.
    pub fn want_mtu(&mut self, mtu: u32) {
        self.link.mtu = mtu;
    }

    /// From now on the actual setting is the wanted one: for a user's change to an adopted device.
    pub fn accept(&mut self, difference: &Difference, is: &LinkInfo) {
        let wanted = &mut self.link;
        match difference {
            Difference::Mtu(mtu) => wanted.mtu = *mtu,
            Difference::Mac(mac) => wanted.mac = *mac,
            Difference::QueueLength(frames) => wanted.queue_len = *frames,
            Difference::Name(name) => wanted.name.clone_from(name),
            Difference::Sources => wanted.sources.clone_from(&is.sources),
            Difference::Master => wanted.master = is.master,
            Difference::Alias => wanted.alias.clone_from(&is.alias),
            _ => {}
        }
    }

    /// Sets the differing settings again.
    ///
    /// # Errors
    /// The kernel's first refusal; the other settings are set all the same.
    pub fn repair(&mut self, netlink: &mut Netlink, differences: &[Difference]) -> Result<()> {
        let wanted = self.link.clone();
        let mut result = Ok(());
        // Up comes last: before that, the host is kept from sending on the device.
        let (down, rest): (Vec<_>, Vec<_>) =
            differences.iter().partition(|difference| **difference == Difference::Down);
        for difference in rest.into_iter().chain(down) {
            if let Err(error) = set_again(netlink, &wanted, difference) {
                let error = self.failed(&format!("correcting it ({difference})"), &error);
                result = result.and(Err(error));
            }
        }
        result
    }

    /// Whether the host may have IPv6 addresses on it: news of one may be from before IPv6 was
    /// switched off.
    pub fn has_ipv6(&self) -> bool {
        quiesce::has_ipv6(&self.link.name)
    }

    /// Takes the host's IPv6 addresses off the device again: it may not send on the guest's wire.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forbid_ipv6(&self) -> Result<()> {
        quiesce::no_ipv6(&self.link.name).map_err(|error| self.failed("switching IPv6 off", &error))
    }
}

fn set_again(netlink: &mut Netlink, wanted: &LinkInfo, what: &Difference) -> io::Result<()> {
    let index = wanted.index;
    match what {
        Difference::Down => {
            if let Err(error) = quiesce::no_ipv6(&wanted.name) {
                log::debug!("{}: {error}", wanted.name);
            }
            netlink.set_up(index, true)
        }
        Difference::AllMulticastOff | Difference::ArpOn => HostQuiesce::flags_again(netlink, index),
        Difference::MulticastOff => {
            netlink.set_flags(index, LinkFlags::Multicast, LinkFlags::Multicast)
        }
        Difference::Mtu(_) => netlink.set_mtu(index, wanted.mtu),
        Difference::Mac(_) => netlink.set_mac(index, wanted.mac),
        Difference::QueueLength(_) => netlink.set_queue_len(index, wanted.queue_len),
        Difference::Name(_) => netlink.set_name(index, &wanted.name),
        Difference::Mode(_) => match wanted.mode {
            Some(mode) => netlink.set_macvtap_mode(index, mode),
            None => Ok(()),
        },
        Difference::Sources => netlink.set_sources(index, &wanted.sources),
        Difference::Master => netlink.set_master(index, wanted.master),
        Difference::Alias => netlink.set_alias(index, wanted.alias.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> LinkInfo {
        LinkInfo {
            name: "vm1".into(),
            up: true,
            flags: LinkFlags::Up | LinkFlags::Noarp | LinkFlags::Allmulti | LinkFlags::Multicast,
            mtu: 1500,
            queue_len: 500,
            mode: Some(Mode::Source),
            sources: vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])],
            alias: Some("ours".into()),
            ..LinkInfo::default()
        }
    }

    #[test]
    fn what_does_no_harm_is_no_difference() {
        let mut is = device();
        is.flags |= LinkFlags::Promisc;
        is.queue_len = 5000;
        is.sources.reverse();
        is.running = true;
        is.group = 7;
        is.alt_names.push("more".into());
        assert_eq!(differences(&device(), &is), []);
    }

    #[test]
    fn everything_else_is_named() {
        let is = LinkInfo {
            name: "x".into(),
            mac: Mac([2, 0, 0, 0, 0, 9]),
            mtu: 1400,
            mode: Some(Mode::Vepa),
            master: Some(3),
            ..LinkInfo::default()
        };
        let words: Vec<String> =
            differences(&device(), &is).iter().map(Difference::to_string).collect();
        assert_eq!(
            words.join(", "),
            "set down, allmulticast off, arp on, multicast off, MTU 1400, MAC 02:00:00:00:00:09, \
             txqueuelen 0, renamed to x, mode vepa, another source list, given a master, another alias"
        );
    }
}
