//! Devices and addresses created, changed and deleted by rtnetlink.
//!
//! Kernel facts: at creation RTM_NEWLINK takes the MAC, the MTU and the macvtap's own data, but
//! silently ignores the alias and the IPv6 settings, which need a second message. A device's own
//! data (the source list) changes only by RTM_NEWLINK without NLM_F_CREATE; RTM_SETLINK ignores it.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, InfoMacVtap, LinkAttribute, LinkFlags,
    LinkMessage, MacVtapMacAddressMode,
};
use rtnetlink::{LinkMacVtap, LinkMessageBuilder, LinkUnspec};

use crate::host::address::HostAddress;
use crate::host::link::from_mode;
use crate::host::netlink::Netlink;
use crate::host::spec::NewMacvtap;
use crate::net::mac::Mac;
use crate::net::mode::Mode;

impl Netlink {
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

    /// Takes an address of the host's off its device. EADDRNOTAVAIL: it is no longer there.
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

    /// Deletes all devices of a group, also those of other programs. EPERM for group 0, where all
    /// start.
    pub fn delete_group(&mut self, group: u32) -> io::Result<()> {
        let mut request = self.handle.link().del(0);
        request.message_mut().attributes.push(LinkAttribute::Group(group));
        self.wait(request.execute())
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
