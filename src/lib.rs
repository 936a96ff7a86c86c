//! vhost-user-macvtap: a vhost-user network back-end that puts virtual machines straight on the LAN.
//!
//! One process serves any number of virtio-net devices over vhost-user sockets and binds each to a
//! port of a parent network device. The modules stand in the order in which a frame from a guest meets
//! them:
//!
//! ```text
//!                       control plane                    │  data plane
//!                                                        │
//!  VMM ── socket ──► server::front ──► the vhost crates ──┼─► queue::line   (start, stop a ring)
//!                    (front door)      device::vring      │
//!                                                        │
//!  guest ── kick ─────────────────────────────────────────┼─► queue::worker ► pair ► from_guest
//!                                                        │        ▲                    │ writev
//!  kernel ── netlink ► uplink::watch ► server::port ──────┼─► uplink::tap ◄────────────┘
//!                                                        │        │ readv
//!  guest ◄── call ────────────────────────────────────────┼── to_guest ◄── worker
//! ```
//!
//! Those are ports of kernel devices. A port of either type has a thread of its own for the front door
//! (`server/frontend.rs`); the control thread only accepts connections. Between userspace ports (`type=macvlan`) the way is:
//!
//! ```text
//!  guest ── kick ─► queue::worker ► pair ► to_switch ► batch ── switch::from_guest
//!                                                        ├─► to_wire ► lane ► uplink::packet ──► wire
//!                                                        └─► spread ► deliver ──► sibling's ring
//!
//!  wire ──► uplink::packet ► lane ► from_uplink ── switch::from_wire
//!                                     └─► spread ► deliver (offload repairs) ──► guest's ring
//! ```
//!
//! * [`cli`], [`config`]: what the user typed; what the program needs, with every fault reported.
//! * [`suggest`]: "did you mean ...?".
//! * [`print`](mod@print): what to give QEMU, libvirt and cloud-hypervisor.
//! * [`server`]: the control loop: sockets, the front door, sessions, ports, signals.
//! * [`device`]: what a front-end negotiates with; the vhost crates' view of our rings.
//! * [`queue`]: the data plane: guest memory, rings, the two directions, the workers.
//! * [`switch`]: who gets a frame of a userspace macvlan port; pure, the kernel's rules.
//! * [`offload`]: checksums and segments in software, for a receiver that does not take a frame as it is.
//! * [`port`]: the few facts of a port that the data plane needs.
//! * [`logging`]: lines on standard error that never hold up what wrote them.
//! * [`port_log`]: the bounded log of a port, for every line that another party can cause.
//! * [`uplink`]: macvtap devices, netlink, tap queues; packet queues on the parent.
//! * [`threads`]: starting a thread while tenants are served.
//! * [`poll`], [`stats`], [`mac`], [`mode`], [`error`]: small things that all of them use.
//!
//! docs/architecture.md follows one frame out and one back.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod config;
pub mod device;
pub mod error;
pub mod logging;
pub mod mac;
pub mod mode;
pub mod offload;
pub mod poll;
pub mod port;
pub mod port_log;
pub mod print;
pub mod queue;
pub mod server;
pub mod stats;
pub mod suggest;
pub mod switch;
pub mod threads;
pub mod uplink;

/// Serves the ports until a signal ends it, or with `--one-off` a front-end's leaving.
///
/// # Errors
/// A port could not be made. Nothing is left behind then.
pub fn run(config: config::Config) -> error::Result<()> {
    server::Server::start(config)?.run()
}
