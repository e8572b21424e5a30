//! One connection to one server.
//!
//! A command and its answer, or many at once; each exchange has a deadline. After an error other than [`Error::Reply`] the
//! position in the stream is unknown: drop the connection and dial again.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::Address;
use crate::info::Info;
use crate::resp::{Command, Decoder, ProtocolError, Value};
use crate::tls::{Stream, Tls};
use crate::url::Credentials;

/// What can go wrong between us and one server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The connection broke. Whether the command was carried out is unknown.
    #[error("lost the connection to {address}")]
    Lost {
        /// The server.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// No answer within the deadline. Whether the command was carried out is unknown.
    #[error("{address} did not answer {command} within {after:?}")]
    TimedOut {
        /// The server.
        address: Address,
        /// The command, without its arguments.
        command: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The peer speaks something else.
    #[error("{address} does not speak the Redis protocol")]
    Protocol {
        /// The server.
        address: Address,
        /// What is wrong.
        source: ProtocolError,
    },
    /// The server refused the command; nothing was changed, and the connection is still good.
    #[error("{address} refused {command}: {message}")]
    Reply {
        /// The server.
        address: Address,
        /// The command, without its arguments.
        command: &'static str,
        /// The server's words; the first is its kind of error (`ERR`, `MOVED`, `NOAUTH`).
        message: String,
    },
    /// An answer of a kind that the command does not give.
    #[error("{address} answered {command} with {got}, not {wanted}")]
    Unexpected {
        /// The server.
        address: Address,
        /// The command, without its arguments.
        command: &'static str,
        /// What was needed.
        wanted: &'static str,
        /// What came.
        got: &'static str,
    },
}

impl Error {
    /// Whether the same may work later without anyone changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::TimedOut { .. } => true,
            Self::Reply { .. } => {
                matches!(self.code(), Some("LOADING" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY" | "MASTERDOWN" | "IOERR"))
            }
            Self::Protocol { .. } | Self::Unexpected { .. } => false,
        }
    }

    /// Whether the server could not be reached at all.
    pub fn unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Lost { .. })
    }

    /// The first word of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Reply { message, .. } => message.split(' ').next(),
            _ => None,
        }
    }
}

/// How connections are made.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// As whom.
    pub credentials: Credentials,
    /// Deadline of connecting and of each exchange; 5 s by default.
    pub timeout: Duration,
    /// By TLS; not by default.
    pub tls: Option<Tls>,
}

impl Default for Dialer {
    fn default() -> Self {
        Self { credentials: Credentials::default(), timeout: Duration::from_secs(5), tls: None }
    }
}

impl Dialer {
    /// Connects and authenticates.
    pub async fn connect(&self, address: &Address) -> Result<Connection, Error> {
        let connect = |source| Error::Connect { address: address.clone(), source };
        let stream = match timeout(self.timeout, TcpStream::connect((address.host.as_str(), address.port))).await {
            Ok(stream) => stream.map_err(connect)?,
            Err(_) => return Err(connect(io::Error::from(io::ErrorKind::TimedOut))),
        };
        stream.set_nodelay(true).map_err(connect)?;
        let peer = stream.peer_addr().map_err(connect)?.ip();
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => match timeout(self.timeout, tls.connect(&address.host, stream)).await {
                Ok(stream) => Stream::Tls(Box::new(stream.map_err(connect)?)),
                Err(_) => return Err(connect(io::Error::from(io::ErrorKind::TimedOut))),
            },
        };
        let mut connection = Connection {
            address: address.clone(),
            peer,
            stream,
            decoder: Decoder::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            timeout: self.timeout,
        };
        if let Some(password) = &self.credentials.password {
            connection.ok(&Command::new("AUTH").args(&self.credentials.user).arg(password)).await?;
        }
        Ok(connection)
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    address: Address,
    peer: IpAddr,
    stream: Stream,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    timeout: Duration,
}

/// Room made for each read from the socket.
const READ_BYTES: usize = 64 << 10;

impl Connection {
    /// The server this leads to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The IP on the other side, which commands between servers need where people write a name.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer
    }

    /// The socket, with bytes that came after the last answer.
    pub(crate) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }

    /// Changes the deadline of each exchange.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sends a command and waits for its answer; a refusal is an error.
    pub async fn call(&mut self, command: &Command) -> Result<Value, Error> {
        let mut answers = self.pipeline(std::slice::from_ref(command)).await?;
        let answer = answers.pop().unwrap_or(Value::Null);
        self.accept(command, answer)
    }

    /// Sends many commands at once and waits for all answers, refusals among them. All answers are held in memory: the
    /// caller bounds their number.
    pub async fn pipeline(&mut self, commands: &[Command]) -> Result<Vec<Value>, Error> {
        let Some(first) = commands.first() else {
            return Ok(Vec::new());
        };
        for command in commands {
            command.encode(&mut self.output);
        }
        match timeout(
            self.timeout,
            exchange(&mut self.stream, &mut self.decoder, &mut self.input, &mut self.output, commands.len()),
        )
        .await
        {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(Broken::Io(source))) => Err(Error::Lost { address: self.address.clone(), source }),
            Ok(Err(Broken::Protocol(source))) => Err(Error::Protocol { address: self.address.clone(), source }),
            Err(_) => {
                Err(Error::TimedOut { address: self.address.clone(), command: first.name(), after: self.timeout })
            }
        }
    }

    /// Turns a refusal into an error.
    pub fn accept(&self, command: &Command, answer: Value) -> Result<Value, Error> {
        match answer {
            Value::Error(message) => Err(Error::Reply {
                address: self.address.clone(),
                command: command.name(),
                message: String::from_utf8_lossy(&message).into_owned(),
            }),
            answer => Ok(answer),
        }
    }

    /// The error for an answer of the wrong kind.
    pub fn unexpected(&self, command: &Command, wanted: &'static str, got: &Value) -> Error {
        Error::Unexpected { address: self.address.clone(), command: command.name(), wanted, got: got.kind() }
    }

    /// A command whose answer must be `OK`.
    pub async fn ok(&mut self, command: &Command) -> Result<(), Error> {
        let answer = self.call(command).await?;
        if answer.is_ok() { Ok(()) } else { Err(self.unexpected(command, "OK", &answer)) }
    }

    /// A command whose answer must be a number.
    pub async fn int(&mut self, command: &Command) -> Result<i64, Error> {
        let answer = self.call(command).await?;
        answer.int().ok_or_else(|| self.unexpected(command, "a number", &answer))
    }

    /// A command whose answer must be UTF-8 text.
    pub async fn text(&mut self, command: &Command) -> Result<String, Error> {
        let answer = self.call(command).await?;
        answer.text().map(str::to_owned).ok_or_else(|| self.unexpected(command, "text", &answer))
    }

    /// What the server says about itself.
    pub async fn info(&mut self) -> Result<Info, Error> {
        Ok(Info::parse(&self.text(&Command::new("INFO")).await?))
    }
}

enum Broken {
    Io(io::Error),
    Protocol(ProtocolError),
}

/// Writes `output` and reads `count` answers. Both at once: a server stops reading when its answers are not taken, so
/// writing a long pipeline to its end first would wait for ever.
async fn exchange(
    stream: &mut Stream,
    decoder: &mut Decoder,
    input: &mut BytesMut,
    output: &mut BytesMut,
    count: usize,
) -> Result<Vec<Value>, Broken> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all_buf(output).await.map_err(Broken::Io)?;
        writer.flush().await.map_err(Broken::Io)
    };
    let read = async {
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            match decoder.decode(input).map_err(Broken::Protocol)? {
                Some(Value::Push(_)) => {}
                Some(answer) => answers.push(answer),
                None => {
                    input.reserve(READ_BYTES);
                    if reader.read_buf(input).await.map_err(Broken::Io)? == 0 {
                        return Err(Broken::Io(io::Error::from(io::ErrorKind::UnexpectedEof)));
                    }
                }
            }
        }
        Ok(answers)
    };
    let ((), answers) = tokio::try_join!(write, read)?;
    Ok(answers)
}
