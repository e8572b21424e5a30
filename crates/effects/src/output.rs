//! Output of programs, kept within a bound: its beginning and its end, where the reasons are.

use std::collections::VecDeque;

/// What is put where the middle was left out.
const GAP: &str = "\n[…]\n";

/// Collects output of any length in a bounded space.
#[derive(Debug)]
pub(crate) struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    dropped: bool,
}

impl Output {
    /// Keeps at most `bytes_max` bytes, half of them from the end.
    pub(crate) fn new(bytes_max: usize) -> Output {
        let half = bytes_max.saturating_sub(GAP.len()) / 2;
        Output { head: Vec::new(), tail: VecDeque::new(), half, dropped: false }
    }

    /// Takes more output.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let room = self.half.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        let rest = if rest.len() > self.half {
            self.dropped = true;
            &rest[rest.len() - self.half..]
        } else {
            rest
        };
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.half);
        self.dropped |= excess > 0;
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// The text, trimmed; bytes that are no UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        let bound = 2 * self.half + GAP.len();
        // A replacement character is longer than the byte that it stands for.
        cut(self.whole().trim().to_owned(), bound)
    }

    /// The text just as it came; bytes that are no UTF-8 are replaced.
    pub(crate) fn whole(&self) -> String {
        let mut bytes = self.head.clone();
        if self.dropped {
            bytes.extend_from_slice(GAP.as_bytes());
        }
        bytes.extend(self.tail.iter());
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Keeps both ends of a text that is longer than `bytes_max` bytes.
pub(crate) fn condense(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let mut output = Output::new(bytes_max);
    output.add(text.as_bytes());
    output.text()
}

/// Cuts a text at `bytes_max` bytes, on a character's border.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], bytes_max: usize, expect: &str) {
        let mut output = Output::new(bytes_max);
        pieces.iter().for_each(|piece| output.add(piece.as_bytes()));
        assert_eq!(output.text(), expect);
    }

    /// Shows that short output is whole, however it comes, and that long output keeps both ends within the bound.
    #[test]
    fn keeps_both_ends() {
        check(&["one ", "two"], 20, "one two");
        check(&["", "  x\n"], 20, "x");
        check(&["0123456789abcdefghijklmnopqrstuvwxyz"], 15, "0123\n[…]\nwxyz");
        check(&["0123", "45", "6789", "ab"], 15, "0123\n[…]\n89ab");
        let mut output = Output::new(100);
        (0..10_000).for_each(|_| output.add(&[0xff; 97]));
        assert!(output.text().len() <= 100);
    }
}
