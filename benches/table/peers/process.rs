//! A program on a processor of its own: started, awaited, ended.
//!
//! Its output goes to a file, and an error shows the end of that file. The program dies with this
//! process, and at the latest at the drop of its [`Process`]. The drop waits for its exit, so the
//! next program gets an idle processor.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use testkit::netns::{Netns, die_with_us};

/// The time in which a program must be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts `program` with these words on these processors (in the form of `taskset`), in a
    /// namespace if one is given.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        program: &str,
        words: &[String],
        processors: &str,
        netns: Option<&Netns>,
    ) -> Result<Process> {
        let dir = tempfile::Builder::new().prefix("vum-bench-").tempdir()?;
        let log = || File::options().create(true).append(true).open(dir.path().join("log"));
        let mut command = match netns {
            Some(netns) => {
                let mut command = netns.command("taskset");
                command.args(["-c", processors, program]);
                command
            }
            None => {
                let mut command = Command::new("taskset");
                command.args(["-c", processors, program]);
                command
            }
        };
        command.args(words).stdin(Stdio::piped()).stdout(log()?).stderr(log()?);
        let child = die_with_us(&mut command)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        Ok(Process { name: program.to_owned(), child, dir })
    }

    /// Its process id; `ip netns exec` and `taskset` replace themselves by the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input.
    pub fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// Its output so far, from both streams.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The file of its output.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Waits until this condition holds.
    ///
    /// # Errors
    /// It did not hold in time, or the program ended before: `what`, with the end of its log.
    pub fn wait_until(&mut self, mut holds: impl FnMut() -> bool, what: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let log = self.log();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(4)..].join(" | ");
                let state = ended.map_or("still runs".to_owned(), |status| status.to_string());
                return Err(format!("{}: {what} ({state}); it said: {tail}", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
