//! Questions to rtnetlink: one device, all ports of a parent, and the kernel's neighbour and bridge
//! tables.

use std::io;

use futures_util::stream::StreamExt;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo as Info};
use rtnetlink::packet_route::neighbour::NeighbourMessage;

use crate::host::link::{LinkInfo, PORT_KINDS};
use crate::host::netlink::Netlink;

/// The number of an attribute that the packet crate does not know outside of a property list.
const IFLA_ALT_IFNAME: u16 = 53;
/// ALTIFNAMSIZ without the terminating zero.
const LONGEST_NAME: usize = 127;

impl Netlink {
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

    /// The device that the user means by `given`: its name, an alternative name, or the way in
    /// which `ip` prints a device that has a lower one ("mac0@eth0", "eth0@if5").
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

    /// Devices of one kind, or all. The kernel filters, unless it does not know the kind (module
    /// not loaded): then it sends everything, and the caller's filter finds nothing.
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
}
