//! A machine: memory of its own, a connection to a back-end (or none), queue pairs.
//!
//! [`Guest::connect`] goes through QEMU 7.2's whole message sequence, so every peer sees the same
//! as from QEMU. [`Guest::local`] makes the same rings without a back-end. A plain loop in this
//! process measures the limits of this machine on those.
//!
//! What can go wrong: the tests' VMM panics if a back-end does not answer. measure.rs turns that
//! into "could not be measured".

use std::path::Path;

use super::frame::Frame;
use super::receive::Receive;
use super::ring::Ring;
use super::transmit::Transmit;
use testkit::driver::{Driver, F_CTRL_VQ, F_IN_ORDER, F_INDIRECT};
use testkit::memory::{Backing, Memory};
use testkit::vmm::{Guest as Wishes, QemuOptions, Vmm};

/// The properties of a guest.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Queue pairs.
    pub pairs: usize,
    /// Entries of each ring.
    pub ring: u16,
    /// Bytes of a receive buffer.
    pub buffer: u32,
    /// Receive buffers posted on each ring.
    pub posted: u16,
    /// Bytes of guest memory.
    pub memory: u64,
    /// Whether the memory consists of 2 MiB pages, which must have been reserved.
    pub huge: bool,
    /// Features to leave out, of those that a Linux guest takes.
    pub without: u64,
    /// Whether IN_ORDER is taken if offered.
    pub in_order: bool,
    /// Descriptors of each frame sent.
    pub pieces: u16,
}

impl Default for Shape {
    /// A small Linux guest: rings of 256, mergeable buffers of 2 KiB, 4 KiB pages.
    fn default() -> Shape {
        Shape {
            pairs: 1,
            ring: 256,
            buffer: 2048,
            posted: 256,
            memory: 64 << 20,
            huge: false,
            without: F_INDIRECT,
            in_order: false,
            pieces: 1,
        }
    }
}

impl Shape {
    /// Buffers for frames of this size: a page each above 1514 bytes.
    pub fn for_frames(size: usize) -> Shape {
        let buffer = if size > 1514 { 4096 } else { 2048 };
        Shape { buffer, ..Shape::default() }
    }

    fn wishes(&self) -> Wishes {
        let order = if self.in_order { F_IN_ORDER } else { 0 };
        let wishes = Wishes::default().with(order).without(self.without | F_CTRL_VQ);
        Wishes { rx_ring: self.ring, tx_ring: self.ring, ..wishes }
    }
}

/// A queue pair.
pub struct Pair {
    /// The receive ring.
    pub rx: Receive,
    /// The transmit ring; there is none without a frame to send.
    pub tx: Option<Transmit>,
}

/// A guest.
pub struct Guest {
    /// Its queue pairs.
    pub pairs: Vec<Pair>,
    /// Its memory, at guest address 0.
    pub memory: Memory,
    driver: Driver,
    _vmm: Option<Vmm>,
}

impl Guest {
    /// A guest at this socket. With a frame it can send that.
    pub fn connect(socket: &Path, shape: &Shape, frame: Option<&Frame>) -> Guest {
        let memory = memory(shape);
        let mut vmm = Vmm::connect(socket).with_memory(&memory);
        let options =
            QemuOptions { pairs: shape.pairs, guest: shape.wishes(), ..QemuOptions::default() };
        let driver = vmm.start_like_qemu72(&options);
        if shape.pairs > 1 {
            vmm.guest_sets_pairs(shape.pairs, shape.pairs);
        }
        Guest::new(driver, memory, Some(vmm), shape, frame)
    }

    /// A guest without a back-end.
    pub fn local(shape: &Shape, frame: Option<&Frame>) -> Guest {
        let memory = memory(shape);
        let features = shape.wishes().features;
        let driver = Driver::new(&memory, features, shape.pairs, shape.ring, shape.ring);
        Guest::new(driver, memory, None, shape, frame)
    }

    fn new(
        driver: Driver,
        memory: Memory,
        vmm: Option<Vmm>,
        shape: &Shape,
        frame: Option<&Frame>,
    ) -> Guest {
        let features = driver.features;
        let pairs = driver.pairs.iter().zip(0..).map(|(pair, flow)| {
            let (rx, tx) = (&pair.rx, &pair.tx);
            let tx = Ring::new(&memory, tx, features);
            Pair {
                rx: Receive::new(
                    Ring::new(&memory, rx, features),
                    &memory,
                    shape.buffer,
                    shape.posted,
                ),
                tx: frame.map(|frame| Transmit::new(tx, &memory, &frame.flow(flow), shape.pieces)),
            }
        });
        Guest { pairs: pairs.collect(), memory, driver, _vmm: vmm }
    }

    /// The guest addresses of its rings, and the negotiated features.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Frames received and sent so far, on all pairs.
    pub fn moved(&self) -> (u64, u64) {
        let received = self.pairs.iter().map(|pair| pair.rx.frames).sum();
        let sent = self.pairs.iter().flat_map(|pair| &pair.tx).map(|tx| tx.sent).sum();
        (received, sent)
    }
}

fn memory(shape: &Shape) -> Memory {
    let backing = if shape.huge { Backing::Huge } else { Backing::Memfd };
    Memory::single(&backing, shape.memory)
}
