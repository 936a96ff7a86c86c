//! DPDK's testpmd as a back-end: vhost-user ports, with frames moved from one to the other (forward
//! mode `io`).
//!
//! It polls, and always uses a whole processor. TSO is on. With `legacy-ol-flags` it passes the
//! header of a super-frame on unchanged; it could not forward one otherwise.

use std::path::PathBuf;

use tempfile::TempDir;

use super::process::Process;
use super::{Backend, await_sockets};
use crate::Result;
use crate::host;

/// A running testpmd with vhost-user ports.
pub struct Dpdk {
    process: Process,
    sockets: Vec<PathBuf>,
    _dir: TempDir,
}

impl Dpdk {
    /// `ports` sockets, forwarded in pairs: 0 with 1, 2 with 3.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(ports: usize, queues: usize) -> Result<Dpdk> {
        let dir = tempfile::Builder::new().prefix("vum-bench-").tempdir()?;
        let sockets: Vec<PathBuf> =
            (0..ports).map(|port| dir.path().join(format!("{port}"))).collect();
        let mut words = eal("back", 512, &format!("0@{},1@{}", host::GENERATOR, host::BACKEND));
        for (port, socket) in sockets.iter().enumerate() {
            let at = socket.display();
            let device =
                format!("net_vhost{port},iface={at},queues={queues},tso=1,legacy-ol-flags=1");
            words.extend(["--vdev".to_owned(), device]);
        }
        let rest =
            ["--", "--forward-mode=io", "--nb-cores=1", "--auto-start", "--stats-period=3600"];
        words.extend(rest.iter().map(|word| (*word).to_owned()));
        words.extend([format!("--rxq={queues}"), format!("--txq={queues}")]);
        words.push("--total-num-mbufs=16384".to_owned());
        let both = format!("{},{}", host::GENERATOR, host::BACKEND);
        let mut process = Process::start("dpdk-testpmd", &words, &both, None)?;
        await_sockets(&sockets, &mut process)?;
        Ok(Dpdk { process, sockets, _dir: dir })
    }
}

impl Backend for Dpdk {
    fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// DPDK's folder with a directory for each program, which DPDK does not remove.
const RUNTIME: &str = "/run/dpdk";
/// The prefix of our directories; the process id follows.
const PREFIX: &str = "vum-bench-";

/// Removes DPDK's directories of this run, and of earlier runs that were killed.
pub fn sweep() {
    for entry in std::fs::read_dir(RUNTIME).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
        if gone || pid == std::process::id() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Arguments for the environment layer: no huge pages, no PCI, files of its own.
pub fn eal(role: &str, mebibytes: usize, lcores: &str) -> Vec<String> {
    let memory = mebibytes.to_string();
    let prefix = format!("{PREFIX}{}-{role}", std::process::id());
    ["--lcores", lcores, "--no-huge", "-m", &memory, "--no-pci", "--file-prefix", &prefix]
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}
