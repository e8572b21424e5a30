//! Where a command reads and writes.

use std::io::{BufRead, BufReader, IsTerminal, Write};

use super::failure::Failure;

/// Where a command reads and writes. Handed in, so that commands can be run inside a program and in tests.
pub struct Io {
    /// Data.
    pub out: Box<dyn Write + Send>,
    /// Talk: what is about to be done, questions, progress.
    pub err: Box<dyn Write + Send>,
    /// Answers to questions.
    pub input: Box<dyn BufRead + Send>,
    /// Whether `err` is a terminal, where a line may be written over.
    pub terminal: bool,
}

impl Io {
    /// The program's own.
    pub fn standard() -> Self {
        Self {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            input: Box::new(BufReader::new(std::io::stdin())),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Writes talk. Talk that cannot be written is no reason to stop half-way.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// Writes over the last line, on a terminal only.
    pub(super) fn over(&mut self, line: &str) {
        if self.terminal {
            let _ = write!(self.err, "\r\x1b[K{line}");
            let _ = self.err.flush();
        }
    }

    /// Ends the line that was written over.
    pub(super) fn end_line(&mut self) {
        if self.terminal {
            let _ = writeln!(self.err);
        }
    }

    /// Writes data: text, or the value as one JSON object.
    pub(super) fn data(
        &mut self,
        json: bool,
        value: &impl serde::Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if json {
            writeln!(self.out, "{}", serde_json::to_string(value)?)?;
        } else {
            let text = text();
            if !text.is_empty() {
                writeln!(self.out, "{}", text.trim_end())?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    /// Asks for a yes. Anything else, also the end of the input, is a no.
    pub(super) fn confirm(&mut self, question: &str) -> Result<(), Failure> {
        write!(self.err, "{question} (yes/no) ")?;
        self.err.flush()?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        if answer.trim() == "yes" { Ok(()) } else { Err(Failure::NotConfirmed) }
    }
}
