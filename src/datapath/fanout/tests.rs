//! A batch on its way to receivers that only count: any [`Egress`] does.

use std::sync::{Arc, Mutex};

use super::*;
use crate::datapath::egress::{Egress, EgressPort};
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::net::vnet_hdr::HEADER;
use crate::switch::{self, Groups, ParentFacts, Rules, Table};

/// An egress that counts its calls, and keeps each one's tags.
#[derive(Debug, Default)]
struct CountingEgress(Mutex<Vec<(Vec<u8>, Origin, bool)>>);

impl CountingEgress {
    /// The calls since the last time.
    fn calls(&self) -> Vec<(Vec<u8>, Origin, bool)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Egress for CountingEgress {
    fn deliver(
        &self,
        frames: &[Frame<'_>],
        from: Origin,
        _: &mut RxScratch,
        flood: Option<&mut Flood>,
    ) {
        let tags = frames.iter().map(|frame| frame.head[14]).collect();
        self.0.lock().unwrap().push((tags, from, flood.is_some()));
    }
}

fn mac(port: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, port])
}

/// So many ports in bridge mode, each with so many queues that count.
fn ports(count: u8, queues: usize) -> (ForwardingView, Vec<Vec<Arc<CountingEgress>>>) {
    let rules = (0..count).map(|port| Rules {
        mode: Mode::Bridge,
        mac: mac(port),
        up: true,
        compat: false,
        sources: Vec::new(),
        nodst: false,
        reserved: true,
        mtu: 1500,
        groups: Arc::new(Groups::all()),
    });
    let facts = ParentFacts { mac: mac(99), up: true, mtu: 1500 };
    let table = Table::new(rules.collect(), facts);
    let all: Vec<Vec<Arc<CountingEgress>>> =
        (0..count).map(|_| (0..queues).map(|_| Arc::default()).collect()).collect();
    let egress = |queue: &Arc<CountingEgress>| -> Arc<dyn Egress> { Arc::clone(queue) as _ };
    let egress_ports = all
        .iter()
        .map(|queues| EgressPort { port: None, queues: queues.iter().map(egress).collect() })
        .collect();
    (ForwardingView { table, egress_ports }, all)
}

/// Frames of port 0; each carries its number as a tag.
struct TestBatch(Vec<([u8; 15], Receivers)>);

impl TestBatch {
    fn new(view: &ForwardingView, to: &[Mac]) -> TestBatch {
        let frame = |(tag, to): (u8, &Mac)| {
            let bytes = [&to.0[..], &mac(0).0, &[0x88, 0xb5, tag]].concat();
            let head = EthernetHeader::of(bytes.first_chunk().unwrap());
            let verdict = switch::from_guest(&view.table, 0, &head, 15, false);
            (bytes.try_into().unwrap(), verdict.to)
        };
        TestBatch((0..).zip(to).map(frame).collect())
    }
}

impl FrameBatch for TestBatch {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn receivers(&self, index: usize) -> Receivers {
        self.0[index].1
    }

    fn head(&self, index: usize) -> EthernetHeader {
        EthernetHeader::of(self.0[index].0.first_chunk().unwrap())
    }

    fn flow(&self, _: usize) -> u32 {
        0
    }

    fn frame(&self, index: usize) -> Option<Frame<'_>> {
        Some(Frame { header: &[0; HEADER], head: &self.0[index].0, body: &[], len: 15 })
    }
}

#[test]
fn an_egress_that_counts_is_called_once_for_all_its_frames_of_a_batch() {
    let (view, ports) = ports(3, 1);
    let mut fanout = Fanout::default();
    let batch = TestBatch::new(&view, &[mac(1), mac(2), mac(1), mac(9), mac(1)]);
    assert_eq!(fanout.deliver(&view, &batch, Origin::Wire), 4);
    assert_eq!(ports[1][0].calls(), [(vec![0, 2, 4], Origin::Wire, false)]);
    assert_eq!(ports[2][0].calls(), [(vec![1], Origin::Wire, false)]);
    assert_eq!(ports[0][0].calls(), []);
}

#[test]
fn a_frame_for_many_is_delivered_after_those_before_it() {
    let (view, ports) = ports(3, 1);
    let mut fanout = Fanout::default();
    let batch = TestBatch::new(&view, &[mac(1), Mac::BROADCAST, mac(1), mac(2)]);
    assert_eq!(fanout.deliver(&view, &batch, Origin::Sibling), 5);
    let (one, many) = (|tag| (vec![tag], Origin::Sibling, false), (vec![1], Origin::Sibling, true));
    assert_eq!(ports[1][0].calls(), [one(0), many.clone(), one(2)]);
    assert_eq!(ports[2][0].calls(), [many, one(3)]);
}

#[test]
fn a_port_that_cannot_receive_is_served_by_its_first_queue() {
    let (view, ports) = ports(2, 2);
    let batch = TestBatch::new(&view, &[mac(1)]);
    assert_eq!(Fanout::default().deliver(&view, &batch, Origin::Sibling), 1);
    assert_eq!((ports[1][0].calls().len(), ports[1][1].calls().len()), (1, 0));
}
