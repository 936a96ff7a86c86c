//! A port on the parent itself: AF_PACKET sockets that receive and send whole Ethernet frames.
//!
//! The userspace switch has no macvtap device below it. It listens on the parent, before the host's
//! stack and before kernel macvlans, and sends as the parent would. The host's traffic stays as it
//! is: the host gets its own copy of every frame (`host_filter.rs` is for the modes where it must
//! not), and drops frames to guests.
//!
//! | file | idea |
//! | --- | --- |
//! | [`queue`] | A receiving and a sending socket as one [`Uplink`](crate::uplink::wire::Uplink) |
//! | [`socket`] | The two descriptors: options in the one order that works, sending, receiving |
//! | [`option`] | The options, each with the type of its value |
//! | [`inbox`] | A batch of received frames and the memory that they lie in |
//! | [`frame`] | One of them: header, VLAN tag put back, unusable frames marked |
//! | [`flow`] | The hash of its flow |
//! | [`sctp`] | The one checksum that virtio has no words for |
//! | [`long_frames`] | Frames that `sendmsg` refuses for their length, though the parent takes them |
//! | [`filter`] | The filter for the frames that the kernel copies |
//! | [`membership`] | The frames that the NIC lets in: addresses, all multicast, promiscuous |

pub mod filter;
pub(crate) mod flow;
pub mod frame;
pub(crate) mod inbox;
pub mod long_frames;
pub(crate) mod membership;
pub(crate) mod option;
pub mod queue;
pub(crate) mod sctp;
pub(crate) mod socket;
