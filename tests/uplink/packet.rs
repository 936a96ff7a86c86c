//! Frames through an AF_PACKET queue on the parent: both ways, large, tagged, filtered, counted.
//!
//! The other end of the veth pair is a queue of the same kind where a frame needs a header to be
//! sent, and a plain socket (`frames::Wire`) where the exact frame on the wire matters.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::PacketQueue;
use vhost_user_macvtap::uplink::send_frame::SEND_HEADER;
use vhost_user_macvtap::uplink::send_frame::SendFrame;
use vhost_user_macvtap::uplink::wire::Uplink;
use vhost_user_macvtap::virtqueue::guest_slice::GuestSlice;

use crate::frames::{TYPE, Wire};
use crate::world::{MAC, World, frame, poll_until, sockets};
use testkit::driver::VnetHdr;
use testkit::frames::{self as craft, End};

/// The guest of these tests has the usual address.
pub const GUEST: End = End { mac: MAC.0, ip: [192, 0, 2, 9], port: 4000 };
/// A machine on the wire.
pub const FAR: End = End { mac: [2, 0, 0, 0, 0, 0x42], ip: [192, 0, 2, 2], port: 5000 };
/// For what must come, however late.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A frame as it was received, in one piece.
#[derive(Clone, Debug)]
pub struct Got {
    pub header: VnetHdr,
    pub frame: Vec<u8>,
    pub hash: u32,
}

/// A queue on a device of the calling thread's namespace.
pub fn open(device: &str, admit: SocketFilter) -> PacketQueue {
    PacketQueue::open(index(device), admit, sockets()).unwrap()
}

pub fn index(device: &str) -> u32 {
    Netlink::open().unwrap().link_by_name(device).unwrap().unwrap().index
}

/// Takes the waiting frames, at most `budget`.
pub fn take(queue: &mut PacketQueue, budget: usize) -> (Vec<Got>, bool) {
    let mut all = Vec::new();
    let batch = queue.receive(budget);
    for got in batch.frames {
        let header = VnetHdr::parse(&got.header);
        all.push(Got { header, frame: [&*got.head, got.body].concat(), hash: got.hash });
    }
    (all, batch.more)
}

/// Receives for up to `time`, until `wanted` accepts a frame.
pub fn wait_for(
    queue: &mut PacketQueue,
    time: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Option<Got> {
    poll_until(time, || take(queue, 10_000).0.into_iter().find(|got| wanted(&got.frame)))
}

pub fn send(queue: &PacketQueue, (header, frame): &(VnetHdr, Vec<u8>)) {
    let header = header.bytes();
    let short: &[u8; SEND_HEADER] = header.first_chunk().unwrap();
    queue.send_with_header(short, frame).unwrap();
}

fn is_test_frame(frame: &[u8]) -> bool {
    frame[12..14] == TYPE.to_be_bytes()
}

#[test]
fn frames_pass_both_ways() {
    let world = World::new();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let wire = Wire::open(&mut Netlink::open().unwrap());
        let out = frame(Mac(FAR.mac), MAC, TYPE, b"out");
        queue.send_one(&out).unwrap();
        assert!(wire.receive(ARRIVAL, |found| found == out).is_some());

        let back = frame(MAC, Mac(FAR.mac), TYPE, b"back");
        wire.send(&back);
        let got = wait_for(&mut queue, ARRIVAL, |found| found == back).unwrap();
        assert_eq!(got.header, VnetHdr::default());
        // IP has a hash.
        wire.send(&craft::udp4(FAR, GUEST, b"hash me"));
        let got = wait_for(&mut queue, ARRIVAL, |found| found.ends_with(b"hash me")).unwrap();
        assert_ne!(got.hash, 0);
        assert_eq!(queue.losses().unwrap(), Default::default());
    });
}

#[test]
fn messages_in_pieces_and_their_refusals() {
    let world = World::new();
    world.enter(|| {
        let queue = open("p0", SocketFilter::Guests);
        let wire = Wire::open(&mut Netlink::open().unwrap());
        let frames: Vec<_> = (0..3).map(|n| frame(Mac(FAR.mac), MAC, TYPE, &[n; 200])).collect();
        let header = [0u8; SEND_HEADER];
        let pieces: Vec<_> = frames
            .iter()
            .map(|frame| [&header[..], &frame[..20], &frame[20..]].map(GuestSlice::from))
            .collect();
        let mut messages: Vec<_> = pieces.iter().map(|pieces| SendFrame::new(pieces)).collect();
        assert_eq!(queue.send(&mut messages).unwrap(), 3);
        for wanted in &frames {
            assert!(wire.receive(ARRIVAL, |found| found == *wanted).is_some());
        }
        let refusal = |header: &[u8; SEND_HEADER], frame: &[u8]| {
            queue.send_with_header(header, frame).unwrap_err().raw_os_error()
        };
        let long = frame(Mac(FAR.mac), MAC, TYPE, &[0; 1501]);
        assert_eq!(refusal(&header, &long), Some(libc::EMSGSIZE));
        assert_eq!(refusal(&header, &long[..13]), Some(libc::EINVAL));
        // A kind of segmentation that does not exist.
        let nonsense = [0, 2, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(refusal(&nonsense, &long[..1000]), Some(libc::EINVAL));
    });
}

#[test]
fn a_large_segment_leaves_whole_and_is_cut_by_the_device() {
    let world = World::new();
    // Nothing that the device could do itself: the kernel cuts and completes before it.
    world.ethtool("-K p0 tso off gso off tx off");
    world.enter(|| {
        let queue = open("p0", SocketFilter::Guests);
        let wire = Wire::open(&mut Netlink::open().unwrap());
        let data: Vec<u8> = (0..65_000u32).map(|n| (n % 251) as u8).collect();
        send(&queue, &craft::tcp4_gso(GUEST, FAR, 1000, 1448, &data));
        let mut found = vec![0u8; data.len()];
        let mut bytes = 0;
        while bytes < data.len() {
            let segment = wire.receive(ARRIVAL, |found| craft::segment(found).is_some()).unwrap();
            assert!(segment.len() <= 1514);
            let segment = craft::segment(&segment).unwrap();
            assert!(segment.sums_right);
            let at = segment.seq as usize - 1000;
            found[at..at + segment.data.len()].copy_from_slice(&segment.data);
            bytes += segment.data.len();
        }
        assert_eq!(found, data);
    });
}

#[test]
fn a_large_segment_arrives_whole_with_its_header() {
    let world = World::new();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let far = open("w0", SocketFilter::Everything);
        for size in [4000, 65_000] {
            let (header, sent) = craft::tcp4_gso(FAR, GUEST, 1, 1448, &vec![7; size]);
            send(&far, &(header, sent.clone()));
            let got = wait_for(&mut queue, ARRIVAL, |found| found == sent).unwrap();
            assert_eq!((got.header.flags, got.header.gso_type), (1, craft::GSO_TCPV4));
            assert_eq!((got.header.csum_start, got.header.csum_offset), (34, 16));
            assert_eq!((got.header.gso_size, got.header.num_buffers), (1448, 0));
        }
        assert_eq!(queue.losses().unwrap(), Default::default());
    });
}

#[test]
fn tags_return_and_the_checksum_is_found_behind_them() {
    let world = World::new();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let far = open("w0", SocketFilter::Everything);
        let (partial, plain) = craft::udp4_partial(FAR, GUEST, b"tagged");
        for tags in [&[5][..], &[0], &[0x6000 | 5], &[5, 7]] {
            let sent = tags.iter().rev().fold(plain.clone(), |frame, id| craft::vlan(&frame, *id));
            let start = 34 + 4 * tags.len() as u16;
            // Sent behind the tags, since the sender counts from the frame's start as well.
            send(&far, &(VnetHdr { csum_start: start, ..partial }, sent.clone()));
            let got = wait_for(&mut queue, ARRIVAL, |found| found.ends_with(b"tagged")).unwrap();
            assert_eq!(got.frame, sent, "{tags:?}");
            assert_eq!((got.header.flags, got.header.csum_start), (1, start), "{tags:?}");
            assert_eq!(got.header.csum_offset, 6);
        }
        // A service tag (802.1ad) outside.
        let mut sent = craft::vlan(&craft::vlan(&plain, 7), 5);
        sent[12..14].copy_from_slice(&[0x88, 0xa8]);
        send(&far, &(VnetHdr { csum_start: 42, ..partial }, sent.clone()));
        let got = wait_for(&mut queue, ARRIVAL, |found| found.ends_with(b"tagged")).unwrap();
        assert_eq!((got.frame, got.header.csum_start), (sent, 42));
        // A large one: the header's length moves too.
        let (header, plain) = craft::tcp4_gso(FAR, GUEST, 1, 1448, &[7; 4000]);
        let sent = craft::vlan(&plain, 5);
        send(&far, &(VnetHdr { csum_start: 38, hdr_len: 58, ..header }, sent.clone()));
        let got = wait_for(&mut queue, ARRIVAL, |found| found == sent).unwrap();
        assert_eq!((got.header.csum_start, got.header.gso_size), (38, 1448));
        assert!(got.header.hdr_len >= 58, "{:?}", got.header);
    });
}

#[test]
fn what_is_the_hosts_is_not_copied() {
    let world = World::new();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let wire = Wire::open(&mut Netlink::open().unwrap());
        let host: Mac = world.mac_of("p0").parse().unwrap();
        let to = |mac, text: &[u8]| frame(mac, Mac(FAR.mac), TYPE, text);
        let all = [
            to(host, b"host"),
            to(MAC, b"other"),
            to(Mac::BROADCAST, b"all"),
            to(Mac([1, 0, 0x5e, 1, 2, 3]), b"group"),
        ];
        // Frames that leave by the parent: another socket's.
        let other = open("p0", SocketFilter::Guests);
        let outgoing = frame(Mac::BROADCAST, host, TYPE, b"outgoing");
        let last = to(Mac::BROADCAST, b"last");
        for (admit, from) in
            [(SocketFilter::Guests, 1), (SocketFilter::Everything, 0), (SocketFilter::Guests, 1)]
        {
            queue.set_admit(admit).unwrap();
            other.send_one(&outgoing).unwrap();
            all.iter().chain([&last]).for_each(|sent| wire.send(sent));
            let mut found = Vec::new();
            let end = poll_until(ARRIVAL, || {
                let got = take(&mut queue, 1000).0.into_iter().map(|got| got.frame);
                found.extend(got.filter(|frame| is_test_frame(frame)));
                found.contains(&last).then_some(())
            });
            assert!(end.is_some());
            assert_eq!(found[..found.len() - 1], all[from..], "{admit:?}");
        }
    });
}

/// The queue reports a frame that no virtio-net header describes as an error of the next call. That
/// loses neither its neighbours nor a frame that is sent. A tap takes old-style UDP segmentation,
/// which is such.
#[test]
fn a_frame_without_a_description_takes_no_other_with_it() {
    let world = World::new();
    world.enter(|| {
        let tap = tap("t0");
        std::fs::write("/proc/sys/net/ipv6/conf/t0/disable_ipv6", "1").unwrap();
        world.ip("link set t0 up");
        let mut queue = open("t0", SocketFilter::Guests);
        let write = |header: VnetHdr, frame: &[u8]| {
            let whole = [&header.bytes()[..SEND_HEADER], frame].concat();
            assert_eq!(nix::unistd::write(&tap, &whole).unwrap(), whole.len());
        };
        let (partial, large) = craft::udp4_partial(FAR, GUEST, &[7; 4000]);
        let ufo = VnetHdr { gso_type: craft::GSO_UDP, hdr_len: 42, gso_size: 1400, ..partial };
        let (mut sent, mut found) = (Vec::new(), Vec::new());
        for n in 0..150u8 {
            let fine = frame(MAC, Mac(FAR.mac), TYPE, &[n]);
            // First, last, two in a row, many.
            let (before, after) = (n % 3, n % 4);
            (0..before).for_each(|_| write(ufo, &large));
            write(VnetHdr::default(), &fine);
            (0..after).for_each(|_| write(ufo, &large));
            sent.push(fine);
            if n % 5 == 0 {
                found.extend(take(&mut queue, 1).0.into_iter().map(|got| got.frame));
                queue.send_one(&frame(Mac(FAR.mac), MAC, TYPE, b"out")).unwrap();
            }
            let mut end = false;
            while !end {
                let (got, more) = take(&mut queue, 1000);
                found.extend(got.into_iter().map(|got| got.frame));
                end = !more && found.len() == sent.len();
            }
        }
        // The frames behind the last one.
        while take(&mut queue, 1000).1 {}
        assert_eq!(found, sent);
        let undescribed = (0..150).map(|n| n % 3 + n % 4).sum();
        let losses = queue.losses().unwrap();
        assert_eq!((losses.dropped, losses.truncated, losses.unusable), (0, 0, undescribed));
        assert_eq!(queue.take_error(), None);
    });
}

/// A tap device and its other end, with a virtio-net header of 10 bytes.
fn tap(name: &str) -> OwnedFd {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: plain numbers in every variant of its union.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF takes an ifreq, which outlives the call.
    assert_eq!(unsafe { libc::ioctl(file.as_raw_fd(), 0x4004_54ca, &raw mut request) }, 0);
    file.into()
}

#[test]
fn a_budget_ends_a_call_and_the_next_goes_on() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let wire = Wire::open(&mut Netlink::open().unwrap());
        let (got, more) = take(&mut queue, 10);
        assert_eq!((got.len(), more), (0, false));
        for n in 0..100u8 {
            wire.send(&frame(MAC, Mac(FAR.mac), TYPE, &[n]));
        }
        let mut found: Vec<u8> = Vec::new();
        poll_until(ARRIVAL, || {
            let (got, _) = take(&mut queue, 7);
            assert!(got.len() <= 7);
            found.extend(got.iter().map(|got| got.frame[14]));
            (found.len() == 100).then_some(())
        });
        assert_eq!(found, (0..100).collect::<Vec<u8>>());
        assert_eq!(queue.losses().unwrap(), Default::default());
    });
}
