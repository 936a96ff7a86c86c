//! An AF_PACKET queue and its parent: its requests to the NIC, and events on the NIC.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::PacketQueue;

use vhost_user_macvtap::uplink::wire::Uplink;

use crate::frames::TYPE;
use crate::packet::{FAR, index, open, wait_for};
use crate::world::{MAC, World, frame, poll_until, sockets};

/// For what must come, however late.
const ARRIVAL: Duration = Duration::from_secs(10);

/// (promiscuity, allmulti) of the parent.
fn counts(world: &World) -> (u32, u32) {
    let text = world.show("p0").unwrap();
    let number = |name: &str| {
        let at = text.find(name).unwrap() + name.len();
        text[at..].split_whitespace().next().unwrap().parse().unwrap()
    };
    (number(" promiscuity "), number(" allmulti "))
}

fn events(queue: &PacketQueue) -> PollFlags {
    let mut fds = [PollFd::new(queue.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    fds[0].revents().unwrap()
}

fn refusal(queue: &PacketQueue) -> Option<i32> {
    queue.send_one(&frame(Mac(FAR.mac), MAC, TYPE, b"x")).unwrap_err().raw_os_error()
}

#[test]
fn memberships_count_and_end_with_the_queue() {
    let world = World::new();
    world.enter(|| {
        assert_eq!(counts(&world), (0, 0));
        let queue = open("p0", SocketFilter::Guests);
        // A veth cannot filter by several addresses, so the first one makes it promiscuous.
        queue.add_unicast(MAC).unwrap();
        queue.add_unicast(Mac(FAR.mac)).unwrap();
        assert_eq!(counts(&world), (1, 0));
        queue.drop_unicast(MAC).unwrap();
        assert_eq!(counts(&world), (1, 0));
        queue.drop_unicast(Mac(FAR.mac)).unwrap();
        queue.drop_unicast(Mac(FAR.mac)).unwrap();
        assert_eq!(counts(&world), (0, 0));
        // Requests are not counted: on twice is on once.
        for _ in 0..2 {
            queue.set_all_multicast(true).unwrap();
            queue.set_promiscuous(true).unwrap();
        }
        assert_eq!(counts(&world), (1, 1));
        queue.set_promiscuous(false).unwrap();
        queue.set_all_multicast(false).unwrap();
        queue.set_all_multicast(false).unwrap();
        assert_eq!(counts(&world), (0, 0));
        queue.add_unicast(MAC).unwrap();
        queue.set_all_multicast(true).unwrap();
        queue.set_promiscuous(true).unwrap();
        assert_eq!(counts(&world), (2, 1));
        drop(queue);
        assert_eq!(counts(&world), (0, 0));
    });
}

#[test]
fn a_parent_that_was_down_says_so_once_and_goes_on() {
    let world = World::new();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let far = open("w0", SocketFilter::Everything);
        assert!(!events(&queue).contains(PollFlags::POLLERR));
        world.ip("link set p0 down");
        assert!(events(&queue).contains(PollFlags::POLLERR));
        assert_eq!(queue.take_error(), Some(Errno::ENETDOWN));
        assert_eq!((queue.take_error(), events(&queue)), (None, PollFlags::POLLOUT));
        assert_eq!(refusal(&queue), Some(libc::ENETDOWN));
        world.ip("link set p0 up");
        let back = frame(MAC, Mac(FAR.mac), TYPE, b"back");
        let found = poll_until(ARRIVAL, || {
            far.send_one(&back).ok()?;
            wait_for(&mut queue, Duration::from_millis(20), |found| found == back)
        });
        assert!(found.is_some());
        assert_eq!(queue.take_error(), None);
        // Opened while it is down, alone or in a group: it receives once it is up.
        world.ip("link set p0 down");
        let mut late = [1, 2].map(|count| {
            let sockets = (0..count).map(|_| sockets()).collect();
            PacketQueue::open_all(index("p0"), SocketFilter::Guests, sockets).unwrap()
        });
        for queue in late.iter().flatten() {
            assert_eq!(queue.take_error(), Some(Errno::ENETDOWN));
        }
        world.ip("link set p0 up");
        for group in &mut late {
            let found = poll_until(ARRIVAL, || {
                far.send_one(&back).ok()?;
                let wait = Duration::from_millis(20);
                group.iter_mut().find_map(|queue| wait_for(queue, wait, |found| found == back))
            });
            assert!(found.is_some());
        }
    });
}

#[test]
fn a_parent_that_is_deleted_is_gone_for_good() {
    let world = World::new();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        queue.add_unicast(MAC).unwrap();
        world.ip("link del p0");
        assert_eq!(queue.take_error(), Some(Errno::ENETDOWN));
        assert_eq!(refusal(&queue), Some(libc::ENXIO));
        let errno = queue.add_unicast(MAC).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::ENODEV));
        // A failed request is not remembered as done.
        assert!(queue.set_promiscuous(true).is_err() && queue.set_promiscuous(true).is_err());
        assert!(!queue.receive(10).more);
        world.ip("link add w0 type veth peer name p0");
        world.ip("link set p0 up");
        assert_eq!(refusal(&queue), Some(libc::ENXIO));
    });
}

#[test]
fn there_is_no_queue_without_a_device() {
    let world = World::new();
    world.enter(|| {
        for index in [0, 1 << 20, u32::MAX] {
            let error = PacketQueue::open(index, SocketFilter::Guests, sockets()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{index}");
        }
        let queue = open("p0", SocketFilter::Guests);
        assert!(queue.as_raw_fd() > 2);
    });
}
