//! The known owner of an address: the host's neighbours, its default gateway, a bridge's table.
//!
//! The control thread asks before a port takes an address that its guest uses. The frames of the
//! host's own conversations do not reach the ports' sockets. So only this file knows the addresses
//! that only the host has learned: above all the gateway's.
//!
//! - The default gateway's address is never a guest's, however old the host's entry is.
//! - A neighbour on the parent counts while the kernel is sure of it (reachable, or being probed,
//!   or set by hand). A stale entry may be of a guest that has just moved here.
//! - If the parent is a bridge, addresses that its other ports have learned count.
//!
//! The kernel's tables may be long. They are asked for at most once a second, however often a guest
//! changes its address, and of the routes only the beginning is read: the default route comes
//! first.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;
use crate::net::mac::Mac;

/// How long an answer is valid.
const FRESH: Duration = Duration::from_secs(1);
/// The part of the routes that is read, in bytes: several hundred of them.
const ROUTES: u64 = 64 << 10;

/// The addresses found on one parent.
#[derive(Debug)]
struct Seen {
    parent: u32,
    at: Instant,
    holders: HashMap<Mac, String>,
}

/// The host's knowledge of its LAN.
#[derive(Debug, Default)]
pub struct Neighbours(Option<Seen>);

impl Neighbours {
    /// The owner of the address on this parent, in words, if the host knows.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn holder(
        &mut self,
        netlink: &mut Netlink,
        parent: &LinkInfo,
        mac: Mac,
    ) -> io::Result<Option<&str>> {
        let fresh = |seen: &Seen| seen.parent == parent.index && seen.at.elapsed() < FRESH;
        if !self.0.as_ref().is_some_and(fresh) {
            let holders = look(netlink, parent)?;
            self.0 = Some(Seen { parent: parent.index, at: Instant::now(), holders });
        }
        Ok(self.0.as_ref().and_then(|seen| seen.holders.get(&mac)).map(String::as_str))
    }
}

fn look(netlink: &mut Netlink, parent: &LinkInfo) -> io::Result<HashMap<Mac, String>> {
    let gateways = default_gateways();
    let mut holders = HashMap::new();
    if parent.kind.as_deref() == Some("bridge") {
        for entry in netlink.bridge_entries()? {
            if let Some(mac) = learned_by(&entry, parent.index) {
                holders.insert(mac, format!("a machine behind the bridge {}", parent.name));
            }
        }
    }
    for entry in netlink.neighbours()? {
        if let Some((mac, ip, is_gateway)) = neighbour(&entry, parent.index, &gateways) {
            let who = if is_gateway { "the default gateway" } else { "the host's neighbour" };
            holders.insert(mac, format!("{who} {ip}"));
        }
    }
    Ok(holders)
}

/// The address and IP address of a neighbour that counts, and whether it is the gateway.
fn neighbour(
    entry: &NeighbourMessage,
    parent: u32,
    gateways: &[Ipv4Addr],
) -> Option<(Mac, IpAddr, bool)> {
    let mac = address(entry)?;
    let ip = entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    // An IPv6 router announces itself as one.
    let router = entry.header.flags.contains(NeighbourFlags::Router);
    let is_gateway = router || matches!(ip, IpAddr::V4(ip) if gateways.contains(&ip));
    let sure = matches!(
        entry.header.state,
        NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let known = sure || entry.header.state == NeighbourState::Stale;
    let counts = (is_gateway && known) || (sure && entry.header.ifindex == parent);
    counts.then_some((mac, ip, is_gateway))
}

/// The address of a bridge's entry that one of its ports has learned.
fn learned_by(entry: &NeighbourMessage, bridge: u32) -> Option<Mac> {
    let of_bridge = entry.attributes.contains(&NeighbourAttribute::Controller(bridge));
    let own = entry.header.state == NeighbourState::Permanent
        || entry.header.flags.contains(NeighbourFlags::Own);
    address(entry).filter(|_| of_bridge && !own)
}

fn address(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}

fn default_gateways() -> Vec<Ipv4Addr> {
    let mut text = String::new();
    // The calling thread's network namespace.
    let read = File::open("/proc/thread-self/net/route")
        .and_then(|file| file.take(ROUTES).read_to_string(&mut text));
    if let Err(error) = read {
        log::debug!("routes: {error}");
    }
    gateways(&text)
}

/// The gateways of the default routes in /proc/net/route: "eth0 00000000 FE0200C0 0003 ... 00000000
/// ...".
fn gateways(text: &str) -> Vec<Ipv4Addr> {
    let number = |word: Option<&str>| u32::from_str_radix(word?, 16).ok();
    let default = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (to, via, mask) = (words.get(1), words.get(2), words.get(7));
        let (to, via) = (number(to.copied())?, number(via.copied())?);
        let whole = to == 0 && number(mask.copied())? == 0 && via != 0;
        // In network order, printed as a number of the host's.
        whole.then(|| Ipv4Addr::from(via.to_ne_bytes()))
    };
    text.lines().filter_map(default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_gateways_of_default_routes_only() {
        let via = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let (gateway, other) = (via([192, 0, 2, 254]), via([198, 51, 100, 1]));
        let text = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
             eth0\t00000000\t{gateway}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t0000000A\t{other}\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n\
             eth0\t000200"
        );
        assert_eq!(gateways(&text), [Ipv4Addr::new(192, 0, 2, 254)]);
        assert!(gateways("").is_empty());
    }

    fn entry(ifindex: u32, state: NeighbourState, last: u8) -> NeighbourMessage {
        let mut entry = NeighbourMessage::default();
        entry.header.ifindex = ifindex;
        entry.header.state = state;
        let ip = NeighbourAddress::Inet(Ipv4Addr::new(192, 0, 2, last));
        entry.attributes = vec![
            NeighbourAttribute::Destination(ip),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last]),
        ];
        entry
    }

    #[test]
    fn the_gateway_counts_when_stale_and_another_only_when_sure_and_on_the_parent() {
        let gateways = [Ipv4Addr::new(192, 0, 2, 254)];
        let counts = |entry| neighbour(&entry, 3, &gateways).is_some();
        use NeighbourState::{Failed, Incomplete, Permanent, Reachable, Stale};
        assert!(counts(entry(9, Stale, 254)) && counts(entry(3, Reachable, 254)));
        assert!(!counts(entry(3, Failed, 254)) && !counts(entry(3, Incomplete, 254)));
        assert!(counts(entry(3, Reachable, 7)) && counts(entry(3, Permanent, 7)));
        assert!(!counts(entry(3, Stale, 7)) && !counts(entry(4, Reachable, 7)));
        let mut router = entry(3, Stale, 7);
        router.header.flags = NeighbourFlags::Router;
        assert!(counts(router));
    }

    #[test]
    fn of_a_bridge_only_what_its_ports_have_learned_counts() {
        let mut learned = entry(5, NeighbourState::Reachable, 7);
        learned.attributes.push(NeighbourAttribute::Controller(3));
        assert_eq!(learned_by(&learned, 3), Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!(learned_by(&learned, 4), None);
        learned.header.state = NeighbourState::Permanent;
        assert_eq!(learned_by(&learned, 3), None);
    }
}
