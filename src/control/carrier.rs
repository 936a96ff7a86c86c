//! The carrier of a port's frames: a device of the kernel, or a place in our own switch.
//!
//! Both kinds have an address and a parent, can be given another address, and end. They differ in
//! their owner: the port owns its kernel device, and [`Parents`](crate::control::parents::Parents)
//! keeps the ports in userspace, because they share a parent.

use std::time::Instant;

use crate::config::{Kind, PortConfig};
use crate::control::context::ControlContext;
use crate::control::kernel_port;
use crate::control::kernel_port::{KernelPort, UsedDevice};
use crate::control::parents::UserspacePort;
use crate::control::port_core::PortCore;
use crate::datapath::port::PortData;
use crate::error::Result;
use crate::host::link::LinkInfo;
use crate::host::watch::LinkEvent;
use crate::net::mac::Mac;

/// The carrier of a port's frames.
pub enum Carrier {
    /// A device of the kernel.
    Kernel(Box<KernelPort>),
    /// A place in our own switch.
    Userspace(UserspacePort),
}

impl Carrier {
    /// Makes the carrier of a port's frames, and its queue pairs.
    ///
    /// # Errors
    /// The device or the parent cannot be had; nothing is left behind.
    pub fn open(
        config: &PortConfig,
        data: PortData,
        context: &mut ControlContext,
    ) -> Result<(PortCore, Carrier)> {
        match config.kind {
            Kind::Macvtap => {
                let device = kernel_port::open(config, context.host.as_mut())?;
                let slots = (0..config.queue_pairs).map(|_| context.pool.slot()).collect();
                let core = PortCore::new(config, data, slots);
                let port = KernelPort::start(&core, device);
                Ok((core, Carrier::Kernel(Box::new(port))))
            }
            Kind::Macvlan => {
                let slots =
                    context.parents.slots(config, context.host.as_mut(), &mut context.pool)?;
                let core = PortCore::new(config, data, slots);
                match context.parents.join(&core, context.host.as_mut()) {
                    Ok(port) => Ok((core, Carrier::Userspace(port))),
                    Err(error) => {
                        core.leave();
                        Err(error)
                    }
                }
            }
        }
    }

    /// The address that was printed for the port.
    pub fn own_mac(&self, context: &ControlContext) -> Mac {
        match self {
            Carrier::Kernel(port) => port.own_mac(),
            Carrier::Userspace(port) => context.parents.own_mac(port),
        }
    }

    /// Gives the port another address.
    ///
    /// # Errors
    /// The device is lost or does not take it, or it is another port's.
    pub fn set_mac(
        &mut self,
        core: &PortCore,
        mac: Mac,
        context: &mut ControlContext,
    ) -> Result<()> {
        match self {
            Carrier::Kernel(port) => port.set_mac(core, context.host.as_mut(), mac),
            Carrier::Userspace(port) => context.parents.set_mac(port, context.host.as_mut(), mac),
        }
    }

    /// The device that carries the port's frames to the LAN, while it is there.
    pub fn parent(&self, context: &ControlContext) -> Option<LinkInfo> {
        match self {
            Carrier::Kernel(port) => port.parent(),
            Carrier::Userspace(port) => context.parents.parent(port),
        }
    }

    /// Forgets the groups that the guest had joined.
    pub fn forget_guest(&self, context: &mut ControlContext) {
        if let Carrier::Userspace(port) = self {
            context.parents.forget_guest(port);
        }
    }

    /// Takes note of a change among the kernel's devices.
    pub fn note(&mut self, core: &PortCore, event: &LinkEvent, context: &mut ControlContext) {
        if let Carrier::Kernel(port) = self {
            port.note(core, event, context.host.as_mut());
        }
    }

    /// Makes a lost device again, if that is due and possible. Returns when to ask again.
    pub fn restore(
        &mut self,
        core: &PortCore,
        context: &mut ControlContext,
        now: Instant,
    ) -> Option<Instant> {
        let Carrier::Kernel(port) = self else { return None };
        port.restore(core, context.host.as_mut(), now)
    }

    /// Ends everything but a kernel device, which is returned.
    pub fn close(self, core: &PortCore, context: &mut ControlContext) -> Option<UsedDevice> {
        match self {
            Carrier::Kernel(port) => port.end(core),
            Carrier::Userspace(port) => {
                context.parents.leave(port, core);
                None
            }
        }
    }

    /// The kernel device alone. Takes no lock of the data plane.
    pub fn abandon(self) -> Option<UsedDevice> {
        match self {
            Carrier::Kernel(port) => port.abandon(),
            Carrier::Userspace(_) => None,
        }
    }
}
