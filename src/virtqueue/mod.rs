//! Guest memory and virtqueues, device side.
//!
//! | file | idea |
//! | --- | --- |
//! | [`address_space`] | What the guests of all ports may map together |
//! | [`chain`] | Descriptor chains |
//! | [`copy`] | Copies into and out of guest memory that lies in pieces |
//! | [`fault`] | When guest memory goes away under our hands |
//! | [`guest_map`] | The guest's memory as the data path sees it |
//! | [`mapping`] | One region of guest memory, mapped and watched |
//! | [`signaller`] | Adding 1 to an eventfd that another party owns, without ever waiting |
//! | [`split_ring`] | A split virtqueue, device side |
//! | [`vring`] | One ring as the control side hands it to the data side |

pub mod address_space;
pub mod chain;
pub mod copy;
pub mod fault;
pub mod guest_map;
pub mod mapping;
pub mod signaller;
pub mod split_ring;
pub mod vring;
