//! Frames that leave work undone, of every kind that virtio 1.2 knows.
//!
//! A [`Shape`] says what a frame is made of; [`Shape::build`] makes it as a Linux guest would:
//! right lengths, the pseudo-header's sum in the checksum field, and the header that asks for the
//! rest. What it carries is a fixed pattern, so a failure happens again.
//!
//! What can go wrong: with a routing header the pseudo-header has the last hop's address. The one
//! here has no hops left, so that IPv6's destination is the last one (RFC 8200, section 8.1).

/// A header and the frame behind it.
pub type Stimulus = ([u8; 12], Vec<u8>);

pub const TSO4: u8 = 1;
pub const UFO: u8 = 3;
pub const TSO6: u8 = 4;
pub const USO: u8 = 5;
pub const ECN: u8 = 0x80;

/// Hop-by-hop options that are padding, 8 bytes.
pub const HOP_BY_HOP: (u8, &[u8]) = (0, &[0, 1, 4, 0, 0, 0, 0]);
/// A routing header (type 253, for experiments) without hops left, 16 bytes.
pub const ROUTING: (u8, &[u8]) = (43, &[1, 253, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
/// Destination options that are padding, 8 bytes.
pub const DESTINATION: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);

/// What a frame is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    pub v6: bool,
    /// TCP, else UDP.
    pub tcp: bool,
    /// Ethertypes of the VLAN tags, the outermost first.
    pub tags: &'static [u16],
    /// IPv4 options, a multiple of 4 bytes.
    pub options: &'static [u8],
    /// IPv6 extension headers: the type, and what stands behind the next-header byte.
    pub chain: &'static [(u8, &'static [u8])],
    /// TCP options, a multiple of 4 bytes.
    pub tcp_options: &'static [u8],
    /// TCP flags.
    pub flags: u8,
    /// Bytes carried.
    pub data: usize,
    /// The header's kind and size of segmentation.
    pub gso: u8,
    pub size: u16,
    /// Whether the checksum is left undone.
    pub partial: bool,
    /// Bytes of Ethernet padding behind the packet.
    pub padding: usize,
}

impl Shape {
    /// A frame without anything special, its checksum left undone.
    pub fn new(v6: bool, tcp: bool, data: usize) -> Shape {
        Shape {
            v6,
            tcp,
            tags: &[],
            options: &[],
            chain: &[],
            tcp_options: &[],
            flags: 0x18,
            data,
            gso: 0,
            size: 0,
            partial: true,
            padding: 0,
        }
    }

    /// The same, to be cut.
    pub fn cut(self, gso: u8, size: u16) -> Shape {
        Shape { gso, size, ..self }
    }

    /// Length of the headers before TCP or UDP, in bytes.
    pub fn l4(&self) -> usize {
        let chain: usize = self.chain.iter().map(|(_, body)| 1 + body.len()).sum();
        14 + 4 * self.tags.len() + if self.v6 { 40 + chain } else { 20 + self.options.len() }
    }

    /// The header and the frame.
    pub fn build(&self) -> Stimulus {
        let protocol = if self.tcp { 6 } else { 17 };
        let mut l4 = self.transport();
        let field = if self.tcp { 16 } else { 6 };
        let addresses: Vec<u8> = match self.v6 {
            false => vec![192, 0, 2, 1, 198, 51, 100, 7],
            true => [[0x20, 1, 0xd, 0xb8, 1], [0x20, 1, 0xd, 0xb8, 2]]
                .iter()
                .flat_map(|net| [&net[..], &[0xab; 11]].concat())
                .collect(),
        };
        let length = (l4.len() as u16).to_be_bytes();
        let pseudo = [&addresses[..], &length, &[0, protocol]].concat();
        let sum = if self.partial { sum(&pseudo) } else { !sum(&[&pseudo[..], &l4].concat()) };
        l4[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (number, tag) in self.tags.iter().enumerate() {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x20, 5 + number as u8]);
        }
        if self.v6 {
            self.ipv6(&mut frame, protocol, &addresses, l4.len());
        } else {
            self.ipv4(&mut frame, protocol, &addresses, l4.len());
        }
        assert_eq!(frame.len(), self.l4());
        frame.extend(l4);
        frame.extend(vec![0xee; self.padding]);
        (self.header(field), frame)
    }

    fn header(&self, field: usize) -> [u8; 12] {
        let mut header = [0; 12];
        header[1] = self.gso;
        header[4..6].copy_from_slice(&self.size.to_le_bytes());
        if self.gso != 0 {
            let length = self.l4() + if self.tcp { 20 + self.tcp_options.len() } else { 8 };
            header[2..4].copy_from_slice(&(length as u16).to_le_bytes());
        }
        if self.partial {
            header[0] = 1;
            header[6..8].copy_from_slice(&(self.l4() as u16).to_le_bytes());
            header[8] = field as u8;
        }
        header
    }

    fn transport(&self) -> Vec<u8> {
        let mut l4 = vec![0x30, 0x39, 0, 80];
        if self.tcp {
            // Near the end of the sequence numbers: they wrap.
            l4.extend([0xff, 0xff, 0xf0, 0, 1, 2, 3, 4]);
            l4.extend([(5 + self.tcp_options.len() as u8 / 4) << 4, self.flags, 1, 0, 0, 0, 0, 9]);
            l4.extend(self.tcp_options);
        } else {
            l4.extend(((8 + self.data) as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        let mut state = 1u32;
        l4.extend((0..self.data).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }));
        l4
    }

    fn ipv4(&self, frame: &mut Vec<u8>, protocol: u8, addresses: &[u8], l4: usize) {
        frame.extend([8, 0]);
        let start = frame.len();
        let length = 20 + self.options.len();
        frame.extend([0x40 | (length / 4) as u8, 0xb8]);
        frame.extend(((length + l4) as u16).to_be_bytes());
        // The identification wraps; "don't fragment".
        frame.extend([0xff, 0xfe, 0x40, 0, 63, protocol, 0, 0]);
        frame.extend(addresses);
        frame.extend(self.options);
        let checksum = !sum(&frame[start..]);
        frame[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn ipv6(&self, frame: &mut Vec<u8>, protocol: u8, addresses: &[u8], l4: usize) {
        frame.extend([0x86, 0xdd, 0x6b, 0x81, 0x23, 0x45]);
        let chain: usize = self.chain.iter().map(|(_, body)| 1 + body.len()).sum();
        frame.extend(((chain + l4) as u16).to_be_bytes());
        let kinds: Vec<u8> = self.chain.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
        frame.extend([kinds[0], 61]);
        frame.extend(addresses);
        for ((_, body), next) in self.chain.iter().zip(&kinds[1..]) {
            frame.push(*next);
            frame.extend(*body);
        }
    }
}

/// The ones' complement sum, in the plainest way.
pub fn sum(bytes: &[u8]) -> u16 {
    let word = |word: &[u8]| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
    let total: u32 = bytes.chunks(2).map(word).sum();
    let once = (total & 0xffff) + (total >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// The frames of the big comparison.
pub fn all() -> Vec<Shape> {
    let timestamps: &[u8] = &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let router_alert: &[u8] = &[0x94, 4, 0, 0];
    let chains: [&[(u8, &[u8])]; 3] =
        [&[HOP_BY_HOP], &[DESTINATION], &[HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION]];
    let mut plain = Vec::new();
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        // One segment, an even number, a remainder of 1, odd lengths; near 64 KiB.
        for data in [0, 1, 100, 1000, 2000, 2001, 3456, 4999, 65_000] {
            plain.push(Shape { flags: 0x99, ..Shape::new(v6, tcp, data) });
        }
        for data in [3000, 3001] {
            plain.push(Shape { tags: &[0x8100], ..Shape::new(v6, tcp, data) });
            plain.push(Shape { tags: &[0x88a8, 0x8100], ..Shape::new(v6, tcp, data) });
            plain.push(Shape { tcp_options: timestamps, ..Shape::new(v6, tcp, data) });
        }
        if v6 {
            plain.extend(chains.map(|chain| Shape { chain, ..Shape::new(v6, tcp, 3210) }));
            let tags = &[0x8100];
            plain.extend(chains.map(|chain| Shape { chain, tags, ..Shape::new(v6, tcp, 3210) }));
        } else {
            plain.push(Shape { options: router_alert, ..Shape::new(v6, tcp, 3333) });
        }
    }
    let mut all = Vec::new();
    for shape in plain {
        let kinds: &[u8] = match (shape.tcp, shape.v6) {
            (true, false) => &[TSO4, TSO4 | ECN],
            (true, true) => &[TSO6, TSO6 | ECN],
            (false, _) => &[UFO, USO],
        };
        all.push(Shape { partial: false, ..shape.clone() });
        all.push(shape.clone());
        for (kind, size) in kinds.iter().flat_map(|kind| [(*kind, 1000), (*kind, 1448)]) {
            all.push(shape.clone().cut(kind, size));
        }
    }
    all
}
