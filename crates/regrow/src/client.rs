//! Speaks to an agent: over its Unix socket, or HTTP.

use crate::config::Access;
use crate::exit::{Code, Failure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use regrow_serve::wire::{Refusal, RefusalKind};
use regrow_store::Secret;
use regrow_store::tls::Tls;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Where https is when nothing else is said.
const HTTPS_PORT: u16 = 443;
/// Longest line of a stream.
const LINE_BYTES_MAX: usize = 8 << 20;

/// An agent to speak to.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    /// By its socket.
    Unix(PathBuf),
    /// By `address:port`.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// For https.
        tls: Option<Tls>,
        /// What to show there.
        token: Option<Secret>,
    },
}

impl Client {
    /// Finds the agent: `--agent` or `REGROW_AGENT`, else the socket of the data folder.
    pub(crate) fn find(agent: Option<&str>, data: &std::path::Path, access: &Access) -> Result<Client, Failure> {
        let Some(url) = agent else { return Ok(Client::Unix(data.join("regrow.sock"))) };
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Client::Unix(PathBuf::from(path)));
        }
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => (false, ""),
        };
        let address = rest.trim_end_matches('/');
        if address.is_empty() || address.contains('/') {
            return Err(Failure::usage(format!(
                "`{url}` is not an agent's URL: write it as https://10.0.0.11:8500, http://127.0.0.1:8500 or \
                 unix:/var/lib/regrow/regrow.sock"
            )));
        }
        let access = access.clone().or_of(data);
        let (tls, token) = (secure.then(|| access.tls()), access.token()?);
        if token.is_some() && !secure {
            return Err(Failure::usage(format!("a token is not sent without TLS: say https:// instead of `{url}`")));
        }
        if let Some(tls) = &tls {
            // Now, so that what is wrong with the files is told before anything is asked.
            tls.config(&[]).map_err(Failure::usage)?;
        }
        Ok(Client::Tcp { address: address.to_owned(), tls, token })
    }

    /// A GET whose answer is one JSON value.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(Method::GET, path, Bytes::new()).await
    }

    /// A POST of a JSON value whose answer is another.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        self.whole(Method::POST, path, body.into()).await
    }

    /// A GET whose answer is lines, given to `each` as they come.
    pub(crate) async fn lines(&self, path: &str, each: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        self.each_line(response, each).await
    }

    /// A GET whose answer is bytes, given to `each` as they come.
    pub(crate) async fn bytes(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut response = self.send(Method::GET, path, Bytes::new()).await?;
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(data) = frame.map_err(|error| self.broken(&error))?.into_data() else { continue };
            each(&data)?;
        }
        Ok(())
    }

    /// A POST of a JSON value whose answer is lines, given to `each` as they come.
    pub(crate) async fn post_lines(
        &self,
        path: &str,
        body: &impl Serialize,
        each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        let response = self.send(Method::POST, path, body.into()).await?;
        self.each_line(response, each).await
    }

    async fn each_line(
        &self,
        mut response: Response<Incoming>,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(data) = frame.map_err(|error| self.broken(&error))?.into_data() else { continue };
            rest.extend_from_slice(&data);
            let mut from = 0;
            while let Some(length) = rest[from..].iter().position(|byte| *byte == b'\n') {
                each(&String::from_utf8_lossy(&rest[from..from + length]))?;
                from += length + 1;
            }
            rest.drain(..from);
            if rest.len() > LINE_BYTES_MAX {
                return Err(Failure::failed(format!("the agent sent a line of more than {LINE_BYTES_MAX} bytes")));
            }
        }
        Ok(())
    }

    async fn whole<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Failure> {
        let response = self.send(method, path, body).await?;
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        serde_json::from_slice(&body)
            .map_err(|error| Failure::failed(format!("{} gave an answer that does not fit: {error}", self.place())))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let slow = |_| Failure::new(Code::TimedOut, format!("{} does not answer", self.place()));
        let exchange = async {
            match self {
                Client::Unix(socket) => {
                    let stream = UnixStream::connect(socket).await.map_err(|error| self.unreachable(&error))?;
                    self.exchange(stream, method, path, body).await
                }
                Client::Tcp { address, tls: None, .. } => {
                    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
                    let stream = connecting.await.map_err(slow)?.map_err(|error| self.unreachable(&error))?;
                    self.exchange(stream, method, path, body).await
                }
                Client::Tcp { address, tls: Some(tls), .. } => {
                    let (host, port) = host_and_port(address)?;
                    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, tls.connect(host, port, &[b"http/1.1"]));
                    let stream = connecting.await.map_err(slow)?.map_err(|error| self.unreachable(&error))?;
                    self.exchange(stream, method, path, body).await
                }
            }
        };
        let response = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(slow)??;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        let refusal: Refusal = serde_json::from_slice(&body)
            .map_err(|_| Failure::failed(format!("{} answered {status}", self.place())))?;
        let code = match refusal.kind {
            RefusalKind::Usage => Code::Usage,
            RefusalKind::Refused | RefusalKind::Unauthenticated | RefusalKind::Denied => Code::Refused,
            RefusalKind::NotFound => Code::NotFound,
            RefusalKind::Unavailable => Code::Unreachable,
        };
        Err(Failure::new(code, refusal.error))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let host = match self {
            Client::Unix(_) => "localhost",
            Client::Tcp { address, .. } => address,
        };
        let mut request =
            Request::builder().method(method).uri(path).header("host", host).header("content-type", "application/json");
        if let Client::Tcp { token: Some(token), .. } = self {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| Failure::usage("the token has characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::usage(format!("`{path}` makes no request: {error}")))?;
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    fn place(&self) -> String {
        match self {
            Client::Unix(socket) => format!("the agent at {}", socket.display()),
            Client::Tcp { address, tls: None, .. } => format!("the agent at http://{address}"),
            Client::Tcp { address, .. } => format!("the agent at https://{address}"),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                "is it running? Start it with `regrow up` or `regrow agent`, or name it with --agent or --data"
            }
            std::io::ErrorKind::PermissionDenied => "run this as the user that runs the agent",
            _ => "name another with --agent",
        };
        Failure::new(Code::Unreachable, format!("cannot reach {}: {error}\n  {hint}", self.place()))
    }

    fn broken(&self, error: &impl std::fmt::Display) -> Failure {
        Failure::new(Code::Unreachable, format!("the connection to {} broke: {error}", self.place()))
    }
}

/// A text as a value in a URL's query (RFC 3986 §2.1).
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The parts of `HOST:PORT`, `[IPv6]:PORT` or `HOST`.
fn host_and_port(address: &str) -> Result<(&str, u16), Failure> {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => Ok((host, port)),
            Err(_) => Err(Failure::usage(format!("`{address}` is not HOST:PORT"))),
        },
        _ => Ok((address, HTTPS_PORT)),
    }
}
