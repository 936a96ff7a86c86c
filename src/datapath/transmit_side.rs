//! The transmit side of a queue pair: the guest's transmit ring, and what its turns take frames to.

use std::fs::File;
use std::sync::Arc;

use crate::datapath::backing::Backing;
use crate::datapath::port::PortData;
use crate::datapath::scratch::Scratch;
use crate::datapath::turn_end::TurnEnd;
use crate::datapath::{guest_to_switch, guest_to_tap};
use crate::virtqueue::vring::{Remains, RingLog, Vring, VringConfig};

/// The transmit side of a queue pair.
#[derive(Default)]
pub(crate) struct TransmitSide {
    pub(crate) vring: Vring,
    pub(crate) backing: Backing,
    pub(crate) kick: Option<File>,
}

impl TransmitSide {
    /// Control: makes the ring as the front-end wants it. Returns what is left of the ring before.
    pub(crate) fn apply(
        &mut self,
        config: &VringConfig,
        port: &PortData,
        name: &dyn RingLog,
    ) -> Option<Remains> {
        let remains = self.vring.apply(config, name);
        if !self.vring.enabled && self.vring.ring.is_some() {
            // Now rather than by the worker: cloud-hypervisor pauses a guest by disabling its
            // rings, and takes a snapshot of the memory when we have answered. Four turns are the
            // longest ring; a guest that goes on sending is the worker's.
            let mut scratch = Scratch::default();
            for _ in 0..4 {
                let end = guest_to_tap::turn(&mut self.vring, None, port, &mut scratch, name);
                if end != TurnEnd::More {
                    break;
                }
            }
        }
        remains
    }

    /// Worker: runs one turn of queue pair `index`. With `busy_poll`, the guest need not be asked
    /// to kick.
    pub(crate) fn turn(
        &mut self,
        port: &PortData,
        index: u16,
        busy_poll: bool,
        scratch: &mut Scratch,
        name: &dyn RingLog,
    ) -> TurnEnd {
        let TransmitSide { vring, backing, .. } = self;
        let end = match backing.attachment().filter(|_| vring.active()) {
            Some(attachment) => {
                guest_to_switch::turn(vring, attachment, port, index, busy_poll, scratch, name)
            }
            None => {
                let tap = backing.tap().map(Arc::as_ref);
                guest_to_tap::turn(vring, tap, port, scratch, name)
            }
        };
        vring.check_memory(name);
        end
    }
}
