//! A client's commands: read, taken apart, and sent where they belong.
//!
//! Most go to the shared connections at once, as many as there are. A command that needs a connection of its own, or
//! changes how the client is spoken to, waits until all before it have been answered, and those after it wait for it: that
//! is how one server would do it.

mod blocking;
mod local;
mod own;
mod subscribe;
mod transaction;

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::slot::Slot;

use super::backend::Backend;
use super::client::Client;
use super::keys::{Words, slot_of};
use super::link::Entry;
use super::lockout;
use super::merge::{Gather, Merge, cursor};
use super::request::{Front, Parser, RequestLimits, STRANGER};
use super::split::{Part, split};
use super::table::{Kind, Local, Spec, Table, Timeout};
use super::wire::{Proto, Reader, Writer};
use super::worker::Worker;

use subscribe::Subscriptions;
use transaction::{Queue, Watched};

/// Room made for the first read from a client, and the most for later ones.
const READ_BYTES: Range<usize> = 4 << 10..64 << 10;
/// Bytes of a client's next commands that are read while one of its commands blocks.
const AHEAD_BYTES_MAX: usize = 64 << 10;

pub(crate) const CROSS_SLOT: &[u8] = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";
const NO_AUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";

/// A client and all that is known of it.
pub(super) struct Session {
    pub(super) client: Rc<Client>,
    pub(super) worker: Rc<Worker>,
    pub(super) backend: Rc<Backend>,
    reader: Reader,
    input: BytesMut,
    /// Bytes of `input` that the thread has taken into account.
    counted: usize,
    read_bytes: usize,
    welcome: bool,
    name: Bytes,
    address: String,
    here: String,
    since: Instant,
    queue: Option<Queue>,
    watched: Option<Watched>,
    subscriptions: Subscriptions,
    last: Rc<Cell<bool>>,
}

/// A command that waits until all before it have been answered.
struct Alone {
    request: Bytes,
    places: Vec<Range<usize>>,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Local(Local),
    Blocking(Slot, Timeout, bool),
}

/// Why a client's commands end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is gone, or was cut off.
    Gone,
    /// It gets its answers first.
    Bye,
}

/// Serves a client to its end.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream) {
    let address = stream.peer_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let here = stream.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let _ = stream.set_nodelay(true);
    let halves: Option<(Reader, Writer)> = match &worker.doorway.tls {
        None => {
            let (reader, writer) = stream.into_split();
            Some((Box::new(reader), Box::new(writer)))
        }
        Some(acceptor) => match timeout(worker.limits.login, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let (reader, writer) = tokio::io::split(stream);
                Some((Box::new(reader), Box::new(writer)))
            }
            _ => None,
        },
    };
    if let Some((reader, writer)) = halves {
        let id = worker.doorway.next_id.fetch_add(1, Relaxed);
        let client = Client::new(id, Rc::clone(&worker));
        let last = Rc::new(Cell::new(false));
        let writing = tokio::task::spawn_local({
            let (client, last) = (Rc::clone(&client), Rc::clone(&last));
            async move { client.write(writer, last).await }
        });
        let mut session = Session {
            welcome: worker.doorway.password.is_none(),
            backend: worker.backend(),
            subscriptions: Subscriptions::new(Rc::clone(&client)),
            client: Rc::clone(&client),
            worker: Rc::clone(&worker),
            reader,
            input: BytesMut::new(),
            counted: 0,
            read_bytes: READ_BYTES.start,
            name: Bytes::new(),
            address,
            here,
            since: Instant::now(),
            queue: None,
            watched: None,
            last,
        };
        if session.run().await == End::Bye {
            client.drained().await;
            session.last.set(true);
            client.finish();
            // A client that does not take its last answers is let go with the others that are slow: when it says nothing.
            let _ = timeout(worker.limits.login, writing).await;
        }
        worker.buffer(0, session.counted);
        client.close();
    }
    worker.metrics.clients.fetch_sub(1, Relaxed);
}

impl Session {
    async fn run(&mut self) -> End {
        let mut parser = Parser::default();
        loop {
            if self.take(&mut parser).await.is_err() {
                return End::Bye;
            }
            if self.client.is_closed() {
                return End::Gone;
            }
            if self.last.get() {
                return End::Bye;
            }
            let read = match self.patience() {
                None => self.read().await,
                Some(patience) => match timeout(patience, self.read()).await {
                    Ok(read) => read,
                    Err(_) => return End::Bye,
                },
            };
            match read {
                // What was sent before the end is answered, if there is still somebody.
                Ok(0) | Err(_) => return End::Bye,
                Ok(_) => {}
            }
        }
    }

    /// How long the client may say nothing.
    fn patience(&self) -> Option<std::time::Duration> {
        if !self.welcome {
            return Some(self.worker.limits.login.saturating_sub(self.since.elapsed()));
        }
        self.worker.limits.idle.filter(|_| self.subscriptions.is_empty())
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        if self.input.is_empty() && self.input.capacity() < READ_BYTES.start / 4 {
            self.input = BytesMut::with_capacity(self.read_bytes);
        }
        self.input.reserve(self.read_bytes.max(self.input.len() / 2));
        let count = tokio::select! {
            biased;
            count = self.reader.read_buf(&mut self.input) => count?,
            () = self.client.gone() => 0,
        };
        if count >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES.end);
        }
        self.account();
        if self.worker.is_full() && self.input.len() > READ_BYTES.end {
            self.worker.metrics.cut_off.fetch_add(1, Relaxed);
            self.client.answer(b"-ERR regrow: the proxy holds as much as it may for all clients\r\n");
            return Ok(0);
        }
        Ok(count)
    }

    fn account(&mut self) {
        self.worker.buffer(self.input.len(), self.counted);
        self.counted = self.input.len();
    }

    /// Takes all whole commands from the input. `Err`: the client does not speak the protocol.
    async fn take(&mut self, parser: &mut Parser) -> Result<(), ()> {
        loop {
            if !self.client.has_room() {
                self.client.room().await;
            }
            if self.worker.is_paused() {
                self.worker.open().await;
            }
            if self.backend.is_retired() {
                self.backend = self.worker.backend();
            }
            if self.client.is_closed() || self.last.get() {
                return Ok(());
            }
            let parsed = parser.parse(&self.input, self.request_limits());
            let alone = match parsed {
                Ok(Front::Half) => {
                    self.account();
                    return Ok(());
                }
                Ok(Front::Empty(length)) => {
                    self.input.advance(length);
                    None
                }
                Ok(Front::Whole(length)) => {
                    let request = self.input.split_to(length).freeze();
                    self.dispatch(request, parser.words())
                }
                Ok(Front::Inline(length, request)) => {
                    self.input.advance(length);
                    let mut inner = Parser::default();
                    match inner.parse(&request, self.request_limits()) {
                        Ok(Front::Whole(_)) => self.dispatch(request.freeze(), inner.words()),
                        _ => None,
                    }
                }
                Err(error) => {
                    self.worker.metrics.bad_requests.fetch_add(1, Relaxed);
                    self.client.answer(format!("-ERR Protocol error: {error}\r\n").as_bytes());
                    return Err(());
                }
            };
            if let Some(alone) = alone {
                self.client.drained().await;
                self.alone(alone).await;
            }
        }
    }

    fn request_limits(&self) -> RequestLimits {
        if self.welcome {
            let limits = &self.worker.limits;
            RequestLimits {
                bytes_max: limits.request_bytes_max.min(self.backend.opened().word_bytes_max.saturating_add(64 << 10)),
                words_max: limits.request_words_max,
            }
        } else {
            STRANGER
        }
    }

    /// Sends a command on or answers it, or says that it has to wait for those before it.
    fn dispatch(&mut self, request: Bytes, places: &[Range<usize>]) -> Option<Alone> {
        self.worker.count();
        let words = Words { bytes: &request, places };
        let name = words.get(0).unwrap_or_default();
        let opened = Rc::clone(&self.backend);
        let table: &Table = &opened.opened().table;
        let spec = match table.find(name).filter(|_| self.welcome) {
            Some(spec) => spec,
            None => return self.unknown(&request, places),
        };
        if !spec.takes(words.len()) {
            let name = name.to_ascii_lowercase();
            return self.refuse(&wrong_number(&name));
        }
        let kind = spec.kind_for(words.get(1));
        if matches!(spec.kind, Kind::Container(_)) {
            let user = opened.opened().dialer.credentials.user.as_deref();
            if let Some(why) = lockout::refusal(words, user) {
                return self.refuse(format!("-ERR regrow: {why}\r\n").as_bytes());
            }
        }
        if self.subscriptions.binds(self.client.proto.get()) && !local::is_for_subscribers(kind) {
            return self.refuse(&local::only_for_subscribers(name));
        }
        if self.queue.is_some() && !local::acts_in_queue(kind) {
            self.queue_up(spec, kind, request.clone(), words);
            return None;
        }
        self.carry(spec, kind, &request, places)
    }

    fn carry(&mut self, spec: &Spec, kind: Kind, request: &Bytes, places: &[Range<usize>]) -> Option<Alone> {
        let words = Words { bytes: request, places };
        let cluster = self.backend.opened().cluster;
        match kind {
            Kind::Keyed => match slot_of(spec.keys, words) {
                Ok(slot) => self.send(slot.unwrap_or(ANY), spec.readonly, request.clone()),
                Err(_) if !cluster => self.send(ANY, spec.readonly, request.clone()),
                Err(_) => return self.refuse(CROSS_SLOT),
            },
            Kind::Split(merge, step) => match slot_of(spec.keys, words) {
                Ok(slot) => self.send(slot.unwrap_or(ANY), spec.readonly, request.clone()),
                Err(_) if !cluster => self.send(ANY, spec.readonly, request.clone()),
                Err(_) => match split(words, step) {
                    Some(parts) => self.send_parts(merge, parts, spec.readonly),
                    None => return self.refuse(&wrong_number(words.get(0).unwrap_or_default())),
                },
            },
            Kind::All(merge) => {
                let shards = self.backend.shards();
                if shards.len() < 2 && merge != Merge::Info {
                    self.send(shards.first().copied().unwrap_or(ANY), spec.readonly, request.clone());
                } else {
                    let part = |slot| Part { slot, request: request.clone(), places: Vec::new() };
                    self.send_parts(merge, shards.into_iter().map(part).collect(), spec.readonly);
                }
            }
            Kind::Scan => return self.scan(request, words),
            Kind::Blocking(timeout) => {
                if timeout == Timeout::Block && !blocking::blocks(words) {
                    return self.carry(spec, Kind::Keyed, request, places);
                }
                let slot = match slot_of(spec.keys, words) {
                    Ok(slot) => slot.unwrap_or(ANY),
                    Err(_) if !cluster => ANY,
                    Err(_) => return self.refuse(CROSS_SLOT),
                };
                let what = What::Blocking(slot, timeout, spec.readonly);
                return Some(Alone { request: request.clone(), places: places.to_vec(), what });
            }
            Kind::Local(local) => return self.local(local, request, places),
            Kind::Refused(why) => {
                let name = String::from_utf8_lossy(words.get(0).unwrap_or_default()).to_uppercase();
                return self.refuse(format!("-ERR regrow: {name} is not carried by the proxy: {why}\r\n").as_bytes());
            }
            Kind::Container(_) => return self.refuse(b"-ERR regrow: the command cannot be carried\r\n"),
        }
        None
    }

    fn send(&self, slot: Slot, readonly: bool, request: Bytes) {
        let number = self.client.expect();
        self.backend.send(self.entry(number, 0, slot, readonly, request));
    }

    fn send_parts(&self, merge: Merge, parts: Vec<Part>, readonly: bool) {
        if parts.is_empty() {
            self.client.answer(b"-CLUSTERDOWN regrow: no master serves any slot\r\n");
            return;
        }
        let (mut places, mut requests) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for part in parts {
            places.push(part.places);
            requests.push((part.slot, part.request));
        }
        let number = self.client.expect_parts(Gather::new(merge, requests.len(), places), requests.len());
        for (part, (slot, request)) in requests.into_iter().enumerate() {
            self.backend.send(self.entry(number, part as u32, slot, readonly, request));
        }
    }

    fn entry(&self, number: u64, part: u32, slot: Slot, readonly: bool, request: Bytes) -> Entry {
        Entry {
            client: Rc::clone(&self.client),
            number,
            part,
            slot,
            proto: self.client.proto.get(),
            readonly,
            redirections: 0,
            since: None,
            request,
        }
    }

    /// One step of a scan: of the server that the cursor names.
    fn scan(&mut self, request: &Bytes, words: Words<'_>) -> Option<Alone> {
        let shards = self.backend.shards();
        let servers = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        if !self.backend.opened().cluster {
            self.send(ANY, true, request.clone());
            return None;
        }
        let Some((server, place)) = words.get(1).and_then(|text| cursor(text, servers)) else {
            return self.refuse(b"-ERR invalid cursor\r\n");
        };
        let place = place.to_string();
        let rest = words.from(2);
        let asked = [words.get(0).unwrap_or_default(), place.as_bytes()].into_iter().chain(rest);
        let request = super::request::encode(asked).freeze();
        let part = Part { slot: shards[server as usize], request, places: Vec::new() };
        self.send_parts(Merge::Scan(server, servers), vec![part], true);
        None
    }

    fn refuse(&mut self, answer: &[u8]) -> Option<Alone> {
        self.worker.metrics.refused.fetch_add(1, Relaxed);
        if let Some(queue) = &mut self.queue {
            queue.spoilt = true;
        }
        self.client.answer(answer);
        None
    }

    /// A command that is not in the table, or anything from somebody who has not said the password.
    fn unknown(&mut self, request: &Bytes, places: &[Range<usize>]) -> Option<Alone> {
        let words = Words { bytes: request, places };
        let name = words.get(0).unwrap_or_default();
        if !self.welcome {
            for (allowed, local) in
                [("AUTH", Local::Auth), ("HELLO", Local::Hello), ("QUIT", Local::Quit), ("RESET", Local::Reset)]
            {
                if words.is(0, allowed) && (local != Local::Auth || words.len() > 1) {
                    return self.local(local, request, places);
                }
            }
            return self.refuse(NO_AUTH);
        }
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:") {
            self.worker.metrics.bad_requests.fetch_add(1, Relaxed);
            self.last.set(true);
            return None;
        }
        let text = |word: &[u8]| {
            let word = &word[..word.len().min(128)];
            String::from_utf8_lossy(word).replace(['\r', '\n'], " ")
        };
        let mut arguments = String::new();
        for word in words.from(1) {
            if arguments.len() >= 128 {
                break;
            }
            arguments += &format!("'{}' ", text(word));
        }
        let name = text(name);
        self.refuse(format!("-ERR unknown command '{name}', with args beginning with: {arguments}\r\n").as_bytes())
    }

    async fn alone(&mut self, alone: Alone) {
        if self.client.is_closed() {
            return;
        }
        if self.worker.is_paused() {
            self.worker.open().await;
        }
        if self.backend.is_retired() {
            self.backend = self.worker.backend();
        }
        match alone.what {
            What::Local(local) => self.local_alone(local, &alone.request, &alone.places).await,
            What::Blocking(slot, timeout, readonly) => {
                self.block(slot, timeout, readonly, &alone.request, &alone.places).await;
            }
        }
    }

    pub(super) fn is_three(&self) -> bool {
        self.client.proto.get() == Proto::Three
    }
}

/// The slot of commands without keys. All go to one server, so that a message published is counted where subscribers are.
pub(crate) const ANY: Slot = Slot::FIRST;

fn wrong_number(name: &[u8]) -> Vec<u8> {
    let name = String::from_utf8_lossy(name).replace(['\r', '\n'], " ").to_lowercase();
    format!("-ERR wrong number of arguments for '{name}' command\r\n").into_bytes()
}
