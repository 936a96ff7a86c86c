//! The control side: sockets, signals, devices.
//!
//! [`Server::run`](server::Server::run) is one loop on one thread over everything that can wake the control side. It may
//! look things up, allocate and fail; it never waits for a front-end, and never touches what one has sent.
//! Signals are looked at before anything else, and each wake-up takes one connection of a listener at most,
//! so that no flood keeps the process from its end. Frames never pass here.
//!
//! | file | idea |
//! | --- | --- |
//! | [`context`] | What every part of a port's control side works on |
//! | [`ending`] | The end of the process, in time whatever tenants do |
//! | [`endpoint`] | A port's listening socket, from its reservation to its end |
//! | [`endpoints`] | How front-ends come in and go |
//! | [`follow`] | Which of its guest's addresses a port takes |
//! | [`identity`] | Ports whose parents have different names and are one device, judged before anything is made |
//! | [`inherited`] | A connection inherited from whoever started the process (`--fd`) |
//! | [`kernel_port`] | A port's kernel device, and how the port survives its loss and what other programs do to it |
//! | [`news`] | What the kernel and the workers tell the control side, within bounds |
//! | [`pace`] | How fast front-ends may come and go, and ask |
//! | [`parents`] | The parents that have ports in userspace |
//! | [`patience`] | How often a device is put right before it is left alone |
//! | [`port`] | A port, as the control side owns it |
//! | [`port_mac`] | Which MAC address a port has before its guest has said anything |
//! | [`precheck`] | Everything that can be judged, judged before anything is made |
//! | [`server`] |  |
//! | [`share`] | The share of the control thread's time that one source of events may take |
//! | [`signals`] | What a signal means to the process |
//! | [`wake`] | What can wake the control loop |

pub mod context;
pub mod deadline;
pub mod ending;
pub mod endpoint;
pub mod endpoints;
pub mod follow;
pub mod identity;
pub mod inherited;
pub mod kernel_port;
pub mod news;
pub mod pace;
pub mod parents;
pub mod patience;
pub mod port;
pub mod port_core;
pub mod port_mac;
pub mod precheck;
pub mod server;
pub mod share;
pub mod signals;
pub mod wake;
