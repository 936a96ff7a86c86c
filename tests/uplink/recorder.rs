//! An uplink around any other one, which counts the frames and writes them to a pcap file.
//!
//! It does not name packet sockets. It can stand in a packet queue's place, so the trait says
//! enough.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::uplink::packet::filter::SocketFilter;
use vhost_user_macvtap::uplink::packet::long_frames::LongFrames;
use vhost_user_macvtap::uplink::received::{Losses, ReceivedBatch};
use vhost_user_macvtap::uplink::send_frame::{SEND_HEADER, SendFrame};
use vhost_user_macvtap::uplink::wire::{Uplink, WantedFilters};
use vhost_user_macvtap::virtqueue::fetch;
use vhost_user_macvtap::virtqueue::guest_slice::GuestSlice;

use crate::frames::{TYPE, Wire};
use crate::packet::{FAR, open};
use crate::world::{MAC, World, frame, poll_until};

/// Passes everything on to an uplink, counts it and writes it to `file`.
struct Recorder<U, W> {
    inner: U,
    file: W,
    received: usize,
    sent: usize,
    buffer: Vec<u8>,
}

impl<U: Uplink, W: Write + Send> Recorder<U, W> {
    /// Writes the file's header: microseconds, in the host's byte order, Ethernet
    /// (LINKTYPE_ETHERNET).
    fn new(inner: U, mut file: W) -> Recorder<U, W> {
        let words: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 1 << 18, 1];
        words.iter().for_each(|word| file.write_all(&word.to_ne_bytes()).unwrap());
        Recorder { inner, file, received: 0, sent: 0, buffer: vec![0; 1 << 17] }
    }
}

/// Writes one frame behind a pcap record header. All are of the same moment.
fn record(file: &mut impl Write, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len() as u32).sum::<u32>();
    [0, 0, len, len].iter().for_each(|word| file.write_all(&word.to_ne_bytes()).unwrap());
    parts.iter().for_each(|part| file.write_all(part).unwrap());
}

impl<U: Uplink, W: Write + Send> Uplink for Recorder<U, W> {
    fn receive(&mut self, budget: usize) -> ReceivedBatch<'_> {
        let batch = self.inner.receive(budget);
        for frame in batch.frames {
            record(&mut self.file, &[&frame.head, frame.body]);
        }
        self.received += batch.frames.len();
        batch
    }

    fn send(&mut self, frames: &mut [SendFrame<'_>]) -> io::Result<usize> {
        let count = self.inner.send(frames)?;
        for frame in &frames[..count] {
            let len = frame.pieces().iter().map(GuestSlice::len).sum::<usize>();
            let whole = fetch::get(frame.pieces(), &mut self.buffer[..len]);
            record(&mut self.file, &[&whole[SEND_HEADER..]]);
        }
        self.sent += count;
        Ok(count)
    }

    fn inlet(&self) -> BorrowedFd<'_> {
        self.inner.inlet()
    }

    fn outlet(&self) -> BorrowedFd<'_> {
        self.inner.outlet()
    }

    fn outlets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.inner.outlets()
    }

    fn take_error(&mut self) -> Option<Errno> {
        self.inner.take_error()
    }

    fn set_filters(&mut self, wanted: &WantedFilters<'_>) -> io::Result<()> {
        self.inner.set_filters(wanted)
    }

    fn set_host_unicast(&mut self, wanted: bool) -> io::Result<()> {
        self.inner.set_host_unicast(wanted)
    }

    fn set_long_frames(&mut self, long: Option<Arc<LongFrames>>) -> Option<Arc<LongFrames>> {
        self.inner.set_long_frames(long)
    }

    fn losses(&mut self) -> io::Result<Losses> {
        self.inner.losses()
    }
}

/// The frames of a pcap file.
fn frames_of(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut header = [0; 24];
    file.read_exact(&mut header).unwrap();
    assert_eq!(header[..4], 0xa1b2_c3d4u32.to_ne_bytes());
    let mut all = Vec::new();
    let mut record = [0; 16];
    while file.read_exact(&mut record).is_ok() {
        let mut frame = vec![0; u32::from_ne_bytes(record[8..12].try_into().unwrap()) as usize];
        file.read_exact(&mut frame).unwrap();
        all.push(frame);
    }
    all
}

#[test]
fn a_recorder_stands_in_any_uplinks_place() {
    let world = World::new();
    world.quiet();
    world.enter(|| {
        let mut capture = Vec::new();
        let queue = open("p0", SocketFilter::Guests);
        let mut uplink = Recorder::new(queue, &mut capture);
        let wire = Wire::open(&mut Netlink::open().unwrap());
        let (out, back) =
            (frame(Mac(FAR.mac), MAC, TYPE, b"out"), frame(MAC, Mac(FAR.mac), TYPE, b"back"));
        // Through a trait object, as the data path has it.
        let anything: &mut dyn Uplink = &mut uplink;
        anything.send_one(&out).unwrap();
        assert!(wire.receive(Duration::from_secs(5), |found| found == out).is_some());
        wire.send(&back);
        let came = poll_until(Duration::from_secs(5), || {
            anything.receive(32).frames.iter().find(|got| got.body.starts_with(b"back")).map(|_| ())
        });
        assert!(came.is_some());
        assert_eq!((uplink.sent, uplink.received), (1, 1));
        assert_eq!(uplink.losses().unwrap(), Losses::default());
        drop(uplink);
        assert_eq!(frames_of(&capture), [out, back]);
    });
}
