//! Everything that takes a privilege: what a port needs of the host's network, opened, changed and given back.
//!
//! The control thread calls the verbs of the trait [`Host`](verbs::Host). Arguments and results are plain data or
//! descriptors, so that a process of its own can stand behind the trait later. The data path calls nothing here: it
//! is given descriptors.
//!
//! A port of type macvtap is a kernel network device on top of a parent, and one descriptor of its character device
//! for each queue pair. This room creates the device or adopts one, keeps the host's network stack off it, opens the
//! queues and gives everything back at the end. A port in userspace has no device of its own. Packet sockets are opened
//! for its parent, and what the kernel's macvlan would do to the parent and to the host is done by
//! [`HostFilter`](host_filter::HostFilter) and [`MacGuard`](mac_guard::MacGuard). Both end with this process, however it
//! ends.
//!
//! Two rules hold everywhere. A network namespace belongs to a *thread*: sockets, /proc/sys/net and
//! the device's lock are those of the thread that calls. And nothing is derived from an interface
//! index alone: indices repeat between namespaces, and /dev does not know namespaces.
//!
//! | file | idea |
//! | --- | --- |
//! | [`address`] | An IP address that the host has on a device |
//! | [`adopt`] | A device that exists already |
//! | [`bpf`] | A few BPF instructions by name, an assembler with labels, and the kernel's two doors for a program |
//! | [`closing`] | The end of a port, and of many ports in the time of a few |
//! | [`create`] | Making a new macvtap device |
//! | [`device_lock`] | One thing, one process |
//! | [`device_node`] | Finding and opening a tap's character device, and never another one's |
//! | [`foresight`] | Which ports can be had, before any of them is made |
//! | [`guardian`] | The guardian |
//! | [`host_filter`] | Frames that are the guest's alone, kept from the host's own stack |
//! | [`link`] | A network device, as the kernel describes it |
//! | [`local`] | The verbs, done by this very process |
//! | [`mac_guard`] | The parent has its own MAC address back when we are gone, even by `kill -9` |
//! | [`macvtap`] | A macvtap port |
//! | [`neighbours`] | Whose address this is, as far as the host knows |
//! | [`netlink`] | The blocking face of rtnetlink |
//! | [`packet_socket`] | Opening a packet socket |
//! | [`parent`] | May this port live on this parent, beside these siblings? |
//! | [`quiesce`] | The host neither speaks on a port's device nor filters the guest's groups |
//! | [`refusal`] | The kernel's refusals, put into words |
//! | [`rootless`] | Whether we run in a user namespace other than the host's |
//! | [`spec`] | What a port asks of the host |
//! | [`sysfs`] | The view of /sys that belongs to our network namespace, and what is read there |
//! | [`tap_setup`] | The first ioctls on an opened tap node |
//! | [`upkeep`] | What another program has changed about a port's device, and how it is put right |
//! | [`verbs`] | What the control side asks of the host, in one trait |
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
