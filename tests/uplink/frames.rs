//! Frames through the tap; and the host's side, which must send none.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::stat::fstat;
use vhost_user_macvtap::host::macvtap::Macvtap;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::host::tap_setup;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;
use vhost_user_macvtap::uplink::tap_offload::TapOffload;
use vhost_user_macvtap::virtqueue::guest_slice::{GuestSlice, GuestSliceMut};

use crate::world::{MAC, World, frame, poll_until, read_until, spec, taps};

const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0x42]);
/// An Ethernet type for experiments (IEEE 802, local).
pub const TYPE: u16 = 0x88b5;

/// A raw socket on the wire end of the world's veth pair, in the calling thread's namespace.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn open(netlink: &mut Netlink) -> Wire {
        let index = netlink.link_by_name("w0").unwrap().unwrap().index;
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a system call on numbers.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, all.into())
        };
        assert!(fd >= 0);
        // SAFETY: the descriptor is new and has no other owner.
        let wire = Wire(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: a sockaddr_ll is plain numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index as i32;
        let size = std::mem::size_of_val(&address) as u32;
        // SAFETY: the address is whole and of the announced size.
        assert_eq!(unsafe { libc::bind(fd, (&raw const address).cast(), size) }, 0);
        wire
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, frame).unwrap(), frame.len());
    }

    pub fn receive(&self, time: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        poll_until(time, || {
            let mut buffer = vec![0; 70_000];
            let length = nix::unistd::read(&self.0, &mut buffer).ok()?;
            Some(buffer[..length].to_vec()).filter(|frame| wanted(frame))
        })
    }
}

fn to_tap(frame: &[u8]) -> Vec<u8> {
    [&[0; 12], frame].concat()
}

#[test]
fn groups_that_only_the_guest_joined_arrive() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        let taps = taps(&mut port);
        let wire = Wire::open(&mut netlink);
        for last in 0..16 {
            // Solicited-node groups; sixteen, since the kernel's hash passes a few by accident.
            let group = Mac([0x33, 0x33, 0xff, 0x12, 0x34, last]);
            let solicitation = frame(group, OTHER, TYPE, b"who has it?");
            wire.send(&solicitation);
            assert!(read_until(&taps[0], |found| found == solicitation).is_some());
        }
        port.close(&mut netlink).unwrap();
    });
}

#[test]
fn frames_pass_both_ways_and_through_any_piece() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        let taps = taps(&mut port);
        let wire = Wire::open(&mut netlink);
        let queue = &taps[0];
        let out = frame(OTHER, MAC, TYPE, b"out");
        let whole = to_tap(&out);
        let (head, tail) = whole.split_at(20);
        let pieces = [head, tail].map(GuestSlice::from);
        assert_eq!(queue.write_vectored(&pieces).unwrap(), whole.len());
        assert!(wire.receive(Duration::from_secs(1), |found| found == out).is_some());

        let back = frame(MAC, OTHER, TYPE, b"back");
        wire.send(&back);
        let found = poll_until(Duration::from_secs(1), || {
            let (mut head, mut tail) = ([0u8; 14], [0u8; 200]);
            let pieces = [&mut head[..], &mut tail[..]].map(GuestSliceMut::from);
            let length = queue.read_vectored(&pieces).ok()?;
            let all = [&head[12..], &tail[..length - 14]].concat();
            (all == back).then_some(())
        });
        assert!(found.is_some());
        port.close(&mut netlink).unwrap();
    });
}

#[test]
fn the_host_side_is_mute() {
    let world = World::new();
    world.ip("addr add 192.0.2.1/24 dev p0");
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
        let taps = taps(&mut port);
        let wire = Wire::open(&mut netlink);
        assert_eq!(world.ip("-6 addr show dev vm0"), "");
        let path = "/proc/sys/net/ipv6/conf/vm0/disable_ipv6";
        assert_eq!(std::fs::read_to_string(path).unwrap().trim(), "1");
        // Who has 192.0.2.1? Tell 192.0.2.2.
        let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
        question.extend([&OTHER.0[..], &[192, 0, 2, 2], &[0; 6], &[192, 0, 2, 1]].concat());
        let question = frame(Mac::BROADCAST, OTHER, 0x0806, &question);
        let said_by_port = |found: &[u8]| found[6..12] == MAC.0;
        let wait = Duration::from_millis(300);
        wire.send(&question);
        assert!(read_until(&taps[0], |found| found == question).is_some());
        assert!(wire.receive(wait, said_by_port).is_none());
        // Even with no queue attached, when frames do reach the host's stack.
        taps[0].detach().unwrap();
        wire.send(&question);
        assert!(wire.receive(wait, said_by_port).is_none());
        // The proof that this would have been received: with ARP on, the host answers.
        world.ip("link set vm0 arp on");
        let answer = (0..5).find_map(|_| {
            wire.send(&question);
            wire.receive(Duration::from_secs(1), said_by_port)
        });
        assert!(answer.is_some());
        port.close(&mut netlink).unwrap();
    });
}

#[test]
fn offloads_and_queues_change_in_use() {
    let world = World::new();
    world.enter(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut wanted = spec("vm0", Mode::Bridge);
        wanted.queues = 2;
        let mut port = Macvtap::open(&mut netlink, &wanted).unwrap();
        let taps = taps(&mut port);
        let all = TapOffload::CSUM
            | TapOffload::TSO4
            | TapOffload::TSO6
            | TapOffload::ECN
            | TapOffload::UFO
            | TapOffload::USO4
            | TapOffload::USO6;
        let taken = taps[0].set_offload(all).unwrap();
        assert!(taken.contains(TapOffload::CSUM | TapOffload::TSO4 | TapOffload::TSO6));
        assert_eq!(taps[0].set_offload(TapOffload::NONE).unwrap(), TapOffload::NONE);
        let wire = Wire::open(&mut netlink);
        let [first, second] = &taps[..] else { panic!("two queues") };
        // Frames that are not IP all go to one queue: the first that is attached.
        let hello = frame(MAC, OTHER, TYPE, b"hello");
        for _ in 0..2 {
            first.detach().unwrap();
            wire.send(&hello);
            assert!(read_until(second, |found| found == hello).is_some());
            second.detach().unwrap();
            first.attach().unwrap();
            wire.send(&hello);
            assert!(read_until(first, |found| found == hello).is_some());
            second.attach().unwrap();
        }
        // In that state already: fine.
        first.attach().unwrap();
        second.detach().unwrap();
        second.detach().unwrap();
        // A detached queue still sends.
        let out = frame(OTHER, MAC, TYPE, b"out");
        second.write(&to_tap(&out)).unwrap();
        assert!(wire.receive(Duration::from_secs(1), |found| found == out).is_some());
        let first = first.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(tap_setup::device_name(&first).unwrap(), "vm0");
        assert_eq!(tap_setup::device_mac(&first).unwrap(), MAC);
        port.close(&mut netlink).unwrap();
    });
}

/// /dev does not know namespaces: /dev/tapN of one is another one's tap where indices are equal.
#[test]
fn equal_indices_in_two_namespaces_never_open_the_wrong_tap() {
    let (one, two) = (World::new(), World::new());
    let index = 200_000 + std::process::id();
    for world in [&one, &two] {
        world.ip(&format!(
            "link add link p0 name vm0 index {index} address {MAC} type macvtap mode bridge"
        ));
    }
    let open = |world: &World| {
        world.enter(|| {
            let mut netlink = Netlink::open().unwrap();
            let port = Macvtap::open(&mut netlink, &spec("vm0", Mode::Bridge)).unwrap();
            assert_eq!(port.ifindex(), index);
            let wire = Wire::open(&mut netlink);
            (port, wire, netlink)
        })
    };
    let (mut first, first_wire, mut first_netlink) = open(&one);
    let (mut second, second_wire, mut second_netlink) = open(&two);
    let device = |port: &Macvtap| fstat(&port.queues()[0]).unwrap().st_rdev;
    assert_ne!(device(&first), device(&second));
    let (first_taps, second_taps) = (taps(&mut first), taps(&mut second));
    let hello = frame(MAC, OTHER, TYPE, b"one");
    first_wire.send(&hello);
    assert!(read_until(&first_taps[0], |found| found == hello).is_some());
    let hello = frame(MAC, OTHER, TYPE, b"two");
    second_wire.send(&hello);
    assert!(read_until(&second_taps[0], |found| found == hello).is_some());
    assert!(first_taps[0].as_raw_fd() != second_taps[0].as_raw_fd());
    one.enter(|| first.close(&mut first_netlink).unwrap());
    two.enter(|| second.close(&mut second_netlink).unwrap());
}
