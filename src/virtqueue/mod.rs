//! Guest memory and virtqueues, device side.
//!
//! | file | idea |
//! | --- | --- |
//! | [`address_space`] | The address space that the guests of all ports share |
//! | [`chain`] | Descriptor chains, as the data path sees them |
//! | [`copy`] | Copies into pieces of memory: a frame into the buffers of a receive ring |
//! | [`fault`] | The SIGBUS handler for guest memory whose file shrinks |
//! | [`fetch`] | Guest bytes that are judged: read once into private memory |
//! | [`guest_map`] | The guest's memory as the data path sees it |
//! | [`guest_slice`] | A piece of memory that a frame lies in, the data path's currency |
//! | [`kept_slices`] | Pieces of chains of one ring, kept from one borrow of the ring to the next |
//! | [`mapping`] | One region of guest memory, mapped and watched |
//! | [`notification`] | When one side of a ring notifies the other |
//! | [`reuse`] | A list whose memory is used again and again |
//! | [`ring`] | A running ring, device side: what the data path knows of a virtqueue |
//! | [`ring_fault`] | Why a ring cannot be used |
//! | [`ring_id`] | The name of a ring that was started |
//! | [`ring_setup`] | Where a ring is and how it is to be read |
//! | [`signaller`] | Adding 1 to an eventfd that another party owns, without ever waiting |
//! | [`split`] | The split layout of a ring |
//! | [`vring`] | One ring, as the control side hands it to the data side |

pub(crate) mod address_space;
pub mod chain;
pub(crate) mod copy;
pub(crate) mod fault;
pub mod fetch;
pub mod guest_map;
pub mod guest_slice;
pub(crate) mod kept_slices;
pub(crate) mod mapping;
pub(crate) mod notification;
pub(crate) mod reuse;
pub mod ring;
pub(crate) mod ring_fault;
pub(crate) mod ring_id;
pub mod ring_setup;
pub(crate) mod signaller;
mod split;
pub mod vring;
