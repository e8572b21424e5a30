//! Connections to servers, and to clients, with or without TLS.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::Address;
use crate::resp::{Command, Decoder, Value};
use crate::tls::Tls;
use crate::url::Credentials;

use super::frame::{BadFrame, Scanner};
use super::limits::Limits;

/// The reading half of a connection.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a connection.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Room made for each read from a server.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Proto {
    Two,
    Three,
}

/// How connections to servers are made.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) credentials: Credentials,
    pub(crate) tls: Option<Tls>,
    pub(crate) db: u32,
    pub(crate) limits: Arc<Limits>,
}

/// No connection, or one that broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("cannot connect to {address}")]
    Connect { address: Address, source: io::Error },
    #[error("{address} does not let the proxy in: {message}")]
    Refused { address: Address, message: String },
    #[error("lost the connection to {address}")]
    Lost { address: Address, source: io::Error },
    #[error("{address} does not speak the Redis protocol")]
    Frame { address: Address, source: BadFrame },
    #[error("{address} left all commands unanswered for {after:?}")]
    Silent { address: Address, after: Duration },
    #[error("{address} closed the connection")]
    Closed { address: Address },
}

/// A connection that one client, or one task of ours, has for itself.
pub(crate) struct Wire {
    pub(crate) address: Address,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    input: BytesMut,
    scanner: Scanner,
    /// The server's number for it, once asked.
    id: Option<i64>,
    /// How long answers may take.
    answer_within: Duration,
}

impl Dialer {
    /// Connects, and says who we are and how we want to be spoken to.
    pub(crate) async fn connect(&self, address: &Address, proto: Proto) -> Result<Wire, WireError> {
        let failed = |source| WireError::Connect { address: address.clone(), source };
        match timeout(self.limits.connect_within, self.greet(address, proto)).await {
            Ok(wire) => wire,
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn greet(&self, address: &Address, proto: Proto) -> Result<Wire, WireError> {
        let failed = |source| WireError::Connect { address: address.clone(), source };
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (reader, writer): (Reader, Writer) = match &self.tls {
            None => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Some(tls) => {
                let (reader, writer) = tokio::io::split(tls.connect(&address.host, stream).await.map_err(failed)?);
                (Box::new(reader), Box::new(writer))
            }
        };
        let mut wire = Wire {
            address: address.clone(),
            reader,
            writer,
            input: BytesMut::new(),
            scanner: Scanner::new(self.limits.answer_bytes_max),
            id: None,
            answer_within: self.limits.answer_within,
        };
        let mut hello = BytesMut::new();
        let mut answers = 0;
        let mut say = |command: Command| {
            command.encode(&mut hello);
            answers += 1;
        };
        if let Some(password) = &self.credentials.password {
            say(Command::new("AUTH").args(&self.credentials.user).arg(password));
        }
        if proto == Proto::Three {
            say(Command::new("HELLO").arg("3"));
        }
        if self.db != 0 {
            say(Command::new("SELECT").number(self.db));
        }
        for answer in wire.call(&hello, answers).await? {
            if let Some(message) = answer.strip_prefix(b"-") {
                let message = String::from_utf8_lossy(message).trim_end().to_owned();
                return Err(WireError::Refused { address: address.clone(), message });
            }
        }
        Ok(wire)
    }
}

impl Wire {
    /// Writes requests and reads so many answers, within the time that a server may be silent.
    pub(crate) async fn call(&mut self, requests: &[u8], answers: usize) -> Result<Vec<Bytes>, WireError> {
        let after = self.answer_within;
        match timeout(after, self.exchange(requests, answers)).await {
            Ok(done) => done,
            Err(_) => Err(WireError::Silent { address: self.address.clone(), after }),
        }
    }

    /// Both at once: a server stops reading when its answers are not taken.
    async fn exchange(&mut self, requests: &[u8], answers: usize) -> Result<Vec<Bytes>, WireError> {
        let lost = |source| WireError::Lost { address: self.address.clone(), source };
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let write = async {
            writer.write_all(requests).await.map_err(lost)?;
            writer.flush().await.map_err(lost)
        };
        let read = async {
            let mut all = Vec::with_capacity(answers.min(1024));
            while all.len() < answers {
                let frame = next(&mut self.input, &mut self.scanner, reader, &self.address).await?;
                if frame.first() != Some(&b'>') {
                    all.push(frame);
                }
            }
            Ok(all)
        };
        let ((), answers) = tokio::try_join!(write, read)?;
        Ok(answers)
    }

    /// Writes requests without waiting for answers.
    pub(crate) async fn send(&mut self, requests: &[u8]) -> Result<(), WireError> {
        let lost = |source| WireError::Lost { address: self.address.clone(), source };
        self.writer.write_all(requests).await.map_err(lost)?;
        self.writer.flush().await.map_err(lost)
    }

    /// The next answer or push. May be dropped half-way and called again: what came is kept.
    pub(crate) async fn next(&mut self) -> Result<Bytes, WireError> {
        next(&mut self.input, &mut self.scanner, &mut self.reader, &self.address).await
    }

    /// One command, its answer taken apart.
    pub(crate) async fn ask(&mut self, command: &Command) -> Result<Value, WireError> {
        let mut request = BytesMut::new();
        command.encode(&mut request);
        let answer = self.call(&request, 1).await?.pop().unwrap_or_default();
        let value = Decoder::default().decode(&mut BytesMut::from(&answer[..])).ok().flatten().unwrap_or(Value::Null);
        match value {
            Value::Error(message) => Err(WireError::Refused {
                address: self.address.clone(),
                message: format!("{}: {}", command.name(), String::from_utf8_lossy(&message)),
            }),
            value => Ok(value),
        }
    }

    /// The server's number for this connection, by which another one can speak of it.
    pub(crate) async fn id(&mut self) -> Result<i64, WireError> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let id = self.ask(&Command::new("CLIENT ID")).await?.int().unwrap_or(0);
        self.id = Some(id);
        Ok(id)
    }

    /// Whether it is still there and nothing has come that nobody waits for.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        if !self.input.is_empty() {
            return false;
        }
        let mut byte = [0u8; 1];
        let mut buffer = tokio::io::ReadBuf::new(&mut byte);
        let reader = &mut self.reader;
        std::future::poll_fn(|context| Poll::Ready(pin!(&mut *reader).poll_read(context, &mut buffer).is_pending()))
            .await
    }

    /// The halves, for a connection that is used from two tasks.
    pub(crate) fn into_parts(self) -> (Reader, Writer, BytesMut, Scanner) {
        (self.reader, self.writer, self.input, self.scanner)
    }
}

async fn next(
    input: &mut BytesMut,
    scanner: &mut Scanner,
    reader: &mut Reader,
    address: &Address,
) -> Result<Bytes, WireError> {
    loop {
        let scanned = scanner.scan(input).map_err(|source| WireError::Frame { address: address.clone(), source })?;
        if let Some(length) = scanned {
            return Ok(input.split_to(length).freeze());
        }
        input.reserve(READ_BYTES.max(input.len()));
        match reader.read_buf(input).await {
            Ok(0) => return Err(WireError::Closed { address: address.clone() }),
            Ok(_) => {}
            Err(source) => return Err(WireError::Lost { address: address.clone(), source }),
        }
    }
}
