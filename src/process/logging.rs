//! The program's log: lines on standard error that never hold up what wrote them.
//!
//! Standard error may be a pipe that nothing reads: a terminal that was stopped, a log collector that
//! hangs. A write to a full pipe waits, and the control thread or a worker would wait with it, and with it
//! every guest. Therefore a line is put into a queue of bounded length, and one thread writes. When the
//! queue is full, lines are dropped and counted, and the count is written once there is room again. At the
//! end of the process [`finish`] waits a moment for the last lines, and no longer.
//!
//! Lines of the crates that speak vhost-user are caused by front-ends and name no port. They share one
//! account of [`LogLimit`]'s size.
//!
//! What can go wrong: debug and trace lines have no limit but this queue: they are for looking for one
//! error, not for service. The thread blocks every signal, since signals belong to the control thread.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use env_logger::{Builder, Target};
use log::{Log, Metadata, Record};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use crate::process::port_log::LogLimit;

/// Most bytes that wait for standard error to take them.
const MOST: usize = 256 << 10;
/// How long the end of the process waits for its last lines.
const LAST: Duration = Duration::from_millis(100);

/// Lines that are not written yet.
#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    /// The thread is in a write.
    writing: bool,
}

impl Lines {
    /// Puts a line at the end, or counts it as lost.
    fn push(&mut self, line: &[u8]) {
        if self.bytes + line.len() > MOST {
            self.lost += 1;
            return;
        }
        self.bytes += line.len();
        self.waiting.push_back(line.to_vec());
    }

    /// Everything that waits as one piece, and a note about what was lost behind it.
    fn take(&mut self) -> Vec<u8> {
        let mut text: Vec<u8> = self.waiting.drain(..).flatten().collect();
        self.bytes = 0;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let note = format!("{lost} lines of the log lost: standard error was not read\n");
            text.extend_from_slice(note.as_bytes());
        }
        text
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0 && !self.writing
    }
}

/// The queue with its thread's bells.
#[derive(Debug)]
struct LineQueue {
    lines: Mutex<Lines>,
    /// A line has come, or the thread has written.
    changed: Condvar,
}

static QUEUE: LineQueue = LineQueue {
    lines: Mutex::new(Lines { waiting: VecDeque::new(), bytes: 0, lost: 0, writing: false }),
    changed: Condvar::new(),
};

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        self.lock().push(line);
        self.changed.notify_all();
    }

    /// Writes what comes, indefinitely.
    fn write_all(&self, out: &mut impl Write) {
        let mut lines = self.lock();
        loop {
            while lines.waiting.is_empty() && lines.lost == 0 {
                lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            let text = lines.take();
            lines.writing = true;
            drop(lines);
            // There is no place to report that standard error is closed.
            let _ = out.write_all(&text);
            lines = self.lock();
            lines.writing = false;
            self.changed.notify_all();
        }
    }

    /// Returns when everything is written, or after `most`.
    fn wait_written(&self, most: Duration) {
        let end = Instant::now() + most;
        let mut lines = self.lock();
        while !lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            lines = self
                .changed
                .wait_timeout(lines, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(lines, _)| lines);
        }
    }
}

/// One record of the logger, put into the queue.
struct IntoQueue;

impl Write for IntoQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The logger: the usual format, with one account for the lines of other crates.
struct Logger {
    format: env_logger::Logger,
    crates: Mutex<LogLimit>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.format.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if !record.target().starts_with(env!("CARGO_CRATE_NAME")) {
            let mut crates = self.crates.lock().unwrap_or_else(PoisonError::into_inner);
            let permit = crates.permit(Instant::now());
            drop(crates);
            match permit {
                None => return,
                Some(0) => {}
                Some(n) => log::warn!("{n} lines of libraries were suppressed"),
            }
        }
        self.format.log(record);
    }

    fn flush(&self) {}
}

/// Starts the log with the filters of `builder`. Call it once, before any other thread is started.
///
/// # Errors
/// No thread can be started, or there is a logger already.
pub fn start(mut builder: Builder) -> io::Result<()> {
    let format = builder.target(Target::Pipe(Box::new(IntoQueue))).build();
    let level = format.filter();
    start_thread()?;
    let logger = Logger { format, crates: Mutex::default() };
    log::set_boxed_logger(Box::new(logger)).map_err(io::Error::other)?;
    log::set_max_level(level);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        finish();
        usual(info);
    }));
    Ok(())
}

/// Standard error without the standard library's lock, which a thread may hold while it waits for a
/// full pipe.
struct UnlockedStderr;

impl Write for UnlockedStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_thread() -> io::Result<()> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(|| QUEUE.write_all(&mut UnlockedStderr));
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    thread.map(drop)
}

/// Writes a line behind those of the log: the error with which the process ends.
pub fn say(text: &str) {
    QUEUE.push(format!("{text}\n").as_bytes());
}

/// Waits until the last lines are written, for a tenth of a second at most.
pub fn finish() {
    QUEUE.wait_written(LAST);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let mut lines = Lines::default();
        let line = [b'x'; 1024];
        for _ in 0..300 {
            lines.push(&line);
        }
        assert!(lines.bytes <= MOST);
        let text = lines.take();
        let note = b"44 lines of the log lost: standard error was not read\n";
        assert!(text.ends_with(note), "{}", String::from_utf8_lossy(&text[256 << 10..]));
        assert!(lines.is_empty());
        lines.push(b"next\n");
        assert_eq!(lines.take(), b"next\n", "told once");
    }

    /// Standard error was written to by the thread that logged: a full pipe stopped it.
    #[test]
    fn the_end_does_not_wait_for_a_pipe_that_nothing_reads() {
        struct Never;
        impl Write for Never {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue: &'static LineQueue =
            Box::leak(Box::new(LineQueue { lines: Mutex::default(), changed: Condvar::new() }));
        std::thread::spawn(|| queue.write_all(&mut Never));
        let start = Instant::now();
        for _ in 0..10_000 {
            queue.push(&[b'y'; 100]);
        }
        queue.wait_written(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(!queue.lock().is_empty(), "the pipe took it after all");
    }
}
