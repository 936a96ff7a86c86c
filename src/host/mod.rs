//! A port's device side: everything between its configuration and the queues that carry its frames.
//!
//! A port of type macvtap is a kernel network device on top of a parent, plus one character device
//! file descriptor per queue pair. This folder creates the device or adopts one, keeps the host's
//! network stack off it, opens the queues and gives everything back at the end. All of it is control
//! plane: it may wait, allocate and fail with an [`Error`](crate::error::Error). The exceptions are
//! the queues, [`TapQueue`](crate::uplink::tap::TapQueue) and [`PacketQueue`](crate::uplink::packet::PacketQueue), whose calls are what the data path uses.
//!
//! A port in userspace has no device of its own. Its switch shares one [`PacketQueue`](crate::uplink::packet::PacketQueue) on the parent,
//! and what the kernel's macvlan would do to the parent and the host is done by [`HostFilter`](host_filter::HostFilter) and
//! [`MacGuard`](mac_guard::MacGuard): both end well however the process ends.
//!
//! The way through the folder, in the order in which a port comes to life:
//!
//! Two rules hold everywhere. A network namespace belongs to a *thread*: sockets, /proc/sys/net and
//! the owner's lock are those of the thread that calls. And nothing is derived from an interface
//! index alone: indices repeat between namespaces, and /dev does not know namespaces.
//!
//! | file | idea |
//! | --- | --- |
//! | [`adopt`] | A device that exists already |
//! | [`bpf`] | A few BPF instructions by name, an assembler with labels, and the kernel's two doors for a program |
//! | [`closing`] | The end of a port, and of many ports in the time of a few |
//! | [`create`] | Making a new macvtap device |
//! | [`device_lock`] | One thing, one process |
//! | [`device_node`] | Finding and opening a tap's character device, and never another one's |
//! | [`foresight`] | Which ports can be had, before any of them is made |
//! | [`guardian`] | The guardian |
//! | [`host_filter`] | The host's own stack does not hear what is the guest's alone |
//! | [`link`] | A network device, as the kernel describes it |
//! | [`mac_guard`] | The parent has its own MAC address back when we are gone, even by `kill -9` |
//! | [`macvtap`] | A macvtap port |
//! | [`neighbours`] | Whose address this is, as far as the host knows |
//! | [`netlink`] | The blocking face of rtnetlink |
//! | [`parent`] | May this port live on this parent, beside these siblings? |
//! | [`quiesce`] | The host's side of the port stays mute, and the guest hears every group |
//! | [`refusal`] | The kernel's refusals, put into words |
//! | [`rootless`] | Whether we run in a user namespace other than the host's |
//! | [`sysfs`] | The view of /sys that belongs to our network namespace, and what is read there |
//! | [`upkeep`] | What another program has changed about a port's device, and how it is put right |
//! | [`watch`] | The kernel's news about network devices, as they come |

pub(crate) mod address;
pub(crate) mod adopt;
pub(crate) mod bpf;
pub mod closing;
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
pub(crate) mod upkeep;
pub(crate) mod verbs;
pub mod watch;
