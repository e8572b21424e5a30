//! Commands as they go over the wire.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// One command with its arguments. Shape: an array of bulk strings. Its `Debug` shows the name and the number of
/// arguments only, because arguments hold passwords and people's data.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    name: &'static str,
    count: usize,
    body: BytesMut,
}

impl Command {
    /// A command by its name. Words after a space are arguments: `CLUSTER NODES` sends two.
    pub fn new(name: &'static str) -> Self {
        let mut command = Self { name, count: 0, body: BytesMut::new() };
        for word in name.split(' ') {
            command.push(word.as_bytes());
        }
        command
    }

    /// A command of which all words are given. `name` is for messages.
    pub fn of<A: AsRef<[u8]>>(name: &'static str, words: impl IntoIterator<Item = A>) -> Self {
        Self { name, count: 0, body: BytesMut::new() }.args(words)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.push(argument.as_ref());
        self
    }

    /// Adds a number as an argument.
    #[must_use]
    pub fn number(self, number: impl Into<i128>) -> Self {
        self.arg(number.into().to_string())
    }

    /// Adds many arguments.
    #[must_use]
    pub fn args<A: AsRef<[u8]>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.push(argument.as_ref());
        }
        self
    }

    /// The name it was made with, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes it takes on the wire, about.
    pub fn size(&self) -> usize {
        self.body.len() + FRAME_BYTES
    }

    /// Appends the bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.size());
        frame(out, b'*', self.count);
        out.put_slice(&self.body);
    }

    fn push(&mut self, argument: &[u8]) {
        self.count += 1;
        self.body.reserve(argument.len() + FRAME_BYTES);
        frame(&mut self.body, b'$', argument.len());
        self.body.put_slice(argument);
        self.body.put_slice(b"\r\n");
    }
}

/// Bytes around an argument of an ordinary length.
const FRAME_BYTES: usize = 16;

/// A sign, a number and the end of the line.
fn frame(out: &mut BytesMut, sign: u8, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_u8(sign);
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} words)", self.name, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments are counted and framed by length, so any byte may be in them.
    #[test]
    fn frames() {
        let mut out = BytesMut::new();
        Command::new("CONFIG SET").arg("a\r\nb").number(-7).args(["x", ""]).encode(&mut out);
        assert_eq!(
            out.as_ref(),
            b"*6\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$2\r\n-7\r\n$1\r\nx\r\n$0\r\n\r\n"
        );
    }

    /// Lengths of every number of digits.
    #[test]
    fn lengths() {
        for length in [0, 9, 10, 99, 100, 12_345] {
            let mut out = BytesMut::new();
            Command::new("ECHO").arg(vec![b'x'; length]).encode(&mut out);
            let head = format!("*2\r\n$4\r\nECHO\r\n${length}\r\n");
            assert_eq!(&out[..head.len()], head.as_bytes());
            assert_eq!(out.len(), head.len() + length + 2);
        }
    }

    #[test]
    fn debug_hides_arguments() {
        assert_eq!(format!("{:?}", Command::new("AUTH").arg("secret")), "AUTH (2 words)");
    }
}
