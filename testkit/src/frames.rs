//! Frames: building and taking apart what goes over the wire.
//!
//! Tests need frames that a kernel accepts (right lengths, right checksums) and frames that are
//! wrong in exactly one place. Everything is a plain function on byte vectors; nothing is hidden in
//! types. Two kinds are special:
//! - *tagged* frames use ethertype 0x88b5, which IEEE 802 keeps for local experiments, and carry a
//!   64-bit tag. No kernel answers them and no LAN noise looks like them, so a test always finds
//!   its own frame;
//! - *partial* frames carry only the pseudo-header's sum in the checksum field, as a guest leaves
//!   it when the device offers checksumming, with the virtio_net_hdr that says where it goes.
//!
//! What can go wrong: a UDP checksum of 0 means "none" and must be sent as 0xffff.
//!
//! References: RFC 826, 791, 768, 9293, 8200, 4861, 903; virtio 1.2, 5.1.6.2.

use crate::driver::VnetHdr;

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
pub const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
pub const ETH_RARP: u16 = 0x8035;
pub const ETH_VLAN: u16 = 0x8100;
pub const ETH_IPV6: u16 = 0x86dd;
pub const ETH_TAGGED: u16 = 0x88b5;

pub const NEEDS_CSUM: u8 = 1;
pub const GSO_TCPV4: u8 = 1;
pub const GSO_UDP: u8 = 3;

pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src[..], &ethertype.to_be_bytes(), payload].concat()
}

/// A frame of `len` bytes that only its test knows: the tag, then a pattern that shows where it was
/// cut.
pub fn tagged(dst: Mac, src: Mac, tag: u64, len: usize) -> Vec<u8> {
    let mut f = ethernet(dst, src, ETH_TAGGED, &tag.to_be_bytes());
    while f.len() < len {
        let at = f.len();
        f.push((at as u64 ^ (at as u64 >> 8) ^ tag) as u8);
    }
    f
}

/// The tag of a tagged frame.
pub fn tag_of(frame: &[u8]) -> Option<u64> {
    (frame.len() >= 22 && ethertype(frame) == ETH_TAGGED)
        .then(|| u64::from_be_bytes(frame[14..22].try_into().unwrap()))
}

pub fn vlan(frame: &[u8], id: u16) -> Vec<u8> {
    [&frame[..12], &ETH_VLAN.to_be_bytes(), &id.to_be_bytes(), &frame[12..]].concat()
}

pub fn ethertype(frame: &[u8]) -> u16 {
    if frame.len() < 14 { 0 } else { u16::from_be_bytes([frame[12], frame[13]]) }
}

pub fn dst(frame: &[u8]) -> Mac {
    frame[..6].try_into().unwrap()
}

pub fn src(frame: &[u8]) -> Mac {
    frame[6..12].try_into().unwrap()
}

pub fn arp(op: u16, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut p = vec![0, 1, 8, 0, 6, 4];
    p.extend(op.to_be_bytes());
    p.extend([&sender.0[..], &sender.1, &target.0, &target.1].concat());
    let to = if op == 1 { BROADCAST } else { target.0 };
    ethernet(to, sender.0, ETH_ARP, &p)
}

/// Ones' complement sum of the words, not yet inverted.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u32;
    for part in parts {
        for w in part.chunks(2) {
            total += u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)]));
        }
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn pseudo4(src: [u8; 4], dst: [u8; 4], proto: u8, len: usize) -> Vec<u8> {
    [&src[..], &dst, &[0, proto], &(len as u16).to_be_bytes()].concat()
}

fn pseudo6(src: [u8; 16], dst: [u8; 16], proto: u8, len: usize) -> Vec<u8> {
    [&src[..], &dst, &(len as u32).to_be_bytes(), &[0, 0, 0, proto]].concat()
}

pub fn ipv4(src: [u8; 4], dst: [u8; 4], proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x45, 0];
    h.extend(((20 + payload.len()) as u16).to_be_bytes());
    h.extend([0, 1, 0x40, 0, 64, proto, 0, 0]);
    h.extend(src);
    h.extend(dst);
    let c = !sum(&[&h]);
    h[10..12].copy_from_slice(&c.to_be_bytes());
    h.extend_from_slice(payload);
    h
}

pub fn ipv6(src: [u8; 16], dst: [u8; 16], proto: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x60, 0, 0, 0];
    h.extend((payload.len() as u16).to_be_bytes());
    h.extend([proto, hops]);
    h.extend(src);
    h.extend(dst);
    h.extend_from_slice(payload);
    h
}

/// One end of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub mac: Mac,
    pub ip: [u8; 4],
    pub port: u16,
}

fn udp_header(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut u = [from.to_be_bytes(), to.to_be_bytes()].concat();
    u.extend(((8 + data.len()) as u16).to_be_bytes());
    u.extend([0, 0]);
    u.extend_from_slice(data);
    u
}

fn tcp_header(from: u16, to: u16, seq: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut t = [from.to_be_bytes(), to.to_be_bytes()].concat();
    t.extend(seq.to_be_bytes());
    t.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    t.extend_from_slice(data);
    t
}

fn place(segment: &mut [u8], at: usize, pseudo: &[u8], partial: bool) {
    let c = if partial {
        sum(&[pseudo])
    } else {
        match !sum(&[pseudo, segment]) {
            0 => 0xffff,
            c => c,
        }
    };
    segment[at..at + 2].copy_from_slice(&c.to_be_bytes());
}

pub fn udp4(from: End, to: End, data: &[u8]) -> Vec<u8> {
    let mut u = udp_header(from.port, to.port, data);
    let pseudo = pseudo4(from.ip, to.ip, 17, u.len());
    place(&mut u, 6, &pseudo, false);
    ethernet(to.mac, from.mac, ETH_IPV4, &ipv4(from.ip, to.ip, 17, &u))
}

/// A UDP frame whose checksum the device has to complete.
pub fn udp4_partial(from: End, to: End, data: &[u8]) -> (VnetHdr, Vec<u8>) {
    let mut u = udp_header(from.port, to.port, data);
    let pseudo = pseudo4(from.ip, to.ip, 17, u.len());
    place(&mut u, 6, &pseudo, true);
    let frame = ethernet(to.mac, from.mac, ETH_IPV4, &ipv4(from.ip, to.ip, 17, &u));
    let hdr = VnetHdr { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..VnetHdr::default() };
    (hdr, frame)
}

pub fn tcp4(from: End, to: End, seq: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut t = tcp_header(from.port, to.port, seq, flags, data);
    let pseudo = pseudo4(from.ip, to.ip, 6, t.len());
    place(&mut t, 16, &pseudo, false);
    ethernet(to.mac, from.mac, ETH_IPV4, &ipv4(from.ip, to.ip, 6, &t))
}

/// A TCP segment of any size (up to 64 KiB) that the device has to cut into pieces of `mss` bytes.
pub fn tcp4_gso(from: End, to: End, seq: u32, mss: u16, data: &[u8]) -> (VnetHdr, Vec<u8>) {
    let mut t = tcp_header(from.port, to.port, seq, 0x18, data);
    let pseudo = pseudo4(from.ip, to.ip, 6, t.len());
    place(&mut t, 16, &pseudo, true);
    let frame = ethernet(to.mac, from.mac, ETH_IPV4, &ipv4(from.ip, to.ip, 6, &t));
    let hdr = VnetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: mss,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHdr::default()
    };
    (hdr, frame)
}

/// The address from MAC that SLAAC would give (fe80::/64).
pub fn link_local(mac: Mac) -> [u8; 16] {
    let mut ip = [0u8; 16];
    ip[..2].copy_from_slice(&[0xfe, 0x80]);
    ip[8..].copy_from_slice(&[mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]]);
    ip
}

/// What is in an IPv4 or IPv6 frame with UDP or TCP inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub proto: u8,
    pub ports: (u16, u16),
    /// TCP only.
    pub seq: u32,
    pub data: Vec<u8>,
    /// IP header (v4) and transport checksum are both right.
    pub sums_right: bool,
}

/// Takes an IP frame apart; None if it is no UDP or TCP or its lengths do not add up.
pub fn segment(frame: &[u8]) -> Option<Segment> {
    let (proto, ip_right, pseudo, body) = match ethertype(frame) {
        ETH_IPV4 => {
            let ip = frame.get(14..)?;
            let hlen = usize::from(*ip.first()? & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let body = ip.get(hlen..total)?;
            let (s, d) = (ip[12..16].try_into().ok()?, ip[16..20].try_into().ok()?);
            let right = sum(&[&ip[..hlen]]) == 0xffff;
            (ip[9], right, pseudo4(s, d, ip[9], body.len()), body)
        }
        ETH_IPV6 => {
            let ip = frame.get(14..)?;
            let total = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            let body = ip.get(40..40 + total)?;
            let (s, d) = (ip[8..24].try_into().ok()?, ip[24..40].try_into().ok()?);
            (ip[6], true, pseudo6(s, d, ip[6], body.len()), body)
        }
        _ => return None,
    };
    let head = match proto {
        17 => 8,
        6 => usize::from(*body.get(12)? >> 4) * 4,
        _ => return None,
    };
    let word = |i: usize| u16::from_be_bytes([body[i], body[i + 1]]);
    let data = body.get(head..)?.to_vec();
    let seq = if proto == 6 { u32::from_be_bytes(body.get(4..8)?.try_into().ok()?) } else { 0 };
    let sums_right = ip_right && sum(&[&pseudo, body]) == 0xffff;
    Some(Segment { proto, ports: (word(0), word(2)), seq, data, sums_right })
}

pub fn mac_text(mac: Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}
