//! All calls that need a privilege: they open, change and give back a port's part of the host's
//! network.
//!
//! The control thread calls the verbs of the trait [`Host`](verbs::Host). Arguments and results are
//! plain data or descriptors, so that a process of its own can stand behind the trait later. The
//! data path calls nothing here: the control thread hands it descriptors.
//!
//! A port of type macvtap is a kernel network device on top of a parent, and one descriptor of its
//! character device for each queue pair. This room creates the device or adopts one, keeps the
//! host's network stack off it, opens the queues and gives everything back at the end. A port in
//! userspace has no device of its own. Packet sockets are opened for its parent.
//! [`HostFilter`](host_filter::HostFilter) and [`MacGuard`](mac_guard::MacGuard) do the work of the
//! kernel's macvlan on the parent and the host. The kernel or the guardian undoes both when this
//! process ends, in any way.
//!
//! Two rules hold everywhere. A network namespace belongs to a *thread*: sockets, /proc/sys/net and
//! the device's lock are those of the calling thread. And no decision depends on an interface index
//! alone: indices repeat between namespaces, and /dev does not know namespaces.
//!
//! | file | idea |
//! | --- | --- |
//! | [`address`] | An IP address that the host has on a device |
//! | [`adopt`] | A device that exists already: replaced, adopted, or refused |
//! | [`bpf`] | A few BPF instructions, an assembler with labels, and the kernel's two calls for a program |
//! | [`macvtap::closing`] | The end of a port, and of many ports in the time of a few |
//! | [`create`] | Making a new macvtap device by two netlink messages |
//! | [`device_lock`] | The lock of a device or parent, which only one process can hold |
//! | [`device_node`] | Finding and opening a tap's character device, and never another one's |
//! | `fake` | A host for unit tests, which changes nothing and records every verb |
//! | [`foresight`] | The check of all ports before any of them is made |
//! | [`guardian`] | The process that puts a parent's MAC address back after its owner has ended |
//! | [`host_filter`] | Frames that are the guest's alone, kept from the host's own stack |
//! | [`link`] | A network device, as the kernel describes it |
//! | [`local`] | The verbs, done by this very process |
//! | [`mac_guard`] | Our end of the guardian: starts it, announces changes, releases it |
//! | [`macvtap`] | A macvtap port: the kernel device and its open queues |
//! | [`neighbours`] | The known owner of an address, from the host's neighbour tables |
//! | [`netlink`] | The blocking face of rtnetlink |
//! | [`packet_socket`] | Opening a packet socket, with its buffers |
//! | [`parent`] | The check whether a port may live on a parent, beside its siblings |
//! | [`quiesce`] | Keeps the host from sending on a port's device and from filtering the guest's groups |
//! | [`refusal`] | The kernel's refusals, put into words |
//! | [`rootless`] | Whether we run in a user namespace other than the host's |
//! | [`spec`] | The specification of a port for the host |
//! | [`sysfs`] | The view of /sys that belongs to our network namespace |
//! | [`tap_setup`] | The first ioctls on an opened tap node |
//! | [`macvtap::upkeep`] | Changes by another program to a port's device, and their repair |
//! | [`verbs`] | The control side's requests to the host, in one trait |
//! | [`watch`] | The kernel's news about network devices, as they come |

pub(crate) mod address;
pub(crate) mod adopt;
pub(crate) mod bpf;
pub(crate) mod create;
pub mod device_lock;
pub(crate) mod device_node;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod foresight;
pub mod guardian;
pub mod host_filter;
pub(crate) mod link;
pub mod local;
pub mod mac_guard;
pub mod macvtap;
pub(crate) mod neighbours;
pub mod netlink;
pub mod packet_socket;
pub(crate) mod parent;
pub(crate) mod quiesce;
pub(crate) mod refusal;
pub(crate) mod rootless;
pub mod spec;
pub(crate) mod sysfs;
pub mod tap_setup;
pub(crate) mod verbs;
pub mod watch;
