//! The split layout of a ring: virtio 1.2, section 2.7.
//!
//! Only [`ring`](super::ring) uses it. The data path sees rings and chains.
//!
//! | file | idea |
//! | --- | --- |
//! | [`split_ring`] | How far a split ring has come: popping chains, giving them back, notifying |
//! | [`parts`] | The words of a split ring in guest memory |
//! | [`table`] | The descriptor table and the chains in it |

pub(in crate::virtqueue) mod parts;
pub(in crate::virtqueue) mod split_ring;
pub(in crate::virtqueue) mod table;
