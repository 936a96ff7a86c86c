//! What the tests, benchmarks and examples share, compiled once.
//!
//! Nothing of the program is used here, neither its types nor its functions: the tests of the built
//! program stay black-box tests, and the unit tests in `src/` can use this crate without a second
//! copy of the library.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`netns`], [`wire`] | network namespaces and a small LAN; a raw socket at its far end |
//! | [`backend`], [`freeze`] | the program under test as a process; one of its threads held still |
//! | [`ring`], [`buffers`] | a split ring in any memory, as its driver writes it; one with a buffer for each descriptor |
//! | [`memory`] | a guest's memory |
//! | [`queue`], [`driver`] | a ring and a network driver, in the strictest reading of the specification |
//! | [`vmm`], [`blind`] | a VMM that speaks vhost-user by hand; one that maps no memory |
//! | [`rig`], [`userspace`], [`neighbour`] | the usual bench; one with many userspace ports; a neighbour that talks |
//! | [`guest`], [`scene`] | QEMU and the test guest in it; two guests, and which machines reach each other |
//! | [`exchange`], [`bulk`], [`inspector`] | bulk data with guests; frames seen on the wire |
//! | [`frames`], [`offload_frames`], [`switch_model`] | frames; unfinished frames; a frame's receivers |
//! | [`silent_file`] | a file whose server does not answer |
//!
//! What can go wrong: the compiler reports no unused public item of this crate. `tests/used.rs`
//! looks for items that no test uses any more.

pub mod backend;
pub mod blind;
pub mod buffers;
pub mod bulk;
pub mod driver;
pub mod exchange;
pub mod frames;
pub mod freeze;
pub mod guest;
pub mod inspector;
pub mod memory;
pub mod neighbour;
pub mod netns;
pub mod offload_frames;
pub mod queue;
pub mod rig;
pub mod ring;
pub mod scene;
pub mod silent_file;
pub mod switch_model;
pub mod userspace;
pub mod vmm;
pub mod wire;
