//! Which conversation a frame belongs to, as one number.
//!
//! A guest with several queue pairs wants the frames of a conversation at one of them, and
//! different conversations spread. Any function of addresses and ports serves, if it treats all
//! frames of a conversation alike. A fragment may have no ports, so the hash ignores its ports, and
//! also the bytes behind a tag or an extension header. The kernel's own hash, by which it spreads
//! frames over several sockets, does not come with a frame. It would not help: the frames of one
//! socket have hashes that resemble each other.
//!
//! What can go wrong: a stranger chooses ports so that all go to one queue. That slows only the
//! stranger.

use crate::net::bytes::be16;
use crate::net::ethernet::ETHERNET;
use crate::net::ethertype;
use crate::net::ip::protocol::{TCP, UDP};
use crate::net::ip::{IPV6_HEADER, Ipv4Header, Ipv6Header};

/// The hash of a frame by addresses and ports; 0 for frames other than IPv4 and IPv6.
pub(crate) fn hash(ethernet: &[u8; ETHERNET], body: &[u8]) -> u32 {
    let found = match be16(ethernet, ETHERNET - 2) {
        Some(ethertype::IPV4) => ipv4(body),
        Some(ethertype::IPV6) => ipv6(body),
        _ => None,
    };
    found.unwrap_or(0)
}

fn ipv4(packet: &[u8]) -> Option<u32> {
    let header = Ipv4Header::of(packet)?;
    let behind = (!header.is_fragment()).then(|| packet.get(header.header_len()..)).flatten();
    Some(mix(number(header.addresses())?, ports(header.protocol(), behind)))
}

fn ipv6(packet: &[u8]) -> Option<u32> {
    let header = Ipv6Header::of(packet)?;
    let addresses = header.addresses().chunks_exact(8).filter_map(number);
    let addresses = addresses.fold(0u64, |all, part| all.rotate_left(17) ^ part);
    Some(mix(addresses, ports(header.next_header(), packet.get(IPV6_HEADER..))))
}

/// The ports of TCP and UDP: the first four bytes of both. Others have none.
fn ports(protocol: u8, header: Option<&[u8]>) -> u32 {
    let ports = header.filter(|_| matches!(protocol, TCP | UDP)).and_then(<[u8]>::first_chunk);
    ports.map_or(0, |ports| u32::from_ne_bytes(*ports))
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.first_chunk()?))
}

/// Every bit of both decides about every bit of the outcome's upper half (multiplication by the
/// golden ratio, Knuth, section 6.4).
fn mix(addresses: u64, ports: u32) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let once = (addresses ^ u64::from(ports)).wrapping_mul(GOLDEN);
    (((once ^ (once >> 32)).wrapping_mul(GOLDEN)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp4(source: u8, port: u16, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[0] = 0x45;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = UDP;
        packet[12..20].copy_from_slice(&[192, 0, 2, source, 192, 0, 2, 9]);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet
    }

    fn of(kind: u16, body: &[u8]) -> u32 {
        let mut ethernet = [0; 14];
        ethernet[12..].copy_from_slice(&kind.to_be_bytes());
        hash(&ethernet, body)
    }

    #[test]
    fn conversations_differ_and_spread() {
        for queues in [2, 3, 4, 8] {
            let mut counts = vec![0; queues as usize];
            for port in 1000..1800 {
                counts[(of(ethertype::IPV4, &udp4(1, port, 0)) % queues) as usize] += 1;
            }
            let fair = 800 / queues;
            assert!(counts.iter().all(|&n| n > fair * 3 / 4 && n < fair * 5 / 4), "{counts:?}");
        }
        assert_ne!(of(ethertype::IPV4, &udp4(1, 1000, 0)), of(ethertype::IPV4, &udp4(2, 1000, 0)));
        let mut six = [7; 60];
        six[6] = TCP;
        let one = of(ethertype::IPV6, &six);
        for at in [8, 15, 16, 24, 39, 40, 43] {
            six[at] ^= 1;
            assert_ne!(of(ethertype::IPV6, &six), one, "{at}");
            six[at] ^= 1;
        }
    }

    #[test]
    fn fragments_of_a_datagram_stay_together() {
        let first = of(ethertype::IPV4, &udp4(1, 1000, 0x2000));
        assert_eq!(of(ethertype::IPV4, &udp4(1, 7777, 0x0100)), first);
        assert_eq!(
            of(ethertype::IPV4, &udp4(1, 7777, 0x4000)),
            of(ethertype::IPV4, &udp4(1, 7777, 0))
        );
    }

    #[test]
    fn other_protocols_and_stumps_have_a_number_too() {
        let mut icmp = udp4(1, 1000, 0);
        icmp[9] = 1;
        let one = of(ethertype::IPV4, &icmp);
        icmp[20] ^= 1;
        assert_eq!(of(ethertype::IPV4, &icmp), one);
        assert_eq!(of(0x0806, &icmp), 0);
        for len in 0..60 {
            let (four, six) = (udp4(1, 1000, 0), [6; 60]);
            assert_eq!(of(ethertype::IPV4, &four[..len]) == 0, len < 20, "{len}");
            assert_eq!(of(ethertype::IPV6, &six[..len]) == 0, len < 40, "{len}");
        }
    }
}
