//! Frames as machines send them: what the seeds are made of.

/// An Ethernet frame from 02:00:00:00:00:01 with these tags, each with VLAN 5.
pub fn ethernet(dst: [u8; 6], tags: &[u16], ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = [&dst[..], &[2, 0, 0, 0, 0, 1]].concat();
    for tag in tags {
        frame.extend([&tag.to_be_bytes()[..], &[0, 5]].concat());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame
}

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2 without options.
pub fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    let total = ((20 + body.len()) as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, protocol, 0, 0];
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(body);
    packet
}

/// An IPv6 packet.
pub fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]);
    packet.extend(body);
    packet
}

/// A TCP segment with so many bytes of payload.
pub fn tcp(payload: usize) -> Vec<u8> {
    let mut segment = vec![0, 80, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    segment.extend((0..payload).map(|at| at as u8));
    segment
}

/// A UDP datagram with so many bytes of payload.
pub fn udp(payload: usize) -> Vec<u8> {
    let length = ((8 + payload) as u16).to_be_bytes();
    let mut datagram = vec![0, 7, 0, 9, length[0], length[1], 0x12, 0x34];
    datagram.extend((0..payload).map(|at| at as u8));
    datagram
}
