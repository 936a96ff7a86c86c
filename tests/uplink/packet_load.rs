//! An AF_PACKET queue under load and without: bursts, sleeping readers, shared flows, lone frames.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::queue::PacketQueue;

use vhost_user_macvtap::uplink::wire::Uplink;

use crate::frames::TYPE;
use crate::packet::{FAR, GUEST, index, open, take, wait_for};
use crate::world::{MAC, World, frame, poll_until, sockets};
use testkit::frames::{self as craft, End};

/// For what must come, however late.
const ARRIVAL: Duration = Duration::from_secs(10);

#[test]
fn a_burst_is_not_lost_when_it_is_read_and_counted_when_it_is_not() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let mut far = open("w0", SocketFilter::Everything);
        let count = 20_000u32;
        let numbered = |n: u32| frame(MAC, Mac(FAR.mac), TYPE, &n.to_be_bytes());
        let mut next = 0;
        std::thread::scope(|scope| {
            let far = &mut far;
            scope.spawn(move || (0..count).for_each(|n| far.send_one(&numbered(n)).unwrap()));
            let end = Instant::now() + ARRIVAL;
            while next < count && Instant::now() < end {
                for got in queue.receive(256).frames {
                    assert_eq!(got.body[..4], next.to_be_bytes());
                    next += 1;
                }
            }
        });
        assert_eq!((next, queue.losses().unwrap().dropped), (count, 0));
        // Nothing reads: the socket takes as much as it holds, the rest is counted, and nothing in
        // between.
        let sent = 100_000u32;
        (0..sent).for_each(|n| far.send_one(&numbered(n)).unwrap());
        let mut found = 0u32;
        loop {
            let batch = queue.receive(usize::MAX);
            found += batch.frames.len() as u32;
            if !batch.more {
                break;
            }
        }
        let dropped = queue.losses().unwrap().dropped;
        assert!(dropped > 0 && found > 0, "{found} and {dropped}");
        assert_eq!(u64::from(found) + dropped, u64::from(sent));
    });
}

/// A thousand frames of the usual MTU wait for a worker that is busy elsewhere.
#[test]
fn a_reader_may_sleep_while_a_thousand_frames_come() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let far = open("w0", SocketFilter::Everything);
        let numbered = |n: u32| {
            let payload = [&n.to_be_bytes()[..], &[7; 1496]].concat();
            frame(MAC, Mac(FAR.mac), TYPE, &payload)
        };
        (0..1000).for_each(|n| far.send_one(&numbered(n)).unwrap());
        let mut found = Vec::new();
        poll_until(ARRIVAL, || {
            found.extend(take(&mut queue, 1000).0.into_iter().map(|got| got.frame));
            (found.len() == 1000).then_some(())
        });
        assert!((0..).zip(&found).all(|(n, found)| *found == numbered(n)), "{}", found.len());
        assert_eq!(queue.losses().unwrap(), Default::default());
    });
}

/// Batches become short with large frames, and long again; no frame is lost or mixed up by that.
#[test]
fn large_and_small_frames_come_in_order() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let mut queue = open("p0", SocketFilter::Guests);
        let far = open("w0", SocketFilter::Everything);
        let mut sent = Vec::new();
        for n in 0..200u32 {
            let size = if n / 40 % 2 == 0 { 100 } else { 30_000 + 100 * n as usize };
            let one = craft::tcp4_gso(FAR, GUEST, n, 1448, &vec![n as u8; size]);
            crate::packet::send(&far, &one);
            sent.push(one.1);
        }
        let mut found = Vec::new();
        poll_until(ARRIVAL, || {
            found.extend(take(&mut queue, 1000).0.into_iter().map(|got| got.frame));
            (found.len() == sent.len()).then_some(())
        });
        assert!(found == sent, "{} of {}", found.len(), sent.len());
        assert_eq!(queue.losses().unwrap(), Default::default());
    });
}

#[test]
fn two_queues_share_the_flows() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let mut queues =
            PacketQueue::open_all(index("p0"), SocketFilter::Guests, vec![sockets(), sockets()])
                .unwrap();
        let far = open("w0", SocketFilter::Everything);
        for round in 0..2u8 {
            for port in 0..60 {
                far.send_one(&craft::udp4(End { port, ..FAR }, GUEST, &[round; 20])).unwrap();
            }
        }
        let mut flows = [Vec::new(), Vec::new()];
        poll_until(ARRIVAL, || {
            for (queue, flows) in queues.iter_mut().zip(&mut flows) {
                let got = take(queue, 1000).0;
                flows.extend(got.iter().map(|got| craft::segment(&got.frame).unwrap().ports.0));
            }
            (flows.iter().map(Vec::len).sum::<usize>() >= 120).then_some(())
        });
        let [one, two] = &flows;
        assert_eq!(one.len() + two.len(), 120);
        assert!(one.len() > 20 && two.len() > 20, "{} and {}", one.len(), two.len());
        assert!(one.iter().all(|port| !two.contains(port)), "a flow is in both");
    });
}

/// Not a bound that a busy machine could keep, but one below the tick of a ring of blocks.
#[test]
fn a_lone_frame_waits_for_nothing() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let (mut near, mut far) =
            (open("p0", SocketFilter::Guests), open("w0", SocketFilter::Everything));
        let (ping, pong) =
            (frame(MAC, Mac(FAR.mac), TYPE, b"ping"), frame(Mac(FAR.mac), MAC, TYPE, b"pong"));
        let mut times: Vec<Duration> = (0..200)
            .map(|n| {
                // Out of step with any timer.
                std::thread::sleep(Duration::from_micros(100 + 37 * (n % 29)));
                let start = Instant::now();
                far.send_one(&ping).unwrap();
                readable(&near);
                assert!(wait_for(&mut near, ARRIVAL, |found| found == ping).is_some());
                near.send_one(&pong).unwrap();
                readable(&far);
                assert!(wait_for(&mut far, ARRIVAL, |found| found == pong).is_some());
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("round trip of two queues: median {:?}, 99 % {:?}", times[100], times[197]);
        assert!(times[100] < Duration::from_millis(1), "{times:?}");
    });
}

fn readable(queue: &PacketQueue) {
    let mut fds = [PollFd::new(queue.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(2000u16)).unwrap(), 1);
}
