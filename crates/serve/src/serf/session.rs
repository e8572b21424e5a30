//! One client: reads requests, does them in order, answers.

use super::request::{self, Header, KeyVerb, Query, Request};
use super::stream::{self, Records};
use super::{Door, allowed, body};
use crate::access::{Caller, From, Outcome, Peer, Visit};
use crate::membership::http::own_tags;
use crate::membership::{MembershipError, Roll};
use regex::{Regex, RegexBuilder};
use regrow_control::access::Identity;
use regrow_gossip::limits::FILTER_REGEX_BYTES_MAX;
use regrow_gossip::wire::{Filter, Key, Reader, Tags, WireError, Writer};
use regrow_gossip::{Choice, Input, KeyOp, Member, QueryRequest, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Largest request, with what has come of the next.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Records waiting for a slow client.
const RECORDS_WAITING: usize = 512;
/// Streams and monitors of one client.
const STREAMS_MAX: usize = 64;
/// The only version of the protocol that there is.
const VERSION: u64 = 1;
/// Longest wait for a client to take what it was sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a client is let go.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("its connection broke")]
    Io(#[from] std::io::Error),
    #[error("it sent what is no request")]
    Wire(#[from] WireError),
    #[error("a request of more than {REQUEST_BYTES_MAX} bytes")]
    Length,
    #[error("{0}")]
    Protocol(&'static str),
}

/// Serves a client to its end.
pub(super) async fn run(stream: TcpStream, peer: Peer, door: Door) -> Result<(), SessionError> {
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let (records, mut waiting) = mpsc::channel::<Vec<u8>>(RECORDS_WAITING);
    let caller = door.guard.connected(&peer);
    let mut session = Session {
        door,
        peer,
        caller,
        records,
        version: 0,
        authorised: false,
        streams: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let writing = async move {
        while let Some(record) = waiting.recv().await {
            match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&record)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(SessionError::Io(error)),
                Err(_) => return Err(SessionError::Protocol("it takes nothing")),
            }
        }
        Ok(())
    };
    let reading = async move {
        let ended = session.read(reader).await;
        // The last answer is still to be written: the writer ends when nobody can send any more.
        drop(session);
        ended
    };
    let (read, written) = tokio::join!(reading, writing);
    read.and(written)
}

struct Session {
    door: Door,
    peer: Peer,
    caller: Arc<Caller>,
    records: Records,
    version: u64,
    authorised: bool,
    streams: BTreeMap<u64, AbortHandle>,
    /// Ends with the session.
    tasks: JoinSet<()>,
}

/// What an answer has beside its header.
type Answer = Result<Option<Writer>, String>;

impl Session {
    async fn read(&mut self, mut reader: OwnedReadHalf) -> Result<(), SessionError> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let mut from = 0;
            loop {
                let mut request = Reader::new(&bytes[from..]);
                match request::read(&mut request) {
                    Ok((header, body)) => {
                        from += request.position();
                        self.handle(header, body).await?;
                    }
                    Err(WireError::Truncated) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            bytes.drain(..from);
            if bytes.len() >= REQUEST_BYTES_MAX {
                return Err(SessionError::Length);
            }
            let read = tokio::select! {
                read = reader.read_buf(&mut bytes) => read?,
                () = self.records.closed() => return Ok(()),
                _ = self.caller.ended() => return Err(SessionError::Protocol("its credentials have ended")),
            };
            if read == 0 {
                return Ok(());
            }
        }
    }

    async fn handle(&mut self, header: Header, request: Request) -> Result<(), SessionError> {
        let seq = header.seq;
        let refused = match &request {
            Request::Handshake { .. } => None,
            _ if self.version == 0 => Some("Handshake required"),
            Request::Unknown => Some("Unsupported command"),
            _ => None,
        };
        if let Some(why) = refused {
            self.send(body::header(seq, why)).await;
            return Err(SessionError::Protocol(why));
        }
        let locked = self.door.auth.is_some() && !self.authorised && self.door.guard.is_open();
        if locked && !matches!(request, Request::Handshake { .. } | Request::Auth { .. }) {
            self.send(body::header(seq, "Authentication required")).await;
            return Ok(());
        }
        let visit = Visit::new(self.caller.clone(), From::of("rpc", &self.peer), self.door.guard.audit().clone());
        let (asked, what) = (allowed::asked(&request), allowed::what(&request));
        if let Some(asked) = asked
            && let Err(why) = visit.may(&asked, "rpc", || what.clone())
        {
            self.refuse(seq, &allowed::text(&why), allowed::has_body(&request)).await;
            return Ok(());
        }
        let is_change = asked.as_ref().is_some_and(allowed::is_change);
        match request {
            // Their answer goes out before anything that follows under the same number.
            Request::Stream { filter } => self.stream(seq, &filter).await,
            Request::Monitor { level } => self.monitor(seq, &level).await,
            Request::Query(query) => {
                visit.tell("rpc", what, Outcome::Done(None));
                self.query(seq, query).await;
            }
            Request::Key { op, key } => {
                visit.tell("rpc", what, Outcome::Done(None));
                self.keys(seq, op, &key).await;
            }
            other => {
                let has_body = allowed::has_body(&other);
                let answer = self.answer(other).await;
                if is_change {
                    let outcome =
                        answer.as_ref().map_or_else(|why| Outcome::Failed(why.clone()), |_| Outcome::Done(None));
                    visit.tell("rpc", what, outcome);
                }
                match answer {
                    Err(error) => self.refuse(seq, &error, has_body).await,
                    answer => self.reply(seq, answer).await,
                }
            }
        }
        Ok(())
    }

    /// An error; behind it an empty body, where clients wait for one.
    async fn refuse(&self, seq: u64, error: &str, has_body: bool) {
        let mut writer = body::header(seq, error);
        if has_body && error != allowed::UNAUTHENTICATED {
            writer.map(0);
        }
        self.send(writer).await;
    }

    async fn send(&self, writer: Writer) {
        let _ = self.records.send(writer.finish()).await;
    }

    async fn reply(&self, seq: u64, answer: Answer) {
        let writer = match answer {
            Ok(None) => body::header(seq, ""),
            Ok(Some(follows)) => {
                let mut writer = body::header(seq, "");
                writer.plain(&follows.finish());
                writer
            }
            Err(error) => body::header(seq, &error),
        };
        self.send(writer).await;
    }

    async fn answer(&mut self, request: Request) -> Answer {
        let membership = self.door.membership.clone();
        let text = |error: MembershipError| error.to_string();
        let mut writer = Writer::new();
        match request {
            Request::Handshake { .. } if self.version != 0 => return Err("Handshake already performed".to_owned()),
            Request::Handshake { version } if version > VERSION => return Err("Unsupported IPC version".to_owned()),
            Request::Handshake { .. } => self.version = VERSION,
            Request::Auth { key } => {
                let fits = self.door.auth.as_ref().map(|auth| same(auth.as_bytes(), key.as_bytes()));
                let caller = match fits {
                    Some(true) if !self.door.guard.is_open() => Some(Caller::of(Identity::RpcKey)),
                    Some(false) | None if !self.door.guard.is_open() => Some(self.door.guard.holder(&key)),
                    Some(false) => None,
                    _ => Some(self.caller.clone()),
                };
                let believed = caller.filter(|caller| caller.identity().is_some());
                if let Some(caller) = believed {
                    self.caller = caller;
                } else {
                    tracing::debug!(peer = ?self.peer.origin, "an RPC client showed another key than --rpc-auth");
                    return Err("Invalid authentication token".to_owned());
                }
                self.authorised = true;
            }
            Request::Event { name, payload, coalesce } => {
                membership.command(Input::UserEvent { name, payload, coalesce }).await.map_err(text)?;
            }
            Request::ForceLeave { node, prune } => {
                membership.command(Input::ForceLeave { name: node, prune }).await.map_err(text)?;
            }
            Request::Join { existing, replay } => {
                let joining = membership.join(existing, !replay).await.map_err(text)?;
                if let (0, Some((address, why))) = (joining.joined.len(), joining.failed.first()) {
                    return Err(format!("{address}: {why}"));
                }
                body::number(&mut writer, "Num", joining.joined.len() as u64);
                return Ok(Some(writer));
            }
            Request::Members { name, status, tags } => {
                let roll = membership.roll().await.map_err(text)?;
                body::members(&mut writer, &filtered(roll.members, &name, &status, &tags)?);
                return Ok(Some(writer));
            }
            Request::Tags { set, delete } => {
                let mut tags = own_tags(&membership.roll().await.map_err(text)?);
                tags.retain(|name, _| !delete.contains(name));
                tags.extend(set);
                membership.command(Input::SetTags(tags)).await.map_err(text)?;
            }
            Request::Stop { seq } => {
                if let Some(task) = self.streams.remove(&seq) {
                    task.abort();
                }
            }
            Request::Leave => membership.leave().await.map_err(text)?,
            Request::Respond { id, payload } => {
                membership.command(Input::Reply { id, payload }).await.map_err(text)?;
            }
            Request::Stats => {
                let roll = membership.roll().await.map_err(text)?;
                body::stats(&mut writer, &stats(&roll));
                return Ok(Some(writer));
            }
            Request::Coordinate { node } => {
                let coordinate = membership.coordinate(node).await.map_err(text)?;
                body::coordinate(&mut writer, coordinate.as_ref());
                return Ok(Some(writer));
            }
            Request::Stream { .. }
            | Request::Monitor { .. }
            | Request::Query(_)
            | Request::Key { .. }
            | Request::Unknown => {}
        }
        Ok(None)
    }

    /// Makes room for a stream under a number.
    fn begin(&mut self, seq: u64, taken: &str) -> Result<(), String> {
        self.streams.retain(|_, task| !task.is_finished());
        while self.tasks.try_join_next().is_some() {}
        if self.streams.contains_key(&seq) {
            return Err(taken.to_owned());
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(format!("more than {STREAMS_MAX} streams on one connection"));
        }
        Ok(())
    }

    async fn stream(&mut self, seq: u64, filter: &str) {
        let begun = self.begin(seq, "Stream with given sequence exists");
        let choices =
            begun.and_then(|()| Choice::parse_list(filter).map_err(|error| format!("Invalid event filter: {error}")));
        match choices {
            Err(error) => self.reply(seq, Err(error)).await,
            Ok(choices) => {
                let happenings = self.door.membership.happenings();
                self.reply(seq, Ok(None)).await;
                let task = self.tasks.spawn(stream::events(seq, choices, happenings, self.records.clone()));
                self.streams.insert(seq, task);
            }
        }
    }

    async fn monitor(&mut self, seq: u64, level: &str) {
        let level = match level.to_ascii_uppercase().as_str() {
            "TRACE" => Ok(tracing::Level::TRACE),
            "DEBUG" => Ok(tracing::Level::DEBUG),
            "" | "INFO" => Ok(tracing::Level::INFO),
            "WARN" => Ok(tracing::Level::WARN),
            "ERR" | "ERROR" => Ok(tracing::Level::ERROR),
            _ => Err(format!("Unknown log level: {level}")),
        };
        match self.begin(seq, "Monitor already exists").and(level) {
            Err(error) => self.reply(seq, Err(error)).await,
            Ok(level) => {
                let lines = self.door.membership.log();
                self.reply(seq, Ok(None)).await;
                let task = self.tasks.spawn(stream::log(seq, level, lines, self.records.clone()));
                self.streams.insert(seq, task);
            }
        }
    }

    async fn query(&mut self, seq: u64, query: Query) {
        if let Err(error) = self.begin(seq, "Stream with given sequence exists") {
            return self.reply(seq, Err(error)).await;
        }
        let nodes = (!query.nodes.is_empty()).then_some(Filter::Nodes(query.nodes));
        let tags = query.tags.into_iter().map(|(tag, expr)| Filter::Tag { tag, expr });
        let request = QueryRequest {
            token: 0,
            name: query.name,
            payload: query.payload,
            filters: nodes.into_iter().chain(tags).collect(),
            ack: query.ack,
            relay_factor: query.relay_factor,
            timeout: (query.timeout_ns > 0).then(|| Duration::from_nanos(query.timeout_ns)),
        };
        match self.door.membership.query(request).await {
            Err(error) => self.reply(seq, Err(error.to_string())).await,
            Ok(answers) => {
                self.reply(seq, Ok(None)).await;
                let task = self.tasks.spawn(stream::answers(seq, answers, self.records.clone()));
                self.streams.insert(seq, task);
            }
        }
    }

    async fn keys(&mut self, seq: u64, verb: KeyVerb, key: &str) {
        let key = || Key::from_base64(key).map_err(|error| error.to_string());
        let op = match verb {
            KeyVerb::Install => key().map(KeyOp::Install),
            KeyVerb::Use => key().map(KeyOp::Use),
            KeyVerb::Remove => key().map(KeyOp::Remove),
            KeyVerb::List => Ok(KeyOp::List),
        };
        let report = match op {
            Ok(op) => self.door.membership.keys(op, 0).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        // The report is sent with the error: it says who refused and why.
        let (error, report) = match report {
            Ok(report) => (body::keys_error(&report), report),
            Err(error) => (error, Default::default()),
        };
        let mut writer = body::header(seq, &error);
        body::keys(&mut writer, &report);
        self.send(writer).await;
    }
}

/// Compares in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn filtered(members: Vec<Member>, name: &str, status: &str, tags: &Tags) -> Result<Vec<Member>, String> {
    let whole = |expr: &str| -> Result<Option<Regex>, String> {
        if expr.is_empty() {
            return Ok(None);
        }
        let built = RegexBuilder::new(&format!("^(?:{expr})$")).size_limit(FILTER_REGEX_BYTES_MAX).build();
        built.map(Some).map_err(|error| format!("Failed to compile regex: {error}"))
    };
    let (name, status) = (whole(name)?, whole(status)?);
    let tags = tags.iter().map(|(tag, expr)| Ok((tag, whole(expr)?))).collect::<Result<Vec<_>, String>>()?;
    let fits = |regex: &Option<Regex>, text: &str| regex.as_ref().is_none_or(|regex| regex.is_match(text));
    let wanted = members.into_iter().filter(|member| {
        fits(&name, &member.name)
            && fits(&status, member.status.as_str())
            && tags.iter().all(|(tag, regex)| fits(regex, member.tags.get(*tag).map_or("", String::as_str)))
    });
    Ok(wanted.collect())
}

fn stats(roll: &Roll) -> BTreeMap<&'static str, Tags> {
    let table = |rows: &[(&str, String)]| -> Tags {
        rows.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let count = |status| roll.members.iter().filter(|member| member.status == status).count().to_string();
    let stats = &roll.stats;
    let serf = table(&[
        ("members", stats.members.to_string()),
        ("failed", count(Status::Failed)),
        ("left", count(Status::Left)),
        ("health_score", stats.health_score.to_string()),
        ("member_time", stats.clocks[0].to_string()),
        ("event_time", stats.clocks[1].to_string()),
        ("query_time", stats.clocks[2].to_string()),
        ("intent_queue", stats.queued[1].to_string()),
        ("query_queue", stats.queued[2].to_string()),
        ("event_queue", stats.queued[3].to_string()),
        ("encrypted", roll.encrypted.to_string()),
    ]);
    let runtime = table(&[
        ("os", std::env::consts::OS.to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
        ("version", format!("regrow {}", env!("CARGO_PKG_VERSION"))),
        ("cpu_count", std::thread::available_parallelism().map_or(1, usize::from).to_string()),
    ]);
    let agent = table(&[("name", roll.name.clone())]);
    [("agent", agent), ("runtime", runtime), ("serf", serf), ("tags", own_tags(roll))].into()
}
