//! What one rendering may use: neither language counts the memory that its functions build.

use super::error::RenderError;
use regrow_model::limits;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes that functions may build in one rendering, results thrown away included: four full files.
pub(super) const BUILT_BYTES_MAX: u64 = 4 * limits::RENDERED_BYTES_MAX as u64;

/// Most steps of one rendering: instructions of Jinja, iterations, calls and keys looked at of Go. Some thirty are
/// needed for an endpoint: 10,000 of them use 6 %.
pub(super) const STEPS_MAX: u64 = 5_000_000;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: AtomicU64,
    steps: AtomicU64,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { bytes: AtomicU64::new(BUILT_BYTES_MAX), steps: AtomicU64::new(STEPS_MAX) }
    }

    /// Pays for bytes before they are built.
    pub(super) fn build(&self, bytes: u64) -> Result<(), String> {
        spend(&self.bytes, bytes)
            .ok_or_else(|| format!("its functions build more than {BUILT_BYTES_MAX} bytes: the source does not end"))
    }

    /// Refuses what could build more than is left; what it did build is paid for afterwards.
    pub(super) fn could_build(&self, bytes: u64) -> Result<(), String> {
        if bytes <= self.bytes.load(Ordering::Relaxed) { Ok(()) } else { self.build(u64::MAX) }
    }

    /// Pays for work.
    pub(super) fn step(&self, steps: u64) -> Result<(), String> {
        spend(&self.steps, steps)
            .ok_or_else(|| format!("it takes more than {STEPS_MAX} steps: the source does not end"))
    }
}

/// One rendering runs on one thread: the atomic only serves engines that ask for it.
fn spend(left: &AtomicU64, amount: u64) -> Option<()> {
    let rest = left.load(Ordering::Relaxed).checked_sub(amount)?;
    left.store(rest, Ordering::Relaxed);
    Some(())
}

/// Collects a file, up to [`limits::RENDERED_BYTES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Page {
    text: Vec<u8>,
    full: bool,
}

impl Page {
    fn add(&mut self, bytes: &[u8]) -> bool {
        self.full |= self.text.len() + bytes.len() > limits::RENDERED_BYTES_MAX;
        if !self.full {
            self.text.extend_from_slice(bytes);
        }
        !self.full
    }

    /// The text, or why there is none; `result` is what the engine says.
    pub(super) fn finish(self, file: &str, result: Result<(), RenderError>) -> Result<String, RenderError> {
        if self.full {
            return Err(RenderError::TooLarge { file: file.to_owned() });
        }
        result?;
        Ok(String::from_utf8(self.text).expect("engines write whole strings"))
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.add(text.as_bytes()) { Ok(()) } else { Err(fmt::Error) }
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.add(bytes) { Ok(bytes.len()) } else { Err(io::Error::other("the file is full")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
