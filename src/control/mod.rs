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

pub mod carrier;
pub mod claims;
pub mod context;
pub mod deadline;
pub mod ending;
pub mod endpoint;
pub mod endpoints;
pub mod event_loop;
pub mod follow;
pub mod identity;
pub mod inherited;
pub mod kernel_port;
pub mod news;
pub mod pace;
pub mod parents;
pub mod patience;
pub mod port;
pub mod port_checks;
pub mod port_core;
pub mod port_mac;
pub mod port_state;
pub mod port_table;
pub mod share;
pub mod signals;
pub mod sources;
pub mod wake;
