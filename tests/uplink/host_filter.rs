//! The filter keeps the right frames from the host's stack, and the stack receives again after its
//! removal.
//!
//! The witness is a UDP socket of the host: it receives the frames that the stack lets through.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use vhost_user_macvtap::host::host_filter::{HostFilter, HostFilterRule, MAX_SOURCES};
use vhost_user_macvtap::host::packet_socket;
use vhost_user_macvtap::net::mac::Mac;

use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::PacketQueue;

use crate::holders;
use crate::packet::{FAR, index, open, wait_for};
use crate::world::{MAC, World};
use testkit::frames::{self as craft, End};

const HOST: [u8; 4] = [192, 0, 2, 1];
const ALL: [u8; 4] = [192, 0, 2, 255];

/// The host with an address, a queue on its parent, and the far end.
struct Scene {
    host: Mac,
    socket: UdpSocket,
    queue: PacketQueue,
    far: PacketQueue,
}

impl Scene {
    fn new(world: &World) -> Scene {
        world.ip("link set lo up");
        world.ip("addr add 192.0.2.1/24 brd + dev p0");
        let socket = UdpSocket::bind("0.0.0.0:7000").unwrap();
        let host = world.mac_of("p0").parse().unwrap();
        let queue = open("p0", SocketFilter::Everything);
        Scene { host, socket, queue, far: open("w0", SocketFilter::Everything) }
    }

    /// Whether the stack receives a datagram from that address. The queue receives it in any case.
    fn hears(&mut self, from: Mac, to: Mac, ip: [u8; 4]) -> bool {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let text = format!("{:08}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let sent = craft::udp4(
            End { mac: from.0, ..FAR },
            End { mac: to.0, ip, port: 7000 },
            text.as_bytes(),
        );
        self.far.send_one(&sent).unwrap();
        assert!(wait_for(&mut self.queue, Duration::from_secs(1), |found| found == sent).is_some());
        // The queue gets its copy first, but the stack is done long before the ring's tick is over;
        // the wait is for a machine that is busy.
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut found = [0; 100];
        while let Ok(length) = self.socket.recv(&mut found) {
            if &found[..length] == text.as_bytes() {
                return true;
            }
        }
        false
    }

    fn hears_unicast(&mut self) -> bool {
        self.hears(Mac(FAR.mac), self.host, HOST)
    }

    fn hears_broadcast(&mut self) -> bool {
        self.hears(Mac(FAR.mac), Mac::BROADCAST, ALL)
    }
}

#[test]
fn unicast_is_the_guests_alone_and_the_hosts_again() {
    let world = World::new();
    world.enter(|| {
        let mut scene = Scene::new(&world);
        let p0 = index("p0");
        assert!(scene.hears_unicast() && scene.hears_broadcast());
        let filter = HostFilter::attach(p0, HostFilterRule::Unicast).unwrap();
        assert!(!scene.hears_unicast());
        assert!(scene.hears_broadcast());
        // What the host sends to itself does not pass the parent.
        let own = UdpSocket::bind("192.0.2.1:0").unwrap();
        own.send_to(b"own", "192.0.2.1:7000").unwrap();
        assert_eq!(scene.socket.recv(&mut [0; 10]).unwrap(), 3);
        drop(filter);
        assert!(scene.hears_unicast() && scene.hears_broadcast());
    });
}

#[test]
fn frames_of_listed_senders_are_the_guests_alone() {
    let world = World::new();
    world.enter(|| {
        let mut scene = Scene::new(&world);
        let p0 = index("p0");
        let sender = |n: u16| {
            let [a, b] = n.to_be_bytes();
            Mac([2, a, 0, 0, 0x10, b])
        };
        for count in [1, 2, 3, MAX_SOURCES as u16] {
            let sources: Vec<Mac> = (0..count).map(|n| sender(n * 2)).collect();
            let _filter = HostFilter::attach(p0, HostFilterRule::Sources(&sources)).unwrap();
            for listed in [0, count / 2, count - 1] {
                assert!(!scene.hears(sender(listed * 2), scene.host, HOST), "{count} {listed}");
                assert!(!scene.hears(sender(listed * 2), Mac::BROADCAST, ALL));
                assert!(scene.hears(sender(listed * 2 + 1), scene.host, HOST), "{count}");
            }
            assert!(scene.hears_unicast() && scene.hears_broadcast());
        }
        // A new list before the old one is removed; and an empty one, which lists no address.
        let first = HostFilter::attach(p0, HostFilterRule::Sources(&[MAC])).unwrap();
        let second = HostFilter::attach(p0, HostFilterRule::Sources(&[Mac(FAR.mac)])).unwrap();
        assert!(!scene.hears(MAC, scene.host, HOST) && !scene.hears_unicast());
        drop(first);
        assert!(scene.hears(MAC, scene.host, HOST) && !scene.hears_unicast());
        drop(second);
        let _none = HostFilter::attach(p0, HostFilterRule::Sources(&[])).unwrap();
        assert!(scene.hears_unicast());
    });
}

/// The kernel loops the host's multicast back to it through the parent's ingress, without an
/// Ethernet header: to a program that looked for one, IPv6's first byte would be a unicast address.
#[test]
fn the_host_hears_its_own_multicast() {
    let world = World::new();
    world.ip("addr add 2001:db8::1/64 dev p0 nodad");
    world.enter(|| {
        let p0 = index("p0");
        let _filter = HostFilter::attach(p0, HostFilterRule::Unicast).unwrap();
        let socket = UdpSocket::bind("[::]:7000").unwrap();
        let group = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x99);
        socket.join_multicast_v6(&group, p0).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send_to(b"own", SocketAddrV6::new(group, 7000, 0, p0)).unwrap();
        assert_eq!(socket.recv(&mut [0; 10]).unwrap(), 3);
    });
}

#[test]
fn the_host_hears_again_when_the_process_is_killed() {
    let world = World::new();
    world.enter(|| {
        let mut scene = Scene::new(&world);
        let holder = holders::hold(&world, "unicast");
        assert!(!scene.hears_unicast());
        holders::kill(holder);
        assert!(scene.hears_unicast());
    });
}

#[test]
fn a_filter_that_cannot_be_says_what_is_missing() {
    let world = World::new();
    world.enter(|| {
        let error = HostFilter::attach(1 << 20, HostFilterRule::Unicast).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        // Without privileges, in this thread alone.
        // SAFETY: a system call on numbers; glibc's setuid would change every thread.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let error = HostFilter::attach(1, HostFilterRule::Unicast).unwrap_err();
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
        let error = packet_socket::receiving().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    });
}
