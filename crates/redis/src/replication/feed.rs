//! The link to a master.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::address::Address;
use crate::connection::{self, Dialer};
use crate::resp::Command;
use crate::tls::Stream;

use super::entries::{Entries, Entry, StreamError};
use super::pipe::PipeWriter;

/// A place in the history of a data set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Which history: 40 hex digits.
    pub history: String,
    /// Bytes of the stream that are behind us.
    pub offset: u64,
    /// The database that is chosen there.
    pub db: u32,
}

/// What can go wrong on the link. After any of these, drop the feed and attach again.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The server failed us or refused.
    #[error(transparent)]
    Server(#[from] connection::Error),
    /// The master does not answer as one does.
    #[error("{address} answered PSYNC with {answer:?}")]
    Answer {
        /// The master.
        address: Address,
        /// The answer, shortened.
        answer: String,
    },
    /// The stream makes no sense.
    #[error("what {address} sends cannot be read")]
    Stream {
        /// The master.
        address: Address,
        /// What is wrong.
        source: StreamError,
    },
    /// The master says nothing for longer than it may.
    #[error("{address} has been silent for {after:?}")]
    Silent {
        /// The master.
        address: Address,
        /// How long.
        after: Duration,
    },
    /// Nobody takes the snapshot.
    #[error("the reader of the snapshot is gone")]
    NoReader,
}

impl ReplicationError {
    /// Whether attaching again may help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Server(error) => error.retryable(),
            Self::Silent { .. } => true,
            Self::Answer { answer, .. } => {
                ["LOADING", "NOMASTERLINK", "MASTERDOWN"].iter().any(|word| answer.contains(word))
            }
            Self::Stream { .. } | Self::NoReader => false,
        }
    }
}

/// How a feed begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// With a snapshot, which [`Feed::snapshot`] must take before anything else.
    Full,
    /// Right after the position that was asked for.
    Onwards,
}

/// What a master sends.
#[derive(Debug)]
pub struct Feed {
    address: Address,
    stream: Stream,
    input: BytesMut,
    history: String,
    entries: Entries,
    /// When the master last said anything.
    heard_at: Instant,
    ack_at: Instant,
    /// What is still to be sent.
    output: BytesMut,
}

/// How often the master hears how far we are; it cuts those off that are silent for 60 s.
const ACK_EVERY: Duration = Duration::from_secs(1);
/// A master pings every ten seconds; this is its own limit for silence (`repl-timeout`).
const SILENT_MAX: Duration = Duration::from_secs(60);
/// Room made for each read.
const READ_BYTES: usize = 64 << 10;
/// Bytes of a line before the snapshot.
const LINE_BYTES_MAX: usize = 1024;
/// Bytes that end a snapshot of unknown length.
const MARK_BYTES: usize = 40;

/// Asks a master for its writes: from a position on if it still has them, else from a snapshot.
///
/// Rights needed: `PSYNC`, `REPLCONF` and `PING`. A server that is itself a replica serves as well as its master.
pub async fn attach(
    dialer: &Dialer,
    address: &Address,
    from: Option<&Position>,
) -> Result<(Begin, Feed), ReplicationError> {
    let mut link = dialer.connect(address).await?;
    // A snapshot of unknown length is sent without a file on the master's disk; histories may be branches of each other.
    link.ok(&Command::new("REPLCONF capa").args(["eof", "capa", "psync2"])).await?;
    let ask = Command::new("PSYNC");
    let ask = match from {
        // The offset asked for is that of the next byte, counted from one.
        Some(position) => ask.arg(&position.history).number(position.offset + 1),
        None => ask.arg("?").arg("-1"),
    };
    let (stream, input) = link.into_parts();
    let mut feed = Feed {
        address: address.clone(),
        stream,
        input,
        history: String::new(),
        entries: Entries::new(0, 0),
        heard_at: Instant::now(),
        ack_at: Instant::now(),
        output: BytesMut::new(),
    };
    ask.encode(&mut feed.output);
    while !feed.output.is_empty() {
        feed.stream.write_buf(&mut feed.output).await.map_err(|source| feed.lost(source))?;
    }
    feed.stream.flush().await.map_err(|source| feed.lost(source))?;
    // The answer waits until the snapshot is begun, which a master may put off, with empty lines meanwhile.
    let answer = feed.line().await?;
    let answer = answer.strip_prefix('+').unwrap_or(&answer);
    let bad = || ReplicationError::Answer { address: address.clone(), answer: answer.chars().take(100).collect() };
    let mut words = answer.split(' ');
    let (begin, history, entries) = match (words.next(), words.next(), words.next(), from) {
        (Some("FULLRESYNC"), Some(history), Some(offset), _) => {
            (Begin::Full, history, Entries::new(offset.parse().map_err(|_| bad())?, 0))
        }
        // After a fail-over the history goes on under a new name.
        (Some("CONTINUE"), history, None, Some(position)) => {
            (Begin::Onwards, history.unwrap_or(&position.history), Entries::new(position.offset, position.db))
        }
        _ => return Err(bad()),
    };
    feed.history = history.to_owned();
    feed.entries = entries;
    feed.ack_at = Instant::now();
    Ok((begin, feed))
}

impl Feed {
    /// The position after the last entry given out.
    pub fn position(&self) -> Position {
        Position { history: self.history.clone(), offset: self.entries.end(), db: self.entries.db() }
    }

    /// Hands the snapshot on, byte by byte as it comes. The bytes of it. The reader at the other end of the pipe says
    /// whether they are good.
    pub async fn snapshot(&mut self, to: &PipeWriter) -> Result<u64, ReplicationError> {
        let head = self.line().await?;
        let bad =
            || ReplicationError::Answer { address: self.address.clone(), answer: head.chars().take(100).collect() };
        match head.strip_prefix("$EOF:") {
            Some(mark) if mark.len() == MARK_BYTES => self.until_mark(mark.as_bytes(), to).await,
            Some(_) => Err(bad()),
            None => {
                let size = head.strip_prefix('$').and_then(|size| size.parse().ok()).ok_or_else(bad)?;
                self.sized(size, to).await
            }
        }
    }

    /// A line before the snapshot. While the master prepares it, empty lines say that it lives.
    async fn line(&mut self) -> Result<String, ReplicationError> {
        loop {
            while self.input.first() == Some(&b'\n') {
                self.input.advance(1);
            }
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line = self.input.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.input.len() > LINE_BYTES_MAX {
                return Err(ReplicationError::Answer {
                    address: self.address.clone(),
                    answer: "a line without an end".to_owned(),
                });
            }
            self.read().await?;
        }
    }

    async fn sized(&mut self, size: u64, to: &PipeWriter) -> Result<u64, ReplicationError> {
        let mut left = size;
        while left > 0 {
            if self.input.is_empty() {
                self.read().await?;
            }
            let part = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= part as u64;
            self.hand_on(part, to).await?;
        }
        Ok(size)
    }

    /// The mark is random, so its first appearance is the end.
    async fn until_mark(&mut self, mark: &[u8], to: &PipeWriter) -> Result<u64, ReplicationError> {
        let mut size = 0;
        loop {
            let end = self.input.windows(MARK_BYTES).position(|window| window == mark);
            // Without the mark, all but what may be its beginning is good.
            let part = end.unwrap_or_else(|| self.input.len().saturating_sub(MARK_BYTES - 1));
            size += part as u64;
            self.hand_on(part, to).await?;
            if end.is_some() {
                self.input.advance(MARK_BYTES);
                return Ok(size);
            }
            self.read().await?;
        }
    }

    async fn hand_on(&mut self, part: usize, to: &PipeWriter) -> Result<(), ReplicationError> {
        if part > 0 && !to.put(self.input.split_to(part).freeze()).await {
            return Err(ReplicationError::NoReader);
        }
        Ok(())
    }

    /// The next entry. Dropping the call and calling again loses nothing.
    pub async fn next_entry(&mut self) -> Result<Entry, ReplicationError> {
        loop {
            if Instant::now() >= self.ack_at {
                self.ack().await?;
            }
            let entry = self
                .entries
                .next_entry(&mut self.input)
                .map_err(|source| ReplicationError::Stream { address: self.address.clone(), source })?;
            match entry {
                Some(Entry::AckWanted { end }) => {
                    self.ack_at = Instant::now();
                    return Ok(Entry::AckWanted { end });
                }
                Some(entry) => return Ok(entry),
                None => {
                    let ack_at = self.ack_at;
                    tokio::select! {
                        read = self.read() => read?,
                        () = sleep_until(ack_at) => {}
                    }
                }
            }
        }
    }

    /// Tells the master how far we are. A master learns from it also that `WAIT` is fulfilled, so a position counts only
    /// once its entry was given out.
    async fn ack(&mut self) -> Result<(), ReplicationError> {
        if self.output.is_empty() {
            Command::new("REPLCONF ACK").number(self.entries.end()).encode(&mut self.output);
        }
        // What a dropped call has not sent is sent by the next, so that the master never sees half a command.
        while !self.output.is_empty() {
            self.stream.write_buf(&mut self.output).await.map_err(|source| self.lost(source))?;
        }
        self.stream.flush().await.map_err(|source| self.lost(source))?;
        self.ack_at = Instant::now() + ACK_EVERY;
        Ok(())
    }

    /// Waits for more bytes.
    async fn read(&mut self) -> Result<(), ReplicationError> {
        self.input.reserve(READ_BYTES);
        match timeout_at(self.heard_at + SILENT_MAX, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.lost(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => {
                self.heard_at = Instant::now();
                Ok(())
            }
            Ok(Err(source)) => Err(self.lost(source)),
            Err(_) => Err(ReplicationError::Silent { address: self.address.clone(), after: SILENT_MAX }),
        }
    }

    fn lost(&self, source: std::io::Error) -> ReplicationError {
        connection::Error::Lost { address: self.address.clone(), source }.into()
    }
}
