//! The front door: guest memory.
//!
//! Regions are checked one by one before anything maps them (`region.rs`). A region that is added twice,
//! as QEMU up to 7.2 does once per queue pair, is acknowledged and dropped; the crate would take it for an
//! overlap and end the connection.

use super::region::{Region, check_region};
use super::{Action, FrontDoor};
use crate::server::message::Message;

impl FrontDoor {
    pub(super) fn set_mem_table(&mut self, mut message: Message) -> Vec<Action> {
        let Some(mut regions) = Region::parse_table(&message.payload) else {
            return self.misshapen(&message);
        };
        if regions.len() != message.fds.len() {
            let counts = format!(
                "{} memory regions came with {} descriptors: guest memory must be shared \
                 (memory-backend-memfd,share=on; cloud-hypervisor: shared=on)",
                regions.len(),
                message.fds.len()
            );
            return self.refuse(&message, counts);
        }
        for (number, (region, fd)) in regions.iter().zip(&message.fds).enumerate() {
            let clash = regions[..number].iter().any(|other| other.overlaps(region));
            let checked =
                if clash { Err("it overlaps another".into()) } else { check_region(region, fd) };
            if let Err(reason) = checked {
                return self
                    .refuse(&message, format!("memory region {number} ({region}): {reason}"));
            }
        }
        // The specification knows no order, the crate takes only one.
        let mut pairs: Vec<_> = regions.drain(..).zip(std::mem::take(&mut message.fds)).collect();
        pairs.sort_by_key(|(region, _)| region.guest);
        (regions, message.fds) = pairs.into_iter().unzip();
        message.payload = Region::table(&regions);
        self.regions = regions;
        self.pass(message)
    }

    pub(super) fn add_region(&mut self, message: Message) -> Vec<Action> {
        let Some(region) = Region::parse_single(&message.payload) else {
            return self.misshapen(&message);
        };
        if self.regions.contains(&region) {
            return self.done(&message);
        }
        let checked = match message.fds.as_slice() {
            _ if self.regions.iter().any(|other| other.overlaps(&region)) => {
                Err("it overlaps another".to_owned())
            }
            [fd] => check_region(&region, fd),
            fds => {
                Err(format!("it came with {} descriptors: guest memory must be shared", fds.len()))
            }
        };
        if let Err(reason) = checked {
            return self.refuse(&message, format!("memory region ({region}): {reason}"));
        }
        self.regions.push(region);
        self.pass(message)
    }

    pub(super) fn remove_region(&mut self, mut message: Message) -> Vec<Action> {
        let Some(region) = Region::parse_single(&message.payload) else {
            return self.misshapen(&message);
        };
        let Some(at) = self.regions.iter().position(|other| other.same_place(&region)) else {
            return self.refuse(&message, format!("there is no memory region {region}"));
        };
        self.regions.remove(at);
        // Some front-ends send the descriptor once more.
        message.fds.clear();
        self.pass(message)
    }
}
