//! Any other back-end: `PEER='passt --vhost-user --socket {socket0}'`.
//!
//! The words are split at white space. `{socket0}` and `{socket1}` become the paths of its sockets.
//! It runs on the back-end's processor, in the namespace of the wire (parent `eth0`). Its figures
//! stand beside ours under its own name.
//!
//! What can go wrong: a program that needs quoted words needs a script around it.

use std::path::PathBuf;

use tempfile::TempDir;

use super::ours::Wire;
use super::process::Process;
use super::{Backend, await_sockets};
use crate::{Result, host};

/// The running program.
pub struct Foreign {
    process: Process,
    sockets: Vec<PathBuf>,
    _dir: TempDir,
}

impl Foreign {
    /// Starts it with as many sockets as its command line names.
    ///
    /// # Errors
    /// It does not start, or has fewer sockets than `ports`.
    pub fn start(line: &str, ports: usize, wire: &Wire) -> Result<Foreign> {
        let dir = tempfile::Builder::new().prefix("vum-bench-").tempdir()?;
        let sockets: Vec<PathBuf> = (0..ports).map(|n| dir.path().join(n.to_string())).collect();
        let mut line = line.to_owned();
        for (number, socket) in sockets.iter().enumerate() {
            let name = format!("{{socket{number}}}");
            if !line.contains(&name) {
                return Err(format!("PEER has no {name}, which this case needs").into());
            }
            line = line.replace(&name, &socket.display().to_string());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or("PEER is empty")?;
        let words: Vec<String> = words.collect();
        let processor = host::BACKEND.to_string();
        let mut process = Process::start(&program, &words, &processor, Some(&wire.host))?;
        await_sockets(&sockets, &mut process)?;
        Ok(Foreign { process, sockets, _dir: dir })
    }
}

impl Backend for Foreign {
    fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The program's name in the report.
pub fn name(line: &str) -> String {
    let program = line.split_whitespace().next().unwrap_or("PEER");
    program.rsplit('/').next().unwrap_or(program).to_owned()
}
