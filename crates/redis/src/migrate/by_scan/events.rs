//! The events of a master: which keys its writes have changed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::address::Address;
use crate::connection::{Dialer, Error};
use crate::resp::{Command, Decoder, Value};
use crate::tls::Stream;

use super::super::error::MigrateError;
use super::super::lane::own;
use super::super::options::{Options, Shared};
use super::{Ended, Key};

/// Events by their names, of all databases.
const PATTERN: &str = "__keyevent@*__:*";
/// Keys that wait to be copied, at most; with more, all is read again later.
const WAITING_MAX: usize = 4 << 20;
/// How often the link is tried, and how long it may be silent: a server that dumps a big value says nothing.
const PING_EVERY: Duration = Duration::from_secs(1);
const SILENT_MAX: Duration = Duration::from_secs(30);
/// Room made for each read.
const READ_BYTES: usize = 64 << 10;

/// A link on which events come.
#[derive(Debug)]
pub(super) struct Events {
    address: Address,
    stream: Stream,
    input: BytesMut,
    decoder: Decoder,
    /// Who waits for the answer of each `PING`, and since when.
    pings: VecDeque<(Instant, Option<oneshot::Sender<u64>>)>,
}

impl Events {
    /// Subscribes. Rights needed: `PSUBSCRIBE`, `PING`, and the channels `__keyevent@*`.
    pub(super) async fn open(dialer: &Dialer, address: &Address) -> Result<Self, Error> {
        let mut link = dialer.connect(address).await?;
        link.call(&Command::new("PSUBSCRIBE").arg(PATTERN)).await?;
        let (stream, input) = link.into_parts();
        Ok(Self { address: address.clone(), stream, input, decoder: Decoder::default(), pings: VecDeque::new() })
    }

    /// Puts the keys of events into a feed's queue, and answers those who ask for its position, until the link is of no use.
    pub(super) async fn run(
        mut self,
        shared: Shared,
        feed: usize,
        mut asked: mpsc::Receiver<oneshot::Sender<u64>>,
    ) -> Result<Infallible, Ended> {
        let mut ping_at = Instant::now();
        loop {
            self.take(&shared, feed)?;
            self.input.reserve(READ_BYTES);
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => match read {
                    Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into()).into()),
                    Ok(_) => {}
                    Err(error) => return Err(self.lost(error).into()),
                },
                ask = asked.recv() => match ask {
                    Some(ask) => self.ping(Some(ask)).await?,
                    None => return Err(Ended::Again("nobody watches any more".to_owned())),
                },
                () = sleep_until(ping_at) => {
                    ping_at = Instant::now() + PING_EVERY;
                    if self.pings.front().is_some_and(|(since, _)| since.elapsed() > SILENT_MAX) {
                        return Err(self.lost(io::ErrorKind::TimedOut.into()).into());
                    }
                    self.ping(None).await?;
                }
            }
        }
    }

    async fn ping(&mut self, who: Option<oneshot::Sender<u64>>) -> Result<(), Error> {
        let mut output = BytesMut::new();
        Command::new("PING").encode(&mut output);
        let write = async {
            self.stream.write_all_buf(&mut output).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(SILENT_MAX, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.lost(error)),
            Err(_) => return Err(self.lost(io::ErrorKind::TimedOut.into())),
        }
        self.pings.push_back((Instant::now(), who));
        Ok(())
    }

    /// Takes what has come.
    fn take(&mut self, shared: &Shared, feed: usize) -> Result<(), Ended> {
        let Some(changes) = shared.scans.get(feed) else { return Ok(()) };
        let (mut queue, mut waiting) = (changes.queue(), 0);
        loop {
            let value = self.decoder.decode(&mut self.input);
            let value = value.map_err(|source| Error::Protocol { address: self.address.clone(), source })?;
            let Some(value) = value else { break };
            match heard(&value) {
                Heard::Pong => {
                    if let Some((_, Some(who))) = self.pings.pop_front() {
                        let _ = who.send(queue.last());
                    }
                }
                Heard::Changed(key) => {
                    if wanted(&key, &shared.options)? {
                        queue.put(key);
                        waiting = queue.len();
                    }
                }
                Heard::Nothing => {}
                Heard::Strange => {
                    return Err(MigrateError::refused(
                        format!("{} sends what is no event", self.address),
                        "see what its log says",
                    )
                    .into());
                }
            }
        }
        drop(queue);
        changes.show(feed, &shared.board);
        if waiting > WAITING_MAX {
            return Err(Ended::Again(format!("more than {WAITING_MAX} keys wait to be copied")));
        }
        Ok(())
    }

    fn lost(&self, source: io::Error) -> Error {
        Error::Lost { address: self.address.clone(), source }
    }
}

/// Whether a key is to be copied; an error if nobody has said where its database goes.
fn wanted((db, name): &Key, options: &Options) -> Result<bool, MigrateError> {
    if own(name) || options.left.contains(db) {
        return Ok(false);
    }
    if options.databases.contains_key(db) {
        return Ok(true);
    }
    Err(MigrateError::refused(
        format!("database {db} of the source is written to, and has no place"),
        format!("give --db {db}=TO or --leave-db {db}"),
    ))
}

#[derive(Debug, PartialEq)]
enum Heard {
    /// The answer of a `PING`.
    Pong,
    /// A key was written, removed, or has expired.
    Changed(Key),
    /// What matters not.
    Nothing,
    Strange,
}

/// `["pmessage", pattern, "__keyevent@<database>__:<event>", key]`, `["pong", …]`; with version 3 of the protocol as a push.
fn heard(value: &Value) -> Heard {
    let parts = value.array().unwrap_or_default();
    match (parts.first().and_then(Value::text), parts) {
        (Some("pong"), _) => Heard::Pong,
        (Some("pmessage"), [_, _, channel, key]) => {
            let place = channel.text().and_then(|channel| channel.strip_prefix("__keyevent@")?.split_once("__:"));
            let Some((db, event)) = place else { return Heard::Strange };
            match (db.parse(), key.bytes()) {
                // A reader who finds nothing has changed nothing.
                (Ok(_), Some(_)) if event == "keymiss" => Heard::Nothing,
                (Ok(db), Some(key)) => Heard::Changed((db, key.clone())),
                _ => Heard::Strange,
            }
        }
        _ => Heard::Strange,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parts: &[&'static str]) -> Value {
        Value::Array(parts.iter().map(|part| Value::Bulk((*part).into())).collect())
    }

    #[test]
    fn what_is_heard() {
        for (parts, expected) in [
            (&["pong", ""][..], Heard::Pong),
            (&["pmessage", PATTERN, "__keyevent@3__:del", "a"], Heard::Changed((3, "a".into()))),
            (&["pmessage", PATTERN, "__keyevent@0__:xgroup-create", "__:"], Heard::Changed((0, "__:".into()))),
            (&["pmessage", PATTERN, "__keyevent@0__:keymiss", "a"], Heard::Nothing),
            (&["pmessage", PATTERN, "__keyevent@x__:del", "a"], Heard::Strange),
            (&["pmessage", PATTERN, "other", "a"], Heard::Strange),
            (&["message", "a"], Heard::Strange),
        ] {
            assert_eq!(heard(&message(parts)), expected, "{parts:?}");
        }
        assert_eq!(heard(&Value::Int(1)), Heard::Strange);
    }

    /// Keys of databases that are left behind, and our own, are passed over; of a database without a place one hears.
    #[test]
    fn what_is_wanted() {
        let options = Options { left: vec![2], ..Options::default() };
        let of = |db, name: &'static str| wanted(&(db, name.into()), &options);
        assert!(of(0, "a").unwrap());
        assert!(!of(0, "regrow:migrate:r:{0}:w0").unwrap() && !of(2, "a").unwrap());
        assert!(of(1, "a").unwrap_err().to_string().contains("database 1"));
    }
}
