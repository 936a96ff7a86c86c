//! Requests about guest memory.
//!
//! Regions are checked one by one before the crate maps them (`region.rs`, `region_file.rs`). A
//! region that is added twice, as QEMU up to 7.2 does once per queue pair, is acknowledged and
//! dropped; the crate would refuse it as an overlap and end the connection.
//!
//! A connection has at most [`MAX_REGIONS`] regions, from any requests together, and no more memory
//! than its port allows (`memory-limit`). Regions cost a descriptor, mappings and time: without a
//! bound one front-end would use up resources that other ports need.

use nix::sys::stat::fstat;
use nix::unistd::{SysconfVar, sysconf};

use crate::config::size;
use crate::vhost_user::message::Message;
use crate::vhost_user::received_fd::ReceivedFd;
use crate::vhost_user::request_filter::action::RequestVerdict;
use crate::vhost_user::request_filter::region::RegionRequest;
use crate::vhost_user::request_filter::region_file::check_region;
use crate::vhost_user::request_filter::sharing::{HOW, is_private};

/// Most regions of a connection, which is also the promise of GET_MAX_MEM_SLOTS. The specification
/// asks for 8 at least; 32 are as many descriptors as come with a message, and more than QEMU's
/// slots for DIMMs need in practice.
pub(crate) const MAX_REGIONS: usize = 32;

/// The default limit of a port, in bytes: twice the host's memory, since guests may have more
/// memory than the host, and at least 16 GiB.
pub fn usual_memory() -> u64 {
    let ask = |what| sysconf(what).ok().flatten().and_then(|number| u64::try_from(number).ok());
    let pages = ask(SysconfVar::_PHYS_PAGES).unwrap_or(0);
    let host = pages.saturating_mul(ask(SysconfVar::PAGE_SIZE).unwrap_or(0));
    host.saturating_mul(2).max(16 << 30)
}

/// Whether a connection may have these regions.
fn judge_sum<'a>(
    regions: impl Iterator<Item = &'a RegionRequest>,
    limit: u64,
) -> Result<(), String> {
    let (mut count, mut bytes) = (0usize, 0u64);
    for region in regions {
        (count, bytes) = (count + 1, bytes.saturating_add(region.size));
    }
    if count > MAX_REGIONS {
        return Err(format!("it makes {count} regions; at most {MAX_REGIONS} are taken"));
    }
    if bytes > limit {
        return Err(format!(
            "the guest's memory would be {}, more than the port's limit of {}; raise that \
             (memory-limit=), or give the guest less",
            size::text(bytes),
            size::text(limit)
        ));
    }
    Ok(())
}

/// The regions that a connection has.
#[derive(Debug)]
pub(crate) struct GuestRegions {
    regions: Vec<RegionRequest>,
    /// Most memory, in bytes.
    limit: u64,
    /// The front-end's process, whose mappings are checked; 0 when it is not known.
    pid: i32,
}

impl GuestRegions {
    /// No regions yet.
    pub(crate) fn new(limit: u64, pid: i32) -> GuestRegions {
        GuestRegions { regions: Vec::new(), limit, pid }
    }

    /// Whether the front-end has given no memory.
    pub(crate) fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Whether the front-end's address `user` lies in a region.
    pub(crate) fn holds_user(&self, user: u64) -> bool {
        self.regions.iter().any(|region| region.holds_user(user))
    }

    /// Whether the region can be used, and the front-end shares its file with us.
    fn check(&self, region: &RegionRequest, fd: &ReceivedFd) -> Result<(), String> {
        check_region(region, fd)?;
        // After the check: only then it is known that fstat of this kind of file does not wait.
        let inode = fstat(&**fd).map_err(|errno| format!("its descriptor: {errno}"))?.st_ino;
        if is_private(self.pid, region.user, inode) {
            return Err(format!("the front-end maps its file privately; {HOW}"));
        }
        Ok(())
    }

    /// SET_MEM_TABLE: these regions and no others.
    pub(crate) fn set_table(&mut self, mut message: Message) -> RequestVerdict {
        let Some(mut regions) = RegionRequest::parse_table(&message.payload) else {
            if message.payload.iter().all(|&byte| byte == 0) {
                return RequestVerdict::Refuse(message, format!("no memory region; {HOW}"));
            }
            return RequestVerdict::Misshapen(message);
        };
        if regions.len() != message.fds.len() {
            let counts = format!(
                "{} memory regions came with {} descriptors; {HOW}",
                regions.len(),
                message.fds.len()
            );
            return RequestVerdict::Refuse(message, counts);
        }
        if let Err(reason) = judge_sum(regions.iter(), self.limit) {
            return RequestVerdict::Refuse(message, reason);
        }
        for (number, (region, fd)) in regions.iter().zip(&message.fds).enumerate() {
            let clash = regions[..number].iter().any(|other| other.overlaps(region));
            let checked =
                if clash { Err("it overlaps another".into()) } else { self.check(region, fd) };
            if let Err(reason) = checked {
                let reason = format!("memory region {number} ({region}): {reason}");
                return RequestVerdict::Refuse(message, reason);
            }
        }
        // The specification prescribes no order, the crate takes only one.
        let mut pairs: Vec<_> = regions.drain(..).zip(std::mem::take(&mut message.fds)).collect();
        pairs.sort_by_key(|(region, _)| region.guest);
        (regions, message.fds) = pairs.into_iter().unzip();
        message.payload = RegionRequest::table(&regions);
        self.regions = regions;
        RequestVerdict::Pass(message)
    }

    /// ADD_MEM_REG: one region more.
    pub(crate) fn add(&mut self, message: Message) -> RequestVerdict {
        let Some(region) = RegionRequest::parse_single(&message.payload) else {
            return RequestVerdict::Misshapen(message);
        };
        if self.regions.contains(&region) {
            return RequestVerdict::Done(message);
        }
        let all = self.regions.iter().chain([&region]);
        if let Err(reason) = judge_sum(all, self.limit) {
            return RequestVerdict::Refuse(message, format!("memory region ({region}): {reason}"));
        }
        let checked = match message.fds.as_slice() {
            _ if self.regions.iter().any(|other| other.overlaps(&region)) => {
                Err("it overlaps another".to_owned())
            }
            [fd] => self.check(&region, fd),
            fds => Err(format!("it came with {} descriptors; {HOW}", fds.len())),
        };
        if let Err(reason) = checked {
            return RequestVerdict::Refuse(message, format!("memory region ({region}): {reason}"));
        }
        self.regions.push(region);
        RequestVerdict::Pass(message)
    }

    /// REM_MEM_REG: one region less.
    pub(crate) fn remove(&mut self, mut message: Message) -> RequestVerdict {
        let Some(region) = RegionRequest::parse_single(&message.payload) else {
            return RequestVerdict::Misshapen(message);
        };
        let Some(at) = self.regions.iter().position(|other| other.same_place(&region)) else {
            return RequestVerdict::Refuse(message, format!("there is no memory region {region}"));
        };
        self.regions.remove(at);
        // Some front-ends send the descriptor once more.
        message.fds.clear();
        RequestVerdict::Pass(message)
    }
}
