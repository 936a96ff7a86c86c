//! Large and unfinished frames, end to end: a receiver that accepts a guest's unfinished frame gets
//! it as it is; all others get it finished.
//!
//! `tests/offload/main.rs` judges the arithmetic. These tests take the whole way, from one guest's
//! ring to another's or to the wire. The LAN's side is the program's own packet queue, because it
//! keeps VLAN tags and reports which frames are unfinished.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vhost_user_macvtap::host::packet_socket;
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::{PacketQueue, PacketSockets};
use vhost_user_macvtap::uplink::send_frame::SEND_HEADER;
use vhost_user_macvtap::uplink::wire::Uplink;

use testkit::driver::*;
use testkit::exchange::{in_netns, noise};
use testkit::frames::{self, End, Mac, Segment};
use testkit::netns::{World, require};
use testkit::rig::{ARRIVAL, LAN_MAC, SECOND, SILENCE};
use testkit::userspace::{Bench, Guest, mac};
use testkit::vmm::{Guest as Wishes, QemuOptions};

const MSS: u16 = 1400;
/// With its headers, nearly all that an IPv4 packet can hold.
const LARGE: usize = 65_000;
const TAG: u16 = 5;

fn end(mac: Mac) -> End {
    End { mac, ip: [10, 9, mac[3], mac[5]], port: 7 }
}

/// The LAN, with headers and tags.
struct FarEnd(RefCell<PacketQueue>);

impl FarEnd {
    fn open(world: &World) -> FarEnd {
        FarEnd(RefCell::new(in_netns(&world.lan, || {
            let index = nix::net::if_::if_nametoindex("eth0").unwrap();
            let (receive, send) =
                (packet_socket::receiving().unwrap(), packet_socket::sending().unwrap());
            let sockets = PacketSockets { receive, send };
            PacketQueue::open(index, SocketFilter::Everything, sockets).unwrap()
        })))
    }

    fn send(&self, header: &VnetHdr, frame: &[u8]) {
        let header: [u8; SEND_HEADER] = header.bytes()[..SEND_HEADER].try_into().unwrap();
        self.0.borrow().send_with_header(&header, frame).expect("the LAN's frame");
    }

    /// Frames from this address until as much payload has come, or none for a second.
    fn receive(&self, from: Mac, payload: usize) -> Vec<(VnetHdr, Vec<u8>)> {
        let mut all = Vec::new();
        let deadline = Instant::now() + SECOND;
        while payload_of(&all) < payload && Instant::now() < deadline {
            let queue = self.0.borrow();
            poll(&mut [PollFd::new(queue.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20u8))
                .unwrap();
            drop(queue);
            for received in self.0.borrow_mut().receive(64).frames {
                let frame = [&received.head[..], received.body].concat();
                // Without the frames by which the bench has found its guests.
                if frames::src(&frame) == from && frames::ethertype(&frame) != frames::ETH_TAGGED {
                    all.push((VnetHdr::parse(&received.header), frame));
                }
            }
        }
        all
    }
}

/// The frame without its tag, if it has this one.
fn untagged(frame: &[u8]) -> Option<Vec<u8>> {
    let tagged = frames::ethertype(frame) == frames::ETH_VLAN && frame[14..16] == TAG.to_be_bytes();
    tagged.then(|| [&frame[..12], &frame[16..]].concat())
}

fn segment_of(frame: &[u8]) -> Option<Segment> {
    frames::segment(&untagged(frame).unwrap_or_else(|| frame.to_vec()))
}

fn payload_of(all: &[(VnetHdr, Vec<u8>)]) -> usize {
    all.iter().filter_map(|(_, frame)| segment_of(frame)).map(|segment| segment.data.len()).sum()
}

/// Finished segments that make up the data: none too long, each with a right checksum, in order.
fn are_segments(all: &[(VnetHdr, Vec<u8>)], seq: u32, data: &[u8], what: &str) {
    let mut at = 0;
    for (header, frame) in all {
        assert_eq!((header.flags & NEEDS_CSUM, header.gso_type), (0, 0), "{what}: unfinished");
        let segment = segment_of(frame).unwrap_or_else(|| panic!("{what}: no segment"));
        assert!(segment.sums_right, "{what}: a wrong checksum at {at}");
        assert!(segment.data.len() <= usize::from(MSS), "{what}: {} bytes", segment.data.len());
        assert_eq!(segment.seq, seq.wrapping_add(at as u32), "{what}: sequence number");
        assert!(data[at..].starts_with(&segment.data), "{what}: data at {at}");
        at += segment.data.len();
    }
    assert_eq!(at, data.len(), "{what}: bytes that have come");
}

const NEEDS_CSUM: u8 = frames::NEEDS_CSUM;

/// TCP and UDP frames from this address that a guest gets, until it is silent.
fn received(guest: &mut Guest, from: Mac) -> Vec<(VnetHdr, Vec<u8>)> {
    let ours = |f: &[u8]| frames::src(f) == from && segment_of(f).is_some();
    let mut all = Vec::new();
    let mut patience = SECOND;
    while let Some(frame) = guest.recv_where(patience, ours) {
        all.push((frame.hdr, frame.bytes));
        patience = SILENCE;
    }
    all
}

/// A guest that takes nothing but finished frames, in one buffer each.
fn plain() -> QemuOptions {
    let guest = Wishes { features: F_VERSION_1, ..Wishes::default() };
    QemuOptions { guest, ..Default::default() }
}

/// Two able guests, a plain one, and a LAN to which the parent sends nothing unfinished.
fn bench() -> (Bench, Guest, Guest, Guest, FarEnd) {
    require(&[("ethtool", "ethtool")]);
    let world = World::new();
    world.host.sh("ethtool -K eth0 tso off gso off tx off");
    let far = FarEnd::open(&world);
    let bench = Bench::in_world(world, &[0, 1, 2].map(testkit::userspace::mac_key), &[]);
    let (one, able) = (bench.guest(0), bench.guest(1));
    let plain = bench.guest_with(2, mac(2), &plain());
    (bench, one, able, plain, far)
}

fn large(from: Mac, to: Mac, seed: u64) -> (VnetHdr, Vec<u8>, Vec<u8>) {
    let data = noise(LARGE, seed);
    let (header, frame) = frames::tcp4_gso(end(from), end(to), 1000, MSS, &data);
    (header, frame, data)
}

#[test]
fn a_large_frame_reaches_an_able_sibling_in_one_piece_with_its_header() {
    let (bench, mut one, mut able, _plain, _far) = bench();
    assert!(able.driver.has(F_GUEST_TSO4 | F_MRG_RXBUF) && one.driver.has(F_HOST_TSO4 | F_CSUM));
    for seed in 1..4 {
        let (header, frame, _) = large(one.mac, able.mac, seed);
        one.driver.send_with(0, &header, &frame);
        let ours = |f: &[u8]| frames::src(f) == mac(0);
        let found = able.recv_where(ARRIVAL, ours).expect("the large frame");
        assert!(found.bytes == frame, "changed on its way");
        // 64 KiB in buffers of 2 KiB.
        assert!(found.buffers > 30, "{} buffers", found.buffers);
        let num_buffers = found.hdr.num_buffers;
        assert_eq!(found.hdr, VnetHdr { num_buffers, ..header });
    }
    assert_eq!(bench.dropped_for(1, "cannot be repaired"), 0);
}

#[test]
fn a_large_frame_reaches_a_plain_sibling_in_segments_with_right_checksums() {
    let (bench, mut one, _able, mut plain, _far) = bench();
    assert!(!plain.driver.has(F_GUEST_TSO4) && !plain.driver.has(F_GUEST_CSUM));
    for seed in 1..4 {
        let (header, frame, data) = large(one.mac, plain.mac, seed);
        one.driver.send_with(0, &header, &frame);
        let all = received(&mut plain, one.mac);
        are_segments(&all, 1000, &data, "a plain sibling");
        assert!(all.iter().all(|(_, f)| f.len() <= 1514));
    }
    let (header, frame) = frames::udp4_partial(end(mac(0)), end(mac(2)), b"to be summed");
    one.driver.send_with(0, &header, &frame);
    are_summed(&received(&mut plain, mac(0)), b"to be summed");
    assert_eq!(bench.dropped_for(2, "cannot be repaired"), 0);
}

fn are_summed(all: &[(VnetHdr, Vec<u8>)], data: &[u8]) {
    let [(header, frame)] = all else { panic!("{} frames", all.len()) };
    assert_eq!((header.flags & NEEDS_CSUM, header.gso_type), (0, 0), "unfinished");
    let segment = segment_of(frame).expect("a datagram");
    assert!(segment.sums_right, "a wrong checksum");
    assert_eq!(segment.data, data);
}

#[test]
fn a_large_frame_reaches_a_lan_without_offloads_in_segments_with_right_checksums() {
    let (bench, mut one, _able, _plain, far) = bench();
    for seed in 1..4 {
        let (header, frame, data) = large(one.mac, LAN_MAC, seed);
        one.driver.send_with(0, &header, &frame);
        let all = far.receive(one.mac, data.len());
        are_segments(&all, 1000, &data, "the LAN");
        assert!(all.iter().all(|(_, f)| f.len() <= 1514));
    }
    assert_eq!(bench.dropped_for(0, "refused by the kernel"), 0);
}

#[test]
fn a_large_frame_of_the_lan_comes_whole_to_an_able_guest_and_in_segments_to_a_plain_one() {
    let (bench, _one, mut able, mut plain, far) = bench();
    for seed in 1..4 {
        let (header, frame, data) = large(LAN_MAC, able.mac, seed);
        far.send(&header, &frame);
        let ours = |f: &[u8]| frames::src(f) == LAN_MAC && f.len() > 60;
        let found = able.recv_where(ARRIVAL, ours).expect("the large frame");
        assert!(found.bytes == frame, "changed on its way");
        assert_eq!((found.hdr.gso_type, found.hdr.gso_size), (header.gso_type, MSS));
        assert_eq!((found.hdr.csum_start, found.hdr.csum_offset), (34, 16));

        let (header, frame, _) = large(LAN_MAC, plain.mac, seed);
        far.send(&header, &frame);
        are_segments(&received(&mut plain, LAN_MAC), 1000, &data, "a plain guest");
    }
    assert_eq!(bench.dropped_for(2, "cannot be repaired"), 0);
}

/// The tag moves everything by four bytes: where the checksum starts, and how long the headers are.
#[test]
fn tagged_frames_pass_both_ways_with_their_tags_large_and_unfinished_ones_too() {
    let (bench, mut one, mut able, mut plain, far) = bench();
    let behind = |(header, frame): (VnetHdr, Vec<u8>)| {
        let hdr_len = if header.hdr_len == 0 { 0 } else { header.hdr_len + 4 };
        let header = VnetHdr { csum_start: header.csum_start + 4, hdr_len, ..header };
        (header, frames::vlan(&frame, TAG))
    };
    let partial = |from, to| behind(frames::udp4_partial(end(from), end(to), b"behind a tag"));
    let tags = |all: &[(VnetHdr, Vec<u8>)]| all.iter().all(|(_, f)| untagged(f).is_some());

    // To the LAN.
    let (header, frame) = partial(one.mac, LAN_MAC);
    one.driver.send_with(0, &header, &frame);
    let all = far.receive(one.mac, 12);
    are_summed(&all, b"behind a tag");
    assert!(tags(&all), "the tag is gone");
    let (header, frame, data) = large(one.mac, LAN_MAC, 9);
    let (header, frame) = behind((header, frame));
    one.driver.send_with(0, &header, &frame);
    let all = far.receive(one.mac, data.len());
    are_segments(&all, 1000, &data, "tagged, to the LAN");
    assert!(tags(&all), "the tag is gone");

    // From the LAN: finished; unfinished for a guest that accepts it so, and for one that does not.
    let finished = frames::vlan(&frames::udp4(end(LAN_MAC), end(able.mac), b"behind a tag"), TAG);
    far.send(&VnetHdr::default(), &finished);
    let all = received(&mut able, LAN_MAC);
    assert!(all.len() == 1 && all[0].1 == finished, "{all:?}");
    let (header, frame) = partial(LAN_MAC, able.mac);
    far.send(&header, &frame);
    let all = received(&mut able, LAN_MAC);
    let [(found, bytes)] = &all[..] else { panic!("{} frames", all.len()) };
    assert!(*bytes == frame, "changed on its way");
    assert_eq!((found.flags, found.csum_start, found.csum_offset), (NEEDS_CSUM, 38, 6));
    let (header, frame) = partial(LAN_MAC, plain.mac);
    far.send(&header, &frame);
    let all = received(&mut plain, LAN_MAC);
    are_summed(&all, b"behind a tag");
    assert!(tags(&all), "the tag is gone");

    // Between guests.
    let (header, frame) = partial(one.mac, plain.mac);
    one.driver.send_with(0, &header, &frame);
    let all = received(&mut plain, one.mac);
    are_summed(&all, b"behind a tag");
    assert!(tags(&all), "the tag is gone");
    let (header, frame, data) = large(one.mac, plain.mac, 10);
    let (header, frame) = behind((header, frame));
    one.driver.send_with(0, &header, &frame);
    let all = received(&mut plain, one.mac);
    are_segments(&all, 1000, &data, "tagged, between guests");
    assert!(tags(&all), "the tag is gone");
    for port in 0..3 {
        assert_eq!(bench.dropped_for(port, "cannot be repaired"), 0);
        assert_eq!(bench.dropped_for(port, "bad header"), 0);
    }
}
