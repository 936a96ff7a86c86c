//! The base of both topologies: a parent `p0`, its cable, the wire `w0`, and the sockets that
//! listen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::socket::{Seen, Socket};
use crate::stimuli::{self, PAUSE_TYPE, Stimulus, TYPE};
use crate::world::{PARENT, World};
use testkit::netns::{Netns, wait_until};

/// The silence after which a frame counts as dropped: floods of macvlan wait in a work queue.
const SETTLED: Duration = Duration::from_millis(150);

/// The sender of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Port(usize),
    Wire,
}

/// A receiver of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    Port(usize),
    Wire,
    Host,
}

/// A topology that forwards frames between ports, a wire and a host.
pub trait Topology {
    /// Sends one frame.
    fn send(&mut self, from: Origin, frame: &[u8]);
    /// The frames that came out since the last call, without waiting.
    fn received(&mut self) -> Vec<(To, Vec<u8>)>;
    /// The guests join their groups; afterwards they are members. Once, when all ports can send.
    fn join(&mut self);
    /// The namespace and the parent's ends.
    fn lan(&self) -> &TestLan;
    /// Whether it has noticed that the cable is out.
    fn knows_the_cable(&self) -> bool;
}

/// Every copy of every frame that came out, by the frame's tag.
pub type Copies = BTreeMap<u64, Vec<(To, Vec<u8>)>>;

/// Sends all stimuli, one after the other, and collects what comes out until it is silent.
pub fn ask(topology: &mut dyn Topology, world: &World, stimuli: &[Stimulus]) -> Copies {
    warm_up(topology, world);
    topology.join();
    if !world.cable {
        topology.lan().netns.ip("link set w0 down");
        let known = wait_until(Duration::from_secs(5), || topology.knows_the_cable());
        assert!(known, "{}: the cable is out, and nobody noticed", world.name);
        // The device has the news; its queue may be switched off a moment later.
        std::thread::sleep(SETTLED);
    }
    let mut copies = Copies::new();
    for batch in stimuli.chunks(50) {
        for stimulus in batch {
            topology.send(stimulus.from, &stimulus.bytes);
        }
        // A tap's ring holds 500 frames.
        collect(topology, &mut copies);
    }
    let mut last = Instant::now();
    while last.elapsed() < SETTLED {
        if collect(topology, &mut copies) {
            last = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    copies
}

/// Files the frames that came out; false if there were none.
fn collect(topology: &mut dyn Topology, copies: &mut Copies) -> bool {
    let received = topology.received();
    let any = !received.is_empty();
    for (to, bytes) in received {
        if let Some(tag) = stimuli::tag_of(&bytes) {
            copies.entry(tag).or_default().push((to, bytes));
        }
    }
    any
}

/// Sends from every port until frames of all of them are on the wire: a new device has no carrier
/// yet.
fn warm_up(topology: &mut dyn Topology, world: &World) {
    let mut silent: Vec<usize> = world.up().collect();
    let warm = wait_until(Duration::from_secs(10), || {
        let hellos: Vec<_> = silent.iter().map(|&port| stimuli::hello(world, port)).collect();
        for (&port, hello) in silent.iter().zip(&hellos) {
            topology.send(Origin::Port(port), hello);
        }
        std::thread::sleep(Duration::from_millis(10));
        let received = topology.received();
        let heard = |port: usize| {
            let source = world.ports[port].mac.0;
            received.iter().any(|(to, bytes)| *to == To::Wire && bytes[6..12] == source)
        };
        silent.retain(|&port| !heard(port));
        silent.is_empty()
    });
    assert!(warm, "{}: ports {silent:?} never sent anything", world.name);
}

/// A namespace with a veth pair; the parent's own stack sends nothing by itself.
pub struct TestLan {
    pub netns: Netns,
    parent: u32,
    wire: Socket,
    host: [Socket; 2],
}

impl TestLan {
    pub fn new() -> TestLan {
        let netns = Netns::new("oracle");
        for what in ["all", "default"] {
            netns.set_ipv6(what, false);
        }
        netns.ip(&format!("link add p0 address {PARENT} type veth peer name w0"));
        // The parent's MTU limits a frame, not the wire's.
        netns.ip("link set w0 mtu 9000 promisc on up");
        netns.ip("link set p0 up");
        let index = |name| netns.attribute(name, "ifindex").parse().unwrap();
        let (parent, wire) = (index("p0"), index("w0"));
        let host = [TYPE, PAUSE_TYPE].map(|protocol| Socket::open(&netns, None, protocol));
        let wire = Socket::open(&netns, Some(wire), libc::ETH_P_ALL as u16);
        TestLan { netns, parent, wire, host }
    }

    /// From the wire to the parent.
    pub fn send(&self, frame: &[u8]) {
        self.wire.send(frame);
    }

    /// The frames that the wire and the host have received.
    pub fn received(&self) -> Vec<(To, Vec<u8>)> {
        let incoming = |seen: &Seen| seen.kind != libc::PACKET_OUTGOING;
        let wire = std::iter::from_fn(|| self.wire.receive()).filter(incoming);
        let mine = [libc::PACKET_HOST, libc::PACKET_BROADCAST, libc::PACKET_MULTICAST];
        let host = self.host.iter().flat_map(|socket| std::iter::from_fn(|| socket.receive()));
        let host = host.filter(|seen| seen.ifindex == self.parent && mine.contains(&seen.kind));
        let wire = wire.map(|seen| (To::Wire, seen.bytes));
        wire.chain(host.map(|seen| (To::Host, seen.bytes))).collect()
    }
}
