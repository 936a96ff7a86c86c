//! The blocking face of rtnetlink: ask about devices, create, change and delete them.
//!
//! rtnetlink is asynchronous; we are not. A current-thread runtime lives inside [`Netlink`] and
//! turns only while a call waits: no thread is started and nothing happens between calls. Each call
//! is one question and its answer, a few tens of microseconds, and has a time limit, because a
//! message that the packet crate cannot decode would otherwise be waited for in vain.
//!
//! The socket belongs to the network namespace of the thread that calls [`Netlink::open`], whichever
//! thread uses it later.
//!
//! Errors are `io::Error`s that keep the kernel's errno: what EBUSY or EINVAL means depends on what
//! was attempted, so the callers (`parent.rs`, `macvtap.rs`) put it into words.
//!
//! Kernel facts: at creation RTM_NEWLINK takes the MAC, the MTU and the macvtap's own data, but
//! silently ignores the alias and the IPv6 settings, which need a second message. A device's own
//! data (the source list) changes only by RTM_NEWLINK without NLM_F_CREATE; RTM_SETLINK ignores it.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::stream::StreamExt;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, InfoMacVtap, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo as Info, LinkMessage, MacVtapMacAddressMode,
};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::{Handle, LinkMacVtap, LinkMessageBuilder, LinkUnspec};
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};
use crate::host::address::HostAddress;
use crate::host::link::{LinkInfo, PORT_KINDS, from_mode};
use crate::host::spec::NewMacvtap;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// How long an answer may take. Creating a device waits for RCU grace periods and for everybody
/// else who holds the kernel's RTNL lock: seconds are possible on a busy host.
const PATIENCE: Duration = Duration::from_secs(20);

/// The number of an attribute that the packet crate does not know outside of a property list.
const IFLA_ALT_IFNAME: u16 = 53;
/// ALTIFNAMSIZ without the terminating zero.
const LONGEST_NAME: usize = 127;

/// A netlink connection to one network namespace.
#[derive(Debug)]
pub struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

impl Netlink {
    /// Opens a connection to the calling thread's network namespace.
    pub fn open() -> Result<Netlink> {
        let failed = |error: io::Error| {
            Error::system(
                "netlink socket",
                format!("cannot be opened: {error}"),
                "allow AF_NETLINK sockets (RestrictAddressFamilies= of systemd, seccomp filters)",
            )
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (connection, handle, _news) = {
            let _inside = runtime.enter();
            rtnetlink::new_connection().map_err(failed)?
        };
        drop(runtime.spawn(connection));
        Ok(Netlink { runtime, handle })
    }

    /// Turns the runtime until the answer is there.
    fn wait<T>(
        &self,
        answer: impl Future<Output = std::result::Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        self.runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(message.to_io()),
                Ok(Err(other)) => Err(io::Error::other(other)),
                Err(_) => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            }
        })
    }

    /// The device of exactly that name or alternative name, if there is one.
    pub fn link_by_name(&mut self, name: &str) -> io::Result<Option<LinkInfo>> {
        if name.len() < libc::IFNAMSIZ {
            return self.one(self.handle.link().get().match_name(name));
        }
        // IFLA_IFNAME holds 15 bytes, and with more the kernel refuses the question.
        let mut request = self.handle.link().get().match_index(0);
        let name = DefaultNla::new(IFLA_ALT_IFNAME, [name.as_bytes(), &[0]].concat());
        request.message_mut().attributes.push(LinkAttribute::Other(name));
        self.one(request)
    }

    /// The device that the user means by `given`: its name, an alternative name, or the way in which
    /// `ip` prints a device that has a lower one ("mac0@eth0", "eth0@if5").
    pub fn link_given_as(&mut self, given: &str) -> io::Result<Option<LinkInfo>> {
        // A device may have an '@' in its very name: that one comes first.
        let found = if given.len() > LONGEST_NAME { None } else { self.link_by_name(given)? };
        match given.rsplit_once('@') {
            Some((name, _)) if found.is_none() && !name.is_empty() => self.link_by_name(name),
            _ => Ok(found),
        }
    }

    /// The device with that index, if there is one.
    pub fn link_by_index(&mut self, index: u32) -> io::Result<Option<LinkInfo>> {
        self.one(self.handle.link().get().match_index(index))
    }

    fn one(&self, request: rtnetlink::LinkGetRequest) -> io::Result<Option<LinkInfo>> {
        let answer = self.wait(async {
            let mut links = Box::pin(request.execute());
            links.next().await.transpose()
        });
        match answer {
            Ok(link) => Ok(link.as_ref().map(LinkInfo::parse)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All macvlan and macvtap devices whose parent has this index. `parent_netns` is the parent's
    /// network namespace id where that is not ours (see [`LinkInfo::parent_netns`]).
    pub fn ports_of(
        &mut self,
        parent: u32,
        parent_netns: Option<i32>,
    ) -> io::Result<Vec<LinkInfo>> {
        let mut ports = Vec::new();
        for kind in PORT_KINDS {
            let found = self.dump(Some(kind.clone()))?;
            ports.extend(found.into_iter().filter(|link| {
                link.kind.as_deref() == Some(kind.to_string().as_str())
                    && link.parent == Some(parent)
                    && link.parent_netns == parent_netns
            }));
        }
        Ok(ports)
    }

    /// All devices.
    pub fn links(&mut self) -> io::Result<Vec<LinkInfo>> {
        self.dump(None)
    }

    /// Devices of one kind, or all. The kernel filters, unless it has never heard of the kind (module not
    /// loaded): then it sends everything, and the caller's filter finds nothing.
    fn dump(&self, kind: Option<InfoKind>) -> io::Result<Vec<LinkInfo>> {
        let mut request = self
            .handle
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        if let Some(kind) = kind {
            request.message_mut().attributes.push(LinkAttribute::LinkInfo(vec![Info::Kind(kind)]));
        }
        self.wait(async {
            let mut stream = Box::pin(request.execute());
            let mut links = Vec::new();
            while let Some(link) = stream.next().await {
                links.push(LinkInfo::parse(&link?));
            }
            Ok(links)
        })
    }

    /// Creates a macvtap device, down.
    pub fn create_macvtap(&mut self, new: &NewMacvtap<'_>) -> io::Result<()> {
        let mut builder = LinkMacVtap::new(new.name, new.parent, from_mode(new.mode));
        if let Some(mac) = new.mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = new.mtu {
            builder = builder.mtu(mtu);
        }
        if !new.sources.is_empty() {
            builder = with_sources(builder, new.sources);
        }
        self.wait(self.handle.link().add(builder.build()).execute())
    }

    /// Replaces the source list of a macvtap in source mode.
    pub fn set_sources(&mut self, index: u32, sources: &[Mac]) -> io::Result<()> {
        let builder = LinkMessageBuilder::<LinkMacVtap>::new_with_info_kind(InfoKind::MacVtap);
        let message = with_sources(builder.index(index), sources).build();
        self.wait(self.handle.link().change(message).execute())
    }

    fn set(&mut self, message: LinkMessage) -> io::Result<()> {
        self.wait(self.handle.link().set(message).execute())
    }

    /// Sets the hardware address. EADDRINUSE: the parent or a port that is up has it.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).address(mac.0.to_vec()).build())
    }

    /// Sets the MTU, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).mtu(mtu).build())
    }

    /// Sets the length of the transmit queue, in frames.
    pub fn set_queue_len(&mut self, index: u32, frames: u32) -> io::Result<()> {
        let length = LinkAttribute::TxQueueLen(frames);
        self.set(LinkUnspec::new_with_index(index).append_extra_attribute(length).build())
    }

    /// Renames the device. EEXIST: the name is taken. EBUSY: it is up (before Linux 6.2).
    pub fn set_name(&mut self, index: u32, name: &str) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).name(name).build())
    }

    /// Makes the device a port of another one, or of none.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> io::Result<()> {
        let master = LinkAttribute::Controller(master.unwrap_or(0));
        self.set(LinkUnspec::new_with_index(index).append_extra_attribute(master).build())
    }

    /// Changes the mode of a macvtap. EINVAL: to or from passthru mode.
    pub fn set_macvtap_mode(&mut self, index: u32, mode: Mode) -> io::Result<()> {
        let builder = LinkMessageBuilder::<LinkMacVtap>::new_with_info_kind(InfoKind::MacVtap);
        let mode = InfoMacVtap::Mode(from_mode(mode));
        let message = builder.index(index).append_info_data(mode).build();
        self.wait(self.handle.link().change(message).execute())
    }

    /// Takes an address of the host's off its device. EADDRNOTAVAIL: it has gone already.
    pub fn delete_address(&mut self, address: &HostAddress) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address.ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.index = address.index;
        message.header.prefix_len = address.prefix;
        message.attributes = vec![AddressAttribute::Local(address.ip)];
        self.wait(self.handle.address().del(message).execute())
    }

    /// Sets the device up or down. EADDRINUSE: another port that is up has its MAC address.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        self.set_flags(index, flags, LinkFlags::Up)
    }

    /// Sets those flags that are in `mask` to their state in `flags`.
    pub fn set_flags(&mut self, index: u32, flags: LinkFlags, mask: LinkFlags) -> io::Result<()> {
        let mut message = LinkUnspec::new_with_index(index).build();
        message.header.flags = flags & mask;
        message.header.change_mask = mask;
        self.set(message)
    }

    /// Sets the alias, free text of at most 255 bytes.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).alias(alias).build())
    }

    /// Makes the kernel form no IPv6 link-local address. EAFNOSUPPORT: the device has no IPv6.
    pub fn no_ipv6_addresses(&mut self, index: u32) -> io::Result<()> {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        self.set(LinkUnspec::new_with_index(index).append_extra_attribute(spec).build())
    }

    /// Puts the device into a group (IFLA_GROUP), which only serves to address many at once.
    pub fn set_group(&mut self, index: u32, group: u32) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).link_group(group).build())
    }

    /// Deletes all devices of a group, whoever put them there. EPERM for group 0, where all start.
    pub fn delete_group(&mut self, group: u32) -> io::Result<()> {
        let mut request = self.handle.link().del(0);
        request.message_mut().attributes.push(LinkAttribute::Group(group));
        self.wait(request.execute())
    }

    /// The host's neighbours, IPv4 and IPv6, on all devices.
    pub fn neighbours(&mut self) -> io::Result<Vec<NeighbourMessage>> {
        self.neighbour_dump(AddressFamily::Unspec)
    }

    /// The forwarding entries of all bridges.
    pub fn bridge_entries(&mut self) -> io::Result<Vec<NeighbourMessage>> {
        self.neighbour_dump(AddressFamily::Bridge)
    }

    fn neighbour_dump(&self, family: AddressFamily) -> io::Result<Vec<NeighbourMessage>> {
        let request = self.handle.neighbours().get().set_address_family(family);
        self.wait(async {
            let mut stream = Box::pin(request.execute());
            let mut entries = Vec::new();
            while let Some(entry) = stream.next().await {
                entries.push(entry?);
            }
            Ok(entries)
        })
    }

    /// Deletes the device.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        self.wait(self.handle.link().del(index).execute())
    }
}

fn with_sources(
    builder: LinkMessageBuilder<LinkMacVtap>,
    sources: &[Mac],
) -> LinkMessageBuilder<LinkMacVtap> {
    let list = sources.iter().map(|mac| InfoMacVtap::MacAddr(mac.0)).collect();
    builder
        .append_info_data(InfoMacVtap::MacAddrMode(MacVtapMacAddressMode::Set))
        .append_info_data(InfoMacVtap::MacAddrData(list))
}
