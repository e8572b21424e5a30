//! How far long work is: one line on standard error, written over, where that is a terminal.

use std::io::Write;
use std::time::{Duration, Instant};

/// How often the line is written at most.
const REDRAW: Duration = Duration::from_millis(100);

/// Columns of the bar.
const BAR: usize = 24;

/// A line that says how far the work is. Nothing is written where standard error is no terminal.
pub(crate) struct Progress {
    shown: bool,
    drawn: Option<Instant>,
}

impl Progress {
    /// Nothing is drawn yet.
    pub(crate) fn new() -> Progress {
        Progress { shown: rustix::termios::isatty(std::io::stderr()), drawn: None }
    }

    /// So much of so much is done (0: nobody knows of how much); `rest` says it in words.
    pub(crate) fn at(&mut self, done: u64, of: u64, rest: &str) {
        if self.shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(done, of, rest));
            let _ = std::io::stderr().flush();
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(done: u64, of: u64, rest: &str) -> String {
    if of == 0 {
        return rest.to_owned();
    }
    let done = done.min(of);
    let full = usize::try_from(u128::from(done) * BAR as u128 / u128::from(of)).unwrap_or(BAR);
    let percent = u128::from(done) * 100 / u128::from(of);
    format!("[{}{}] {percent:3} %  {rest}", "#".repeat(full), ".".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bar is full at the end and not before, and there is none where nobody knows how much there is.
    #[test]
    fn bars() {
        assert_eq!(line(0, 10, "x"), "[........................]   0 %  x");
        assert_eq!(line(5, 10, "x"), "[############............]  50 %  x");
        assert_eq!(line(12, 10, "x"), "[########################] 100 %  x");
        assert_eq!(line(u64::MAX - 1, u64::MAX, "x"), "[#######################.]  99 %  x");
        assert_eq!(line(7, 0, "7 keys"), "7 keys");
    }
}
