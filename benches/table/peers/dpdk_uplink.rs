//! -- /// A tap on a bridge. => /// A tap on a Linux bridge.

use std::path::PathBuf;

use tempfile::TempDir;

use super::dpdk::eal;
use super::ours::Wire;
use super::process::Process;
use super::{Backend, await_sockets};
use crate::Result;
use crate::cable::{self, PARENT};
use crate::host;

/// The driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// AF_PACKET.
    AfPacket,
    /// A tap on a bridge.
    Tap,
    /// AF_XDP.
    AfXdp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::AfPacket, Kind::Tap, Kind::AfXdp];

    /// For the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::AfPacket => "DPDK net_af_packet",
            Kind::Tap => "DPDK net_tap, bridged",
            Kind::AfXdp => "DPDK net_af_xdp",
        }
    }

    fn device(self) -> String {
        match self {
            Kind::AfPacket => format!("net_af_packet0,iface={PARENT}"),
            Kind::Tap => "net_tap0,iface=dtap0".to_owned(),
            Kind::AfXdp => format!("net_af_xdp0,iface={PARENT}"),
        }
    }
}

/// A running testpmd with one guest's socket and one uplink.
pub struct DpdkUplink {
    process: Process,
    sockets: Vec<PathBuf>,
    _dir: TempDir,
}

impl DpdkUplink {
    /// Starts it in the parent's namespace.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(wire: &Wire, kind: Kind) -> Result<DpdkUplink> {
        let dir = tempfile::Builder::new().prefix("vum-bench-").tempdir()?;
        let sockets = vec![dir.path().join("0")];
        let mut words = eal("uplink", 256, &format!("0@{},1@{}", host::GENERATOR, host::BACKEND));
        let guest = format!("net_vhost0,iface={}", sockets[0].display());
        words.extend(["--vdev".to_owned(), guest, "--vdev".to_owned(), kind.device()]);
        let rest =
            ["--", "--forward-mode=io", "--nb-cores=1", "--auto-start", "--stats-period=3600"];
        words.extend(rest.iter().map(|word| (*word).to_owned()));
        words.push("--total-num-mbufs=16384".to_owned());
        let both = format!("{},{}", host::GENERATOR, host::BACKEND);
        let mut process = Process::start("dpdk-testpmd", &words, &both, Some(&wire.host))?;
        await_sockets(&sockets, &mut process)?;
        if kind == Kind::Tap {
            process.wait_until(|| wire.host.has_link("dtap0"), "no device dtap0")?;
            cable::bridge(wire);
            wire.host.ip("link set dtap0 master br0 up");
        }
        Ok(DpdkUplink { process, sockets, _dir: dir })
    }
}

impl Backend for DpdkUplink {
    fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }
}
