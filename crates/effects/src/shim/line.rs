//! Output in, JSON lines out.

use std::collections::VecDeque;

/// A longer line is cut into pieces, each a line of its own marked `"more":true`.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 10;

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// What has come of a line that has no end yet, less than [`LINE_BYTES_MAX`] bytes.
    begun: Vec<u8>,
}

impl Splitter {
    /// Takes output; gives each line that is complete to `line`, with whether more of the same line follows.
    pub(super) fn add(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8], bool)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut rest, ends) = match part {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            while self.begun.len() + rest.len() > LINE_BYTES_MAX {
                let (piece, behind) = rest.split_at(LINE_BYTES_MAX - self.begun.len());
                self.begun.extend_from_slice(piece);
                line(&self.begun, true);
                self.begun.clear();
                rest = behind;
            }
            match (ends, self.begun.is_empty()) {
                (true, true) => line(rest, false),
                (true, false) => {
                    self.begun.extend_from_slice(rest);
                    line(&self.begun, false);
                    self.begun.clear();
                }
                (false, _) => self.begun.extend_from_slice(rest),
            }
        }
    }

    /// The stream has ended: gives what is left as a line.
    pub(super) fn end(&mut self, mut line: impl FnMut(&[u8], bool)) {
        if !self.begun.is_empty() {
            line(&self.begun, false);
            self.begun.clear();
        }
    }
}

/// Appends `{"ts":…,"stream":…,"line":…}` and a line's end to `out`. Bytes that are no UTF-8 are replaced.
pub(super) fn write(out: &mut Vec<u8>, ts: &str, stream: &str, line: &[u8], more: bool) {
    out.extend_from_slice(b"{\"ts\":\"");
    out.extend_from_slice(ts.as_bytes());
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\",\"line\":");
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(line));
    if more {
        out.extend_from_slice(b",\"more\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// The last lines of a stream within a bound.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Takes a line; the oldest go when there are more than `bytes_max` bytes.
    pub(super) fn add(&mut self, line: &[u8], bytes_max: usize) {
        let line = crate::output::cut(String::from_utf8_lossy(line).into_owned(), bytes_max.saturating_sub(1));
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > bytes_max {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
    }

    /// The lines.
    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<(String, bool)> {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        let mut take = |line: &[u8], more| out.push((String::from_utf8_lossy(line).into_owned(), more));
        pieces.iter().for_each(|piece| splitter.add(piece, &mut take));
        splitter.end(&mut take);
        out
    }

    /// Shows that lines come out whole, however the reads cut them, and the last one without an end too.
    #[test]
    fn lines_come_out_whole() {
        let whole = |text: &str| (text.to_owned(), false);
        assert_eq!(lines(&[b"a\nb\n"]), [whole("a"), whole("b")]);
        assert_eq!(lines(&[b"a", b"b\n\nc"]), [whole("ab"), whole(""), whole("c")]);
        assert_eq!(lines(&[]), []);
    }

    /// Shows that a line of any length is cut at the limit and marked, and that nothing of it is lost.
    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; LINE_BYTES_MAX * 2 + 5];
        let cut = lines(&[&long, b"\n"]);
        let shape: Vec<(usize, bool)> = cut.iter().map(|(text, more)| (text.len(), *more)).collect();
        assert_eq!(shape, [(LINE_BYTES_MAX, true), (LINE_BYTES_MAX, true), (5, false)]);
        assert_eq!(lines(&[&long[..LINE_BYTES_MAX], b"\n"]).len(), 1, "a line of just the limit is whole");
    }

    /// Shows that whatever a program prints becomes one line of JSON.
    #[test]
    fn any_bytes_become_json() {
        let mut out = Vec::new();
        write(&mut out, "2026-01-02T03:04:05.678Z", "stdout", b"\"q\" \x00\xff\r", true);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"ts\":\"2026-01-02T03:04:05.678Z\",\"stream\":\"stdout\",\"line\":\"\\\"q\\\" \\u0000\u{fffd}\",\"more\":true}\n"
        );
    }

    /// Shows that the tail keeps the newest lines within its bound, and one too long line in part.
    #[test]
    fn tail_is_bounded() {
        let mut tail = Tail::default();
        ["one", "two", "three"].iter().for_each(|line| tail.add(line.as_bytes(), 10));
        assert_eq!(tail.text(), "two\nthree");
        tail.add(&[b'x'; 100], 10);
        assert_eq!(tail.text(), "xxxxxxxxx");
    }
}
