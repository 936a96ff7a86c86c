//! The control plane: the event loop, the ports, and their parts.
//!
//! One thread runs all of it. It may look things up, allocate and fail; it never waits for a
//! front-end, and never touches a front-end's messages.
//!
//! | file | idea |
//! | --- | --- |
//! | [`event_loop`] | one thread over everything that can wake the control side |
//! | [`wake`] | the events that wake the loop |
//! | [`deadline`] | the time of the next due work |
//! | [`sources`] | the sources of events that rest when they take too much time |
//! | [`share`] | the share of the thread's time that one source may take |
//! | [`signals`] | the meaning of each signal for the process |
//! | [`news`] | the kernel's news about devices, the last of each device only |
//! | [`ending`] | the end of the process, in time for every deed of a front-end |
//! | [`context`] | the parts that all ports share |
//! | [`port_table`] | the ports, by an id that never means another port |
//! | [`port`] | a port, as the control thread owns it |
//! | [`port_state`] | its states: the front-end that it serves |
//! | [`port_core`] | its parts that outlive devices, parents and front-ends |
//! | [`port_mac`] | the MAC address that it has before its guest has sent a frame |
//! | [`follow`] | the choice of the guest's addresses that it adopts |
//! | [`carrier`] | the carrier of its frames: a kernel device, or our own switch |
//! | [`kernel_port`] | its kernel device, whose loss the port survives |
//! | [`patience`] | the limit of a device's repairs before it is left alone |
//! | [`parents`] | the parents of ports in userspace |
//! | [`endpoint`] | its listening socket, from the reservation to the end |
//! | [`endpoints`] | the listeners of all ports |
//! | [`pace`] | how fast front-ends may connect |
//! | [`inherited`] | a connection inherited from the process's parent (`--fd`) |
//! | [`claims`] | the claims of all ports, and the check of a wanted port against them |
//! | [`identity`] | ports whose parents have different names and are one device |
//! | [`port_checks`] | the check whether a wanted port can be had on this host |

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
