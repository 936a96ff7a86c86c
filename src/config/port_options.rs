//! The options of a port, one entry each.
//!
//! A new option is a new entry here, a parser in `value.rs` if none fits, and a field of `PortConfig`
//! that `port_draft.rs` fills. Its flag, key, help, default, manual row and the answers to
//! mistyped names follow. The order of the entries is that of messages, help and manual.

use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::config::access::{self, Account};
use crate::config::option_table::options;
use crate::config::port_config::{Guard, Kind, MacChanges, MacChoice, ReservedGroups};
use crate::config::value;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

options! {
    /// What one source says about a port, parsed; or several sources, one over the other.
    settings PortSettings, table PORT_OPTIONS;

    socket: PathBuf {
        key "socket", flag "socket-path", takes Value("PATH"), scope OnePort,
        parse value::socket,
        default Required("required, or `--fd`"),
        help "The vhost-user socket to listen on",
        manual "the vhost-user socket, at most 107 bytes",
        synonyms ["path", "sock", "socket-path", "vhost-socket", "chardev", "unix", "listen", "vhost-user"],
    }
    fd: RawFd {
        key "fd", flag "fd", takes Number("N"), scope FlagOnly,
        parse value::fd,
        default Nothing,
        help "An inherited, already connected socket instead of --socket-path; implies --one-off",
        manual "an inherited, connected Unix stream socket, 3 or above; implies `--one-off`",
        synonyms [],
    }
    parent: String {
        key "parent", flag "parent", takes Value("DEV"), scope Inherited,
        parse value::parent,
        default Required("required"),
        help "The network device whose LAN the port joins: a NIC, a VLAN device, a bond",
        manual "the network device whose LAN the port joins: NIC, VLAN device, bond, bridge or veth; by its name, by an alternative name (`ip link property`, up to 127 bytes), or as `ip` prints it (`mac0@eth0`)",
        synonyms [
            "iface", "if", "ifname", "interface", "dev", "device", "netdev", "nic", "link", "lower",
            "lowerdev", "master", "bridge", "br", "eth", "uplink",
        ],
    }
    kind: Kind {
        key "type", flag "type", takes Value("TYPE"), scope Inherited,
        parse value::kind,
        default Literal("macvtap"),
        help "What carries the frames: macvtap (a kernel device) or macvlan (userspace; also: switch)",
        manual "what carries the frames: `macvtap`, a kernel device for each port, or `macvlan`, a port of our own switch (`switch` is a synonym): [Types](modes.md#type-macvtap-or-macvlan)",
        synonyms ["kind", "driver", "model"],
    }
    mode: Mode {
        key "mode", flag "mode", takes Value("MODE"), scope Inherited,
        parse value::mode,
        default Literal("bridge"),
        help "How the parent is shared: bridge, vepa, private, passthru or source",
        manual "`bridge`, `vepa`, `private`, `passthru`, `source`: [Modes](modes.md)",
        synonyms ["macvtap-mode"],
    }
    mac: MacChoice {
        key "mac", flag "mac", takes Value("MAC|auto"), scope Inherited,
        parse value::mac,
        default Literal("auto"),
        help "The MAC address, or auto: stable, from the machine id and the port's name; in passthru mode the parent's",
        manual "the guest's address, or `auto`",
        synonyms [
            "mac-address", "macaddr", "macaddress", "hwaddr", "address", "addr", "lladdr",
        ],
    }
    mtu: u32 {
        key "mtu", flag "mtu", takes Number("N"), scope Inherited,
        parse value::mtu,
        default Words("the parent's"),
        help "The MTU, 68 to 65535",
        manual "68 to 65535, at most the parent's",
        synonyms ["host-mtu"],
    }
    queue_pairs: u16 {
        key "queue-pairs", flag "queue-pairs", takes Number("N"), scope Inherited,
        parse value::queue_pairs,
        default Literal("1"),
        help "Queue pairs, 1 to 32",
        manual "1 to 32",
        synonyms ["queues", "num-queues", "queue-count", "queue", "pairs", "mq"],
    }
    memory_limit: u64 {
        key "memory-limit", flag "memory-limit", takes Number("SIZE"), scope Inherited,
        parse value::memory_limit,
        default Words("twice the host's memory, at least 16G"),
        help "The most memory that the guest may have, as 64G; more is refused",
        manual "the most memory that the guest may have, for example `64G` (K, M, G, T). The port refuses more; see [Guest memory](#guest-memory)",
        synonyms ["mem-limit", "max-memory"],
    }
    sources: Vec<Mac> {
        key "source", flag "source", takes List("MAC"), scope Inherited,
        parse value::sources,
        default Nothing,
        help "A source address that mode source accepts; repeatable",
        manual "an address from which mode `source` accepts frames; repeatable",
        synonyms ["sources", "macaddr-list"],
    }
    nodst: bool {
        key "nodst", flag "nodst", takes Switch, scope Inherited,
        parse value::on_off,
        default Literal("off"),
        help "With type macvlan and mode source: the host and the siblings do not receive the frames of those sources",
        manual "with `type=macvlan` and mode `source`: neither the host nor a sibling receives frames from those addresses",
        synonyms [],
    }
    reserved_groups: ReservedGroups {
        key "reserved-groups", flag "reserved-groups", takes Value("deliver|drop"), scope Inherited,
        parse value::reserved_groups,
        default Literal("deliver"),
        help "With type macvlan: frames from the wire to the groups that no bridge forwards (spanning tree, LACP, EAPOL, LLDP): deliver or drop",
        manual "with `type=macvlan`: whether the guest receives frames from the wire to the groups that no bridge forwards, 01:80:c2:00:00:00 to 0f (LLDP, 802.1AS, EAPOL, LACP, spanning tree): `deliver` or `drop`. A kernel device delivers them",
        synonyms [],
    }
    guard: Guard {
        key "guard", flag "guard", takes Value("stp|off"), scope Inherited,
        parse value::guard,
        default Words("`stp`; in passthru and with `--compat` `off`"),
        help "Frames that concern the cable and do not leave the guest: stp (spanning tree and PAUSE) or off",
        manual "which frames of the guest the port drops because they concern the host's cable: `stp` (spanning tree and PAUSE), or `off`: [Guard](modes.md#link-control-frames)",
        synonyms [],
    }
    name: String {
        key "name", flag "name", takes Value("NAME"), scope Inherited,
        parse value::name,
        default Words("from the socket path"),
        help "The name of the port and of its macvtap device, at most 15 bytes",
        manual "the name of the port and of its device, at most 15 bytes",
        synonyms ["tap", "id", "label", "port-name"],
    }
    mac_changes: MacChanges {
        key "mac-changes", flag "mac-changes", takes Value("allow|deny"), scope Inherited,
        parse value::mac_changes,
        default Words("`deny`; in passthru `allow`"),
        help "Another source address from the guest: adopt it, or drop and count the frame",
        manual "what the port does when the guest sends from another address: `allow` adopts the address, `deny` drops and counts the frame",
        synonyms ["mac-change", "spoof", "spoofchk", "trusted"],
    }
    compat: bool {
        key "compat", flag "compat", takes Switch, scope Inherited,
        parse value::on_off,
        default Literal("off"),
        help "With type macvlan: the kernel's behaviour to the letter, without our improvements",
        manual "with `type=macvlan`: the kernel's behaviour to the letter, without [our improvements](modes.md#where-our-switch-differs-from-the-kernel). No source address is checked, so it excludes `--mac-changes`",
        synonyms [],
    }
    client: bool {
        key "client", flag "client", takes Switch, scope Inherited,
        parse value::on_off,
        default Literal("off"),
        help "Connect to the socket instead of listening; retry indefinitely",
        manual "connect to the socket instead of listening; retries every 250 ms indefinitely",
        synonyms ["connect", "reconnect", "server"],
    }
    socket_owner: Account {
        key "socket-owner", flag "socket-owner", takes Value("USER"), scope Inherited,
        parse access::owner,
        default Words("the back-end's user"),
        help "The user that owns the socket and so may connect, by name or number",
        manual "the user that owns the socket, by name or number, and may therefore connect",
        synonyms ["owner", "user", "uid"],
    }
    socket_group: Account {
        key "socket-group", flag "socket-group", takes Value("GROUP"), scope Inherited,
        parse access::group,
        default Words("the back-end's group"),
        help "The group that may connect, by name or number",
        manual "the group that may connect, by name or number",
        synonyms ["group", "gid"],
    }
    socket_mode: u32 {
        key "socket-mode", flag "socket-mode", takes Octal("OCTAL"), scope Inherited,
        parse access::mode,
        default Words("from the umask; with `--socket-group` 0660"),
        help "The socket's permission bits, as 0660; a front-end needs the right to write",
        manual "the socket's permission bits, for example `0660`; a front-end needs the right to write",
        synonyms ["perm", "perms", "permissions", "umask"],
    }
}
