//! The data path: where frames move.
//!
//! With a macvtap device behind a port, the kernel forwards:
//!
//! ```text
//! guest's transmit ring -> guest_to_tap -> tap queue
//! tap queue -> tap_to_guest -> guest's receive ring
//! ```
//!
//! In our own switch (its decisions are in [`crate::switch`], its repairs in [`crate::offload`]):
//!
//! ```text
//! guest's transmit ring -> guest_to_switch -> tx_send -> uplink_queue
//!                                          -> fanout -> Egress -> deliver -> a sibling's receive ring
//! uplink_queue -> uplink_to_switch -> fanout -> Egress -> deliver -> a guest's receive ring
//! ```
//!
//! Every queue pair has one worker, and only this worker takes frames from the guest. Any worker
//! that has a frame for a guest may copy it into the guest's receive ring. The lock of a direction
//! is the barrier of GET_VRING_BASE. A worker does its work in *turns* with a limit, so that no
//! ring of the worker waits longer for another one than a turn takes.
//!
//! Locks are taken in this order, never the other way: a transmit side's, an uplink queue's, one
//! receive side's.
//!
//! | file | idea |
//! | --- | --- |
//! | [`arrivals`] | Frames that have arrived from the uplink |
//! | [`attachment`] | A port's place in its parent's switch |
//! | [`backing`] | The other end of a ring: nothing, a tap queue, or a place in our own switch |
//! | [`deliver`] | Copying a frame into a guest's receive ring |
//! | [`egress`] | The places that the switch can send to |
//! | [`fanout`] | Handing a batch of frames to their receivers, receiver by receiver |
//! | [`fast_path`] | The usual frame into the usual buffer |
//! | [`flood`] | A frame for many receivers, made easy to copy once and repaired once |
//! | [`forwarding_view`] | A parent's switch, as the data path sees it |
//! | [`frame`] | A frame on its way through the switch |
//! | [`guest_to_switch`] | From the guest into the switch |
//! | [`guest_to_tap`] | From the guest to a tap |
//! | [`port`] | The data path's view of its port |
//! | [`port_backend`] | The attachment of a port, and the form of frames that its guest takes |
//! | [`queue_pair`] | A queue pair: two rings, and the task that serves them |
//! | [`receive_side`] | The receive side of a queue pair |
//! | [`ring_name`] | A ring's name in the log |
//! | [`rx_backlog`] | Frames from the wire that wait for a guest's buffers |
//! | [`rx_prefetch`] | Receive buffers taken ahead of need |
//! | [`scratch`] | Working memory of a worker |
//! | [`shared_uplink`] | An uplink that several threads share |
//! | [`side`] | The two directions of a queue pair, named from the guest |
//! | [`tap_to_guest`] | From a tap to the guest |
//! | [`tap_watch`] | The events of its tap queue that a queue pair waits for |
//! | [`transmit_side`] | The transmit side of a queue pair |
//! | [`turn_end`] | How a turn over a ring ended |
//! | [`tx_batch`] | A batch of frames from one guest, taken apart before any of them is moved |
//! | [`tx_frame`] | One frame of a batch |
//! | [`tx_send`] | A batch's frames for the wire, in the kernel's form |
//! | [`uplink_queue`] | One worker's way to and from a parent |
//! | [`uplink_to_switch`] | From the uplink into the switch |
//! | [`wire_scratch`] | Working memory of sending to the wire |
//! | [`work_limit`] | The limit of work in one turn |

pub(crate) mod arrivals;
pub mod attachment;
pub mod backing;
pub(crate) mod deliver;
pub mod egress;
pub(crate) mod fanout;
pub(crate) mod fast_path;
pub(crate) mod flood;
pub mod forwarding_view;
pub(crate) mod frame;
pub(crate) mod guest_to_switch;
pub(crate) mod guest_to_tap;
pub mod port;
pub(crate) mod port_backend;
pub mod queue_pair;
pub(crate) mod receive_side;
pub(crate) mod ring_name;
pub(crate) mod rx_backlog;
pub(crate) mod rx_prefetch;
pub mod scratch;
pub(crate) mod shared_uplink;
pub mod side;
pub(crate) mod tap_to_guest;
pub(crate) mod tap_watch;
pub(crate) mod transmit_side;
pub(crate) mod turn_end;
pub(crate) mod tx_batch;
pub(crate) mod tx_frame;
pub(crate) mod tx_send;
pub mod uplink_queue;
pub(crate) mod uplink_to_switch;
pub(crate) mod wire_scratch;
pub(crate) mod work_limit;
