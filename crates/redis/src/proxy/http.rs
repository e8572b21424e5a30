//! As much of HTTP/1.1 as looking and a few orders need: one request a connection, bounded.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a request with its head.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// A request, as far as it matters.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(code: u16, body: impl Into<String>) -> Self {
        Self { code, kind: "text/plain; version=0.0.4; charset=utf-8", body: body.into() }
    }

    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { code: 200, kind: "application/json", body },
            Err(error) => Self::text(500, error.to_string()),
        }
    }

    pub(crate) fn error(code: u16, error: &str) -> Self {
        Self { code, ..Self::json(&serde_json::json!({ "error": error })) }
    }
}

/// Reads a request, bounded.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut bytes = Vec::new();
    let mut whole = None;
    loop {
        if whole.is_none()
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("the head is no text"))?;
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-length"))
                .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())
                .map_err(|_| bad("the length is no number"))?;
            if length > REQUEST_BYTES_MAX {
                return Err(bad("the request is too long"));
            }
            whole = Some((end + 4, end + 4 + length));
        }
        if let Some((body, end)) = whole
            && bytes.len() >= end
        {
            let head = std::str::from_utf8(&bytes[..body]).map_err(|_| bad("the head is no text"))?;
            let mut words = head.lines().next().unwrap_or_default().split(' ');
            let (Some(method), Some(path)) = (words.next(), words.next()) else {
                return Err(bad("the first line is no request"));
            };
            let path = path.split('?').next().unwrap_or_default();
            return Ok(Request { method: method.to_owned(), path: path.to_owned(), body: bytes[body..end].to_vec() });
        }
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(bad("the request is too long"));
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(bad("the request ends half-way"));
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// Writes an answer and ends the connection.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let reason = match answer.code {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    };
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.code,
        answer.kind,
        answer.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.body.as_bytes()).await?;
    stream.shutdown().await
}
