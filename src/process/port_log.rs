//! The log of one port, bounded.
//!
//! A guest, a front-end, a network manager or the LAN can cause a log line in a loop. Each line
//! alone is worth reading; a hundred thousand of them fill a disk, hide the neighbours' lines and
//! keep the control thread busy. Therefore every line that another party can cause goes through a
//! [`PortLog`]: at most [`LINES`] in each [`WINDOW`], and the next line after a pause gives the
//! number of those held back. The log belongs to the port, not to the connection, so that
//! connecting again does not open a new account.
//!
//! What can go wrong: a line that is held back may be the one that explains the trouble. Therefore the first
//! lines of a window are written and the later ones are not, and [`PortLog::flush`] reports the number of
//! missing lines when the window has ended, even if nothing happens any more.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

/// Most lines that one port may cause in a [`WINDOW`].
pub const LINES: u32 = 10;
/// The time in which they are counted.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Longest text of a line, in bytes.
const LONGEST: usize = 1000;

/// How many lines were written and held back in the present window. Pure: the caller brings the time.
#[derive(Debug, Default)]
pub struct LogLimit {
    window: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl LogLimit {
    /// Whether a line may be written at `now`. `Some(n)`: yes, and `n` lines before it were held back in the
    /// window that has ended.
    pub fn permit(&mut self, now: Instant) -> Option<u64> {
        let held_back = self.flush(now).unwrap_or(0);
        self.window.get_or_insert(now);
        if self.written >= LINES {
            self.held_back += 1;
            return None;
        }
        self.written += 1;
        Some(held_back)
    }

    /// Ends a window whose time is over. Returns how many lines it held back, if there were any.
    pub fn flush(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.window?) < WINDOW {
            return None;
        }
        let held_back = std::mem::take(self).held_back;
        (held_back > 0).then_some(held_back)
    }

    /// When [`LogLimit::flush`] will have something to report.
    pub fn due(&self) -> Option<Instant> {
        self.window.filter(|_| self.held_back > 0).map(|start| start + WINDOW)
    }
}

/// The name of a port or parent and its account of log lines. Every thread that works for it may use it.
#[derive(Debug)]
pub struct PortLog {
    object: String,
    limit: Mutex<LogLimit>,
}

impl PortLog {
    /// The log of the port `name`.
    pub fn new(name: &str) -> PortLog {
        PortLog { object: format!("port {name}"), limit: Mutex::default() }
    }

    /// The log of the parent `name`, to which the LAN and a network manager can do what they like, too.
    pub fn of_parent(name: &str) -> PortLog {
        PortLog { object: format!("parent {name}"), limit: Mutex::default() }
    }

    /// Writes "port NAME: TEXT" (or "parent") at this level, unless the port has caused too many lines lately.
    pub fn write(&self, level: Level, text: fmt::Arguments<'_>) {
        if !log::log_enabled!(level) {
            return;
        }
        let permit = self.with(|limit| limit.permit(Instant::now()));
        let Some(held_back) = permit else { return };
        let text = printable(&text.to_string());
        match held_back {
            0 => log::log!(level, "{}: {text}", self.object),
            n => {
                let object = &self.object;
                log::log!(level, "{object}: {text} ({n} lines before this were suppressed)");
            }
        }
    }

    /// A warning; see [`PortLog::write`].
    pub fn warn(&self, text: fmt::Arguments<'_>) {
        self.write(Level::Warn, text);
    }

    /// A message; see [`PortLog::write`].
    pub fn info(&self, text: fmt::Arguments<'_>) {
        self.write(Level::Info, text);
    }

    /// Reports the lines that were held back, once their window is over. Returns when to ask again.
    pub fn flush(&self, now: Instant) -> Option<Instant> {
        let (held_back, due) = self.with(|limit| (limit.flush(now), limit.due()));
        if let Some(n) = held_back {
            log::warn!("{}: {n} more lines in the last minute were suppressed", self.object);
        }
        due
    }

    fn with<T>(&self, act: impl FnOnce(&mut LogLimit) -> T) -> T {
        act(&mut self.limit.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The text as one line of bounded length: what another party has put into it forges no line and moves no
/// cursor.
fn printable(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= LONGEST {
            line.push_str("...");
            break;
        }
        match c {
            // Also the invisible characters that turn the direction of text around.
            c if c.is_control()
                || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                line.extend(c.escape_unicode());
            }
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_short() {
        assert_eq!(printable("ring 3: naïve"), "ring 3: naïve");
        assert_eq!(printable("a\nport b: \x1b[2J"), "a\\u{a}port b: \\u{1b}[2J");
        let long = printable(&"x".repeat(10_000));
        assert!(long.len() == LONGEST + 3 && long.ends_with("..."));
    }

    #[test]
    fn a_loop_writes_ten_lines_a_minute_and_says_how_many_are_missing() {
        let start = Instant::now();
        let mut limit = LogLimit::default();
        let written = (0..1000).filter(|_| limit.permit(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(limit.due(), Some(start + WINDOW));
        assert_eq!(limit.permit(start + WINDOW), Some(990), "the next line tells");
        assert_eq!(limit.permit(start + WINDOW), Some(0), "once");
    }

    #[test]
    fn what_was_held_back_is_told_when_nothing_comes_any_more() {
        let start = Instant::now();
        let mut limit = LogLimit::default();
        for _ in 0..12 {
            limit.permit(start);
        }
        assert_eq!(limit.flush(start + WINDOW - Duration::from_millis(1)), None);
        assert_eq!(limit.flush(start + WINDOW), Some(2));
        assert_eq!(limit.due(), None);
        assert_eq!(limit.flush(start + 2 * WINDOW), None);
    }
}
