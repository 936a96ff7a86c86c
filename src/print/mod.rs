//! The VMM's arguments to connect to these ports: `qemu-args` and its siblings.
//!
//! Half of the trouble with vhost-user back-ends is on the VMM's command line: memory that is not
//! shared, a queue count in the wrong unit, the wrong end listening. So the program prints the
//! arguments that fit the ports that it would serve, ready to paste.
//!
//! The printers are pure, except that they ask the QEMU at hand which options it takes
//! ([`Printer::ask`]). The caller brings each port's MAC address. What can go wrong: the VMM's
//! syntax cannot hold a value. It is refused.

mod cloud_hypervisor;
mod libvirt;
mod printer;
mod qemu;
mod shell;
mod shown_port;

pub use printer::Printer;
pub use printer::capabilities_json;
pub use qemu::Qemu;
