//! Mends what some clients write into HTTP/2's `:authority`.
//!
//! Go's etcd client has put URLs there (3.4: `endpoint status` with `http://` or `--cluster`), and lists of URLs (3.5.0:
//! every call). HTTP/2 wants `HOST:PORT`, and the transport below the door resets such a stream before the door sees it
//! (etcd issue 13192, hyperium/h2 issue 525). etcd itself does not look at it, nor does the door.
//!
//! **How.** On its way in, each byte of an `:authority` that has no place in a host becomes `-`. The value keeps its
//! length, so both sides go on agreeing about the size of HPACK's table, and nothing but the one header has to be
//! understood: no table is kept here.
//!
//! A connection that does not begin with HTTP/2's preface is none of it, and goes through untouched.
//!
//! **Caveats.** A block of headers is looked at as far as it stands in its first frame of up to 16 KiB.
//!
//! Source: RFC 9113 section 4.1 and 6.2 (frames), RFC 7541 section 5 and 6 (HPACK).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use httlib_huffman::DecoderSpeed;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;

/// The largest frame that a client may send unless told otherwise, and nobody tells it.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 16 * 1024;

const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A connection whose `:authority`s are mended as they are read.
pub(super) struct Mended<T> {
    stream: T,
    mender: Mender,
}

impl<T> Mended<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, mender: Mender::default() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Mended<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut bytes = [0; READ_BYTES];
        while !this.mender.has_output() {
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // The end. What is held back is a frame without its end, which is of no use.
                return Poll::Ready(Ok(()));
            }
            this.mender.push(read.filled());
        }
        this.mender.pop(buf);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Mended<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Finds the frames in what arrives. Holds one frame header, or one frame of headers, at most; what it has let through
/// waits for the reader, who takes it all before more is read.
#[derive(Default)]
struct Mender {
    held: Vec<u8>,
    out: Vec<u8>,
    taken: usize,
    /// Of the preface, how many bytes have passed.
    preface: usize,
    /// The connection does not speak HTTP/2.
    other: bool,
    /// Bytes of a frame that goes through unread.
    passing: usize,
}

impl Mender {
    fn has_output(&self) -> bool {
        self.taken < self.out.len()
    }

    fn pop(&mut self, buf: &mut ReadBuf<'_>) {
        let some = (self.out.len() - self.taken).min(buf.remaining());
        buf.put_slice(&self.out[self.taken..self.taken + some]);
        self.taken += some;
        if self.taken == self.out.len() {
            self.out.clear();
            self.taken = 0;
        }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        let first = bytes.len().min(PREFACE.len() - self.preface);
        self.other |= bytes[..first] != PREFACE[self.preface..self.preface + first];
        if self.other {
            self.out.extend_from_slice(bytes);
            return;
        }
        self.preface += first;
        self.pass(&mut bytes, first);
        while !bytes.is_empty() {
            let passing = self.passing.min(bytes.len());
            self.passing -= passing;
            self.pass(&mut bytes, passing);
            self.hold(&mut bytes, FRAME_HEADER_BYTES);
            let Some((size, kind)) = self.frame() else { return };
            if kind == HEADERS && size <= FRAME_BYTES_MAX {
                self.hold(&mut bytes, FRAME_HEADER_BYTES + size);
                if self.held.len() < FRAME_HEADER_BYTES + size {
                    return;
                }
                mend(&mut self.held);
            } else {
                self.passing = size;
            }
            self.out.append(&mut self.held);
        }
    }

    fn pass(&mut self, bytes: &mut &[u8], some: usize) {
        let (passed, rest) = bytes.split_at(some);
        self.out.extend_from_slice(passed);
        *bytes = rest;
    }

    /// Takes bytes until so many are held, if there are.
    fn hold(&mut self, bytes: &mut &[u8], total: usize) {
        let some = total.saturating_sub(self.held.len()).min(bytes.len());
        let (held, rest) = bytes.split_at(some);
        self.held.extend_from_slice(held);
        *bytes = rest;
    }

    /// Size and kind of the frame held, if its header is there.
    fn frame(&self) -> Option<(usize, u8)> {
        let header = self.held.first_chunk::<FRAME_HEADER_BYTES>()?;
        let size = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        Some((size, header[3]))
    }
}

/// Mends a whole frame of headers. What cannot be understood stays as it is, for the transport to refuse.
fn mend(frame: &mut Vec<u8>) {
    let flags = frame[4];
    let mut start = FRAME_HEADER_BYTES;
    start += usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let Some((at, end, value)) = frame.get(start..).and_then(authority) else { return };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) => value.split_at(colon),
        None => (&value[..], &b""[..]),
    };
    let is_port = port.len() > 1 && port[1..].iter().all(u8::is_ascii_digit);
    let is_six = host.starts_with(b"[") && host.ends_with(b"]");
    if is_six || (host.iter().copied().all(fits) && (port.is_empty() || is_port)) {
        return;
    }
    let mended: Vec<u8> = value.iter().map(|byte| if fits(*byte) { *byte } else { b'-' }).collect();
    let mut text = Vec::new();
    integer_to(&mut text, mended.len());
    text.extend(mended);
    frame.splice(start + at..start + end, text);
    let size = frame.len() - FRAME_HEADER_BYTES;
    frame[..3].copy_from_slice(&(size as u32).to_be_bytes()[1..]);
}

/// Finds the literal value of `:authority` in a block of headers: where its string begins and ends, and what it says.
fn authority(block: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        // An indexed field, a new size of the table, or a literal with its name's index in 6 or 4 bits.
        let bits = match first {
            0x80.. => 7,
            0x40..0x80 => 6,
            0x20..0x40 => 5,
            _ => 4,
        };
        let (name, next) = integer(block, at, bits)?;
        at = next;
        if bits == 7 || bits == 5 {
            continue;
        }
        if name == 0 {
            at = string(block, at)?.1;
        }
        let (start, end) = string(block, at)?;
        // 1 is `:authority` in the static table.
        if name == 1 {
            let raw = &block[start..end];
            let value = if block[at] & 0x80 != 0 {
                let mut value = Vec::new();
                httlib_huffman::decode(raw, &mut value, DecoderSpeed::FourBits).ok()?;
                value
            } else {
                raw.to_vec()
            };
            return Some((at, end, value));
        }
        at = end;
    }
}

/// Where the bytes of a string begin and end.
fn string(block: &[u8], at: usize) -> Option<(usize, usize)> {
    let (size, start) = integer(block, at, 7)?;
    let end = start.checked_add(size)?;
    (end <= block.len()).then_some((start, end))
}

/// An integer of HPACK in the low `bits` of a byte and those that follow; and where it ends.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1 << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut at = at + 1;
    if value < most {
        return Some((value, at));
    }
    // Larger ones than this have no place in a frame.
    for shift in [0, 7, 14] {
        let byte = *block.get(at)?;
        at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// The length of a string that is not compressed.
fn integer_to(out: &mut Vec<u8>, value: usize) {
    const MOST: usize = 127;
    if value < MOST {
        out.push(value as u8);
        return;
    }
    out.push(MOST as u8);
    let mut rest = value - MOST;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let size = payload.len() as u32;
        [&size.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// `:method: POST`, `:path: /x`, then the authority in the given form, then `te: trailers`.
    fn block(first: u8, authority: &[u8], compressed: bool) -> Vec<u8> {
        let mut text = Vec::new();
        if compressed {
            httlib_huffman::encode(authority, &mut text).expect("encodes");
        } else {
            text.extend(authority);
        }
        let mut length = Vec::new();
        integer_to(&mut length, text.len());
        length[0] |= u8::from(compressed) << 7;
        [&[0x83, 0x44, 2, b'/', b'x', first][..], &length, &text, &[0x40, 2, b't', b'e', 8], b"trailers"].concat()
    }

    /// What comes out when it comes in in pieces of this size.
    fn through(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut mender = Mender::default();
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            mender.push(piece);
            while mender.has_output() {
                let mut some = [0; 7];
                let mut buf = ReadBuf::new(&mut some);
                mender.pop(&mut buf);
                out.extend_from_slice(buf.filled());
            }
        }
        out
    }

    /// URLs and lists of them become names of the same length; hosts stay as they are, byte for byte. However the bytes
    /// are cut on the way.
    #[test]
    fn only_what_is_no_host_is_mended() {
        let long = format!("#initially=[{}]", "http://10.0.0.1:2379;".repeat(20));
        for (authority, expect) in [
            ("http://127.0.0.1:2379", Some("http---127.0.0.1-2379".to_owned())),
            ("#initially=[http://a:1]", Some("-initially--http---a-1-".to_owned())),
            (&long, Some(long.replace(['#', '=', '[', ']', ':', '/', ';'], "-"))),
            ("127.0.0.1:2379", None),
            ("localhost", None),
            ("[::1]:2379", None),
        ] {
            for first in [0x41, 0x01, 0x11] {
                for compressed in [false, true] {
                    let headers = |authority, compressed| {
                        let padded = [&[2][..], &[0; 5], &block(first, authority, compressed), &[0, 0]].concat();
                        [frame(1, 0x4, &block(first, authority, compressed)), frame(1, 0x2c, &padded)].concat()
                    };
                    let around = |middle: &[u8]| {
                        let (settings, data) = (frame(4, 0, &[]), frame(0, 1, &[HEADERS; 100]));
                        [&PREFACE[..], &settings, middle, &data, middle].concat()
                    };
                    let sent = around(&headers(authority.as_bytes(), compressed));
                    let expect = match &expect {
                        Some(mended) => around(&headers(mended.as_bytes(), false)),
                        None => sent.clone(),
                    };
                    for size in [1, 5, 33, 100_000] {
                        assert_eq!(through(&sent, size), expect, "{authority} {first} {compressed} {size}");
                    }
                }
            }
        }
    }

    /// Whatever comes in, nothing panics, and what is no frame of headers goes through untouched.
    #[test]
    fn garbage_goes_through() {
        for seed in 0..200_u8 {
            let noise: Vec<u8> = (0..300_u32).map(|n| (n * n + n * u32::from(seed)) as u8 ^ seed).collect();
            let sent = [&PREFACE[..], &frame(1, seed, &noise), &frame(9, seed, &noise)].concat();
            let out = through(&sent, 64);
            assert!(out.ends_with(&frame(9, seed, &noise)), "{seed}");
        }
        let other = frame(6, 0, &[0x41; 64]);
        assert_eq!(through(&[&PREFACE[..], &other].concat(), 3), [&PREFACE[..], &other].concat());
    }

    /// What does not begin as HTTP/2 does is left alone, even where it looks like a frame of headers.
    #[test]
    fn other_protocols_go_through() {
        let headers = frame(1, 0x4, &block(0x41, b"http://a:1", false));
        for start in
            [&b"GET /version HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xf4\x01\x00\x00"]
        {
            let sent = [start, &headers].concat();
            for size in [1, 5, 100_000] {
                assert_eq!(through(&sent, size), sent, "{size}");
            }
        }
    }
}
