//! The control plane: the event loop, the ports, and what they are made of.
//!
//! One thread runs all of it. It may look things up, allocate and fail; it never waits for a front-end, and never
//! touches what a front-end has sent.
//!
//! | file | idea |
//! | --- | --- |
//! | [`event_loop`] | one thread over everything that can wake the control side |
//! | [`wake`] | what can wake the loop |
//! | [`deadline`] | when the loop has to look again |
//! | [`sources`] | the sources of events that rest when they take too much time |
//! | [`share`] | the share of the thread's time that one source may take |
//! | [`signals`] | what a signal means to the process |
//! | [`news`] | the kernel's news about devices, put together |
//! | [`ending`] | the end of the process, in time whatever front-ends do |
//! | [`context`] | what all ports share |
//! | [`port_table`] | the ports, by an id that never means another port |
//! | [`port`] | a port, as the control thread owns it |
//! | [`port_state`] | its states: which front-end it serves |
//! | [`port_core`] | its parts that outlive devices, parents and front-ends |
//! | [`port_mac`] | which MAC address it has before its guest has sent a frame |
//! | [`follow`] | which of its guest's addresses it adopts |
//! | [`carrier`] | what carries its frames: a kernel device, or our own switch |
//! | [`kernel_port`] | its kernel device, and how the port survives its loss |
//! | [`patience`] | how often a device is repaired before it is left alone |
//! | [`parents`] | the parents of ports in userspace |
//! | [`endpoint`] | its listening socket, from the reservation to the end |
//! | [`endpoints`] | the listeners of all ports |
//! | [`pace`] | how fast front-ends may connect |
//! | [`inherited`] | a connection inherited from the process's parent (`--fd`) |
//! | [`claims`] | what the ports hold, and whether a wanted port can have its part |
//! | [`identity`] | ports whose parents have different names and are one device |
//! | [`port_checks`] | whether a wanted port can be had on this host |

pub(crate) mod carrier;
pub(crate) mod claims;
pub(crate) mod context;
pub(crate) mod deadline;
pub(crate) mod ending;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod event_loop;
pub(crate) mod follow;
pub mod identity;
pub(crate) mod inherited;
pub(crate) mod kernel_port;
pub(crate) mod news;
pub(crate) mod pace;
pub(crate) mod parents;
pub(crate) mod patience;
pub(crate) mod port;
pub(crate) mod port_checks;
pub(crate) mod port_core;
pub mod port_mac;
pub(crate) mod port_state;
pub(crate) mod port_table;
pub(crate) mod share;
pub(crate) mod signals;
pub(crate) mod sources;
pub(crate) mod wake;
