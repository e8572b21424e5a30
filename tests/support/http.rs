//! Plain HTTP/1.1, a connection for each request.

use super::LONG;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::String(self.body.clone()))
    }

    pub fn index(&self) -> i64 {
        self.headers["x-etcd-index"].parse().expect("a number")
    }
}

/// Asks a server; `form` is the body if it is not empty.
pub fn ask(endpoint: &str, method: &str, path: &str, form: &str) -> Answer {
    try_ask(endpoint, method, path, form).unwrap_or_else(|error| panic!("{method} {path} {form}: {error}"))
}

pub fn try_ask(endpoint: &str, method: &str, path: &str, form: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(LONG))?;
    let kind = if form.is_empty() { "" } else { "content-type: application/x-www-form-urlencoded\r\n" };
    let length = form.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {endpoint}\r\nconnection: close\r\n{kind}");
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{form}").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    answer(&bytes)
}

fn answer(bytes: &[u8]) -> std::io::Result<Answer> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if is_chunked { chunks(body) } else { body.to_owned() };
    Ok(Answer { status: status.expect("a status"), headers, body })
}

fn chunks(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        body.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
    body
}

/// Posts JSON.
pub fn post(endpoint: &str, path: &str, json: &str) -> Answer {
    let mut stream = open(endpoint, path, json, "connection: close\r\n");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    answer(&bytes).expect("an answer")
}

/// Posts JSON to a stream, and reads so many lines of what it answers.
pub fn post_lines(endpoint: &str, path: &str, json: &str, count: usize) -> Vec<Value> {
    let stream = open(endpoint, path, json, "");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it goes on"));
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.first().is_some_and(|line| line.contains(" 200 ")), "{head:?}");
    // Sizes of chunks stand on lines of their own.
    lines
        .filter(|line| line.starts_with('{'))
        .take(count)
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .collect()
}

/// Begins a request, whole or not.
pub fn open(endpoint: &str, path: &str, json: &str, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let length = json.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {endpoint}\r\ncontent-length: {length}\r\n{more}\r\n{json}");
    // It may hang up before everything is written.
    let _ = stream.write_all(head.as_bytes());
    stream
}
