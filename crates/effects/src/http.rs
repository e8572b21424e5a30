//! A client for one question: does this URL answer with 2xx? HTTP/1.1, one connection a request.
//!
//! Redirects are not followed: a check that is sent elsewhere proves nothing about the endpoint.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most of an answer that is read; enough for any reason, and the rest is not asked for.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Most of a body that is quoted.
const QUOTED_BYTES_MAX: usize = 256;

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to connect: `host:port`.
    pub(crate) authority: String,
    /// What to ask for, with its query.
    path: String,
}

impl Target {
    /// Reads an `http://` URL.
    pub(crate) fn url(url: &str) -> Result<Target, String> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is not understood: write an http:// URL"))?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'/' => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
            None => (rest, "/".to_owned()),
        };
        let path = path.split('#').next().unwrap_or("/").to_owned();
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.starts_with('[')));
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Target { authority, path }.checked(url)
    }

    /// `path` of an endpoint.
    pub(crate) fn endpoint(address: &str, port: u16, path: &str) -> Result<Target, String> {
        let slash = if path.starts_with('/') { "" } else { "/" };
        Target { authority: authority(address, port), path: format!("{slash}{path}") }.checked(path)
    }

    /// Nothing that would end a line may get into the request.
    fn checked(self, text: &str) -> Result<Target, String> {
        let clean = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if clean(&self.authority) && clean(&self.path) {
            Ok(self)
        } else {
            Err(format!("`{text}` is no URL: it holds blanks or control characters"))
        }
    }
}

/// `address:port`, with brackets for IPv6.
pub(crate) fn authority(address: &str, port: u16) -> String {
    match address.contains(':') && !address.starts_with('[') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// Asks; gives whether the answer is 2xx, and what was answered. The caller bounds the time.
pub(crate) async fn get(target: &Target) -> (bool, String) {
    match exchange(target).await {
        Ok(answer) => judge(&answer),
        Err(source) => (false, format!("{}: {}", target.authority, crate::error::reason(&source))),
    }
}

async fn exchange(target: &Target) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(&target.authority).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: regrow\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path, target.authority
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    while answer.len() < ANSWER_BYTES_MAX && !is_complete(&answer) {
        match stream.read_buf(&mut answer).await {
            Ok(0) => break,
            Ok(_) => {}
            // A server may close hard behind a complete answer.
            Err(_) if !answer.is_empty() => break,
            Err(source) => return Err(source),
        }
    }
    Ok(answer)
}

/// Whether the answer names its length and has come whole. Others end with their connection.
fn is_complete(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let length = answer[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| answer.len() - (head + 4) >= length)
}

fn judge(answer: &[u8]) -> (bool, String) {
    let text = String::from_utf8_lossy(answer);
    let mut rest = text.as_ref();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        let line = head.lines().next().unwrap_or_default();
        let Some((_, status)) = line.split_once(' ').filter(|(version, _)| version.starts_with("HTTP/1.")) else {
            let got = crate::output::cut(line.to_owned(), QUOTED_BYTES_MAX);
            let got = if got.is_empty() { "nothing".to_owned() } else { format!("`{got}`") };
            return (false, format!("no HTTP answer, but {got}"));
        };
        let code = status.get(..3).and_then(|code| code.parse::<u16>().ok()).unwrap_or_default();
        if (100..200).contains(&code) && code != 101 && !body.is_empty() {
            // An interim answer: the real one follows.
            rest = body;
            continue;
        }
        let status = crate::output::cut(status.trim().to_owned(), QUOTED_BYTES_MAX);
        let passing = (200..300).contains(&code);
        let reason = body.lines().map(str::trim).find(|line| !line.is_empty() && !passing);
        return match reason {
            Some(reason) => (passing, format!("{status}: {}", crate::output::cut(reason.to_owned(), QUOTED_BYTES_MAX))),
            None => (passing, status),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> (String, String) {
        let target = Target::url(url).unwrap();
        (target.authority, target.path)
    }

    /// Shows where each URL leads.
    #[test]
    fn urls() {
        let is = |authority: &str, path: &str| (authority.to_owned(), path.to_owned());
        assert_eq!(target("http://127.0.0.1:8080/healthz?x=1#y"), is("127.0.0.1:8080", "/healthz?x=1"));
        assert_eq!(target("http://name"), is("name:80", "/"));
        assert_eq!(target("http://[::1]:90/"), is("[::1]:90", "/"));
        assert_eq!(target("http://[::1]/"), is("[::1]:80", "/"));
        assert_eq!(target("http://name?q"), is("name:80", "/?q"));
        assert!(Target::url("https://name/").is_err());
        assert!(Target::url("http://name/a b\r\nX: y").is_err());
        assert_eq!(Target::endpoint("::1", 80, "x").unwrap().authority, "[::1]:80");
        assert_eq!(Target::endpoint("10.0.0.1", 80, "x").unwrap().path, "/x");
    }

    /// Shows when no more is waited for: never before the whole answer is there.
    #[test]
    fn complete() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\nA: b\r\n\r\nok";
        assert!(is_complete(whole));
        assert!((0..whole.len()).all(|length| !is_complete(&whole[..length])));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\n\r\nok"));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"));
        assert!(!is_complete(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    }

    /// Shows which answers pass and what is quoted of the others; nothing that a server sends is trusted.
    #[test]
    fn answers() {
        let check =
            |answer: &str, passing, says: &str| assert_eq!(judge(answer.as_bytes()), (passing, says.to_owned()));
        check("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", true, "200 OK");
        check("HTTP/1.0 204 No Content\r\n\r\n", true, "204 No Content");
        check(
            "HTTP/1.1 503 Service Unavailable\r\n\r\n\nno database\nmore",
            false,
            "503 Service Unavailable: no database",
        );
        check("HTTP/1.1 301 Moved\r\n\r\n", false, "301 Moved");
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true, "200 OK");
        check("HTTP/1.1 100 Continue\r\n\r\n", false, "100 Continue");
        check("HTTP/1.1 2x0 OK\r\n\r\n", false, "2x0 OK");
        check("HTTP/1.1 \u{e9}\u{e9}\r\n\r\n", false, "\u{e9}\u{e9}");
        check("SSH-2.0-OpenSSH\r\n", false, "no HTTP answer, but `SSH-2.0-OpenSSH`");
        check("", false, "no HTTP answer, but nothing");
        check("HTTP/1.1\r\n\r\n", false, "no HTTP answer, but `HTTP/1.1`");
    }
}
