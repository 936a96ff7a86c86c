//! Which ports can be had, before any of them is made.
//!
//! A macvtap device is news to every network manager of the host from its first moment on. A start
//! that fails halfway makes devices appear and vanish again, and reports one mistake even if there
//! are several. So the ports are judged first, one after the other, by the rules that also hold
//! when they are made (`parent.rs`, `adopt.rs`). Each one is then added to the kernel's devices, as
//! a sibling of those that follow.
//!
//! Rights are tried with calls that change nothing: a change of a device that does not exist needs
//! CAP_NET_ADMIN, a packet socket without a protocol CAP_NET_RAW, a filter that drops nothing
//! CAP_BPF.
//!
//! What can go wrong: the world changes between the judgement and the making, and a tap node's
//! permissions are not known before its device is there. Making a port therefore checks all of it
//! again.

use std::collections::HashMap;
use std::io;

use crate::error::Result;
use crate::host::device_lock::{DeviceLock, LockName};
use crate::host::link::LinkInfo;
use crate::host::netlink::Netlink;
use crate::host::parent::Parent;
use crate::host::spec::MacvtapSpec;
use crate::host::spec::Wanted;
use crate::host::{adopt, create, refusal};
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// No device has this index: the kernel looks at the sender's rights first and finds nothing then.
const NO_DEVICE: u32 = i32::MAX as u32;

/// The devices that the judged ports will have added to the host.
#[derive(Default)]
pub struct Foresight {
    /// Parents as the kernel showed them at the first question, by the name that was asked for.
    parents: HashMap<String, Parent>,
    /// The ports judged so far, each as the device that it will be, with its parent's index.
    planned: Vec<(u32, LinkInfo)>,
    /// Parents whose lock is free, by index.
    free: Vec<u32>,
}

impl Foresight {
    /// Judges a port of a kernel device.
    ///
    /// # Errors
    /// The error of [`Macvtap::open`](crate::host::macvtap::Macvtap::open), as far as it can be
    /// known.
    pub fn kernel_port(&mut self, netlink: &mut Netlink, spec: &MacvtapSpec) -> Result<()> {
        // Given back at once: if another process takes it meanwhile, the port is refused when it is
        // made.
        DeviceLock::take(&LockName::device(&spec.name))?;
        let existing = create::lookup(netlink, &spec.name)?;
        let existing = existing.filter(|link| !adopt::is_leftover(link));
        let parent = self.parent(netlink, &spec.parent, &spec.name)?;
        if let Some(existing) = &existing {
            adopt::check(existing, &parent, spec)?;
        }
        let object = format!("macvtap {}", spec.name);
        parent.check(&Wanted::of(spec, &object))?;
        if existing.is_none() {
            may_create(netlink).map_err(|error| refusal::creating(&object, &error))?;
        }
        let mac = spec.mac.or(existing.map(|link| link.mac));
        self.add_port(parent.link.index, &spec.name, "macvtap", spec.mode, mac);
        Ok(())
    }

    /// Judges a port in userspace.
    ///
    /// # Errors
    /// The parent's refusal, as far as it can be known.
    pub fn userspace_port(
        &mut self,
        netlink: &mut Netlink,
        name: &str,
        parent: &str,
        wanted: &Wanted<'_>,
    ) -> Result<LinkInfo> {
        let parent = self.parent(netlink, parent, "")?;
        if !self.free.contains(&parent.link.index) {
            DeviceLock::take(&LockName::parent(&parent.link.name, parent.link.index))?;
            self.add_parent(parent.link.index);
        }
        parent.check(wanted)?;
        self.add_port(parent.link.index, name, "port in userspace", wanted.mode, wanted.mac);
        Ok(parent.link)
    }

    /// The lock of the parent with this index need not be tried: it was free, or this process has
    /// it.
    pub fn add_parent(&mut self, parent: u32) {
        self.free.push(parent);
    }

    /// The parent with the ports that will be there; `port` is the device to be made, which is none
    /// of them.
    fn parent(&mut self, netlink: &mut Netlink, name: &str, port: &str) -> Result<Parent> {
        if !self.parents.contains_key(name) {
            let found = Parent::find(netlink, name, "")?;
            self.parents.insert(name.to_owned(), found);
        }
        let Some(known) = self.parents.get(name) else {
            return Parent::find(netlink, name, port);
        };
        let planned = self.planned.iter().filter(|(parent, _)| *parent == known.link.index);
        let planned: Vec<LinkInfo> = planned.map(|(_, link)| link.clone()).collect();
        let mut parent = known.clone();
        // A device of a planned port's name is adopted or replaced, and then it is that port.
        parent.siblings.retain(|link| {
            !link.is_called(port) && planned.iter().all(|planned| !link.is_called(&planned.name))
        });
        parent.siblings.extend(planned);
        Ok(parent)
    }

    /// Adds a port on the parent with this index to those that the next ones are judged beside: one
    /// that was judged, or one that runs already and that the kernel does not show.
    pub fn add_port(&mut self, parent: u32, name: &str, kind: &str, mode: Mode, mac: Option<Mac>) {
        let link = LinkInfo {
            name: name.to_owned(),
            kind: Some(kind.to_owned()),
            mode: Some(mode),
            // No clash is foreseen with an address that is not known yet.
            mac: mac.unwrap_or_default(),
            ..LinkInfo::default()
        };
        self.planned.push((parent, link));
    }
}

/// Tries whether this process may create devices here.
fn may_create(netlink: &mut Netlink) -> io::Result<()> {
    match netlink.set_mtu(NO_DEVICE, 0) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            Err(error)
        }
        // ENODEV, as a rule.
        _ => Ok(()),
    }
}
