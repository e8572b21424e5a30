//! Commands that the proxy answers itself.

use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{BufMut, Bytes, BytesMut};

use crate::proxy::backend::Backend;
use crate::proxy::frame::int;
use crate::proxy::keys::Words;
use crate::proxy::merge::bulk;
use crate::proxy::request::encode;
use crate::proxy::table::{Kind, Local};
use crate::proxy::wire::Proto;
use crate::proxy::worker::Busy;
use crate::slot::Slot;

use super::own::Course;
use super::subscribe::Family;
use super::{Alone, Session, What};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Commands that act at once between `MULTI` and `EXEC`.
pub(super) fn acts_in_queue(kind: Kind) -> bool {
    matches!(kind, Kind::Local(Local::Exec | Local::Discard | Local::Multi | Local::Watch | Local::Quit | Local::Reset))
}

/// What a subscriber may say in version 2 of the protocol.
pub(super) fn is_for_subscribers(kind: Kind) -> bool {
    use Local::{PSubscribe, PUnsubscribe, Ping, Quit, Reset, SSubscribe, SUnsubscribe, Subscribe, Unsubscribe};
    matches!(
        kind,
        Kind::Local(
            Ping | Quit | Reset | Subscribe | PSubscribe | SSubscribe | Unsubscribe | PUnsubscribe | SUnsubscribe
        )
    )
}

pub(super) fn only_for_subscribers(name: &[u8]) -> Vec<u8> {
    let name = String::from_utf8_lossy(name).to_lowercase();
    format!(
        "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context\r\n"
    )
    .into_bytes()
}

impl Session {
    /// Answers, or says that the command has to wait for those before it.
    pub(super) fn local(&mut self, local: Local, request: &Bytes, places: &[Range<usize>]) -> Option<Alone> {
        let words = Words { bytes: request, places };
        match local {
            Local::Ping => self.ping(words),
            Local::Echo => self.client.answer(&bulk(words.get(1).unwrap_or_default())),
            Local::Quit => {
                self.client.answer(b"+OK\r\n");
                self.last.set(true);
            }
            Local::Multi => self.multi(),
            Local::Client => self.client_command(words),
            Local::Select => {
                if words.get(1) == Some(b"0") {
                    self.client.answer(b"+OK\r\n");
                } else {
                    self.client.answer(b"-ERR regrow: the proxy carries database 0 only\r\n");
                }
            }
            Local::Auth => self.auth(words),
            _ => {
                let (request, places) = (request.clone(), places.to_vec());
                return Some(Alone { request, places, what: What::Local(local) });
            }
        }
        None
    }

    /// Does what had to wait.
    pub(super) async fn local_alone(&mut self, local: Local, request: &Bytes, places: &[Range<usize>]) {
        let words = Words { bytes: request, places };
        match local {
            Local::Hello => self.hello(words),
            Local::Reset => {
                self.queue = None;
                self.unwatch().await;
                self.subscriptions.clear();
                self.client.proto.set(Proto::Two);
                self.name = Bytes::new();
                self.welcome = self.worker.doorway.password.is_none();
                self.client.answer(b"+RESET\r\n");
            }
            Local::Exec => self.exec().await,
            Local::Discard => self.discard().await,
            Local::Watch => self.watch(request, words).await,
            Local::Unwatch => {
                self.unwatch().await;
                self.client.answer(b"+OK\r\n");
            }
            Local::Wait => self.wait(request).await,
            Local::Subscribe => self.subscribe(Family::Channel, words).await,
            Local::PSubscribe => self.subscribe(Family::Pattern, words).await,
            Local::SSubscribe => self.subscribe(Family::Shard, words).await,
            Local::Unsubscribe => self.unsubscribe(Family::Channel, words).await,
            Local::PUnsubscribe => self.unsubscribe(Family::Pattern, words).await,
            Local::SUnsubscribe => self.unsubscribe(Family::Shard, words).await,
            Local::Ping | Local::Echo | Local::Quit | Local::Multi | Local::Client | Local::Select | Local::Auth => {}
        }
    }

    fn ping(&self, words: Words<'_>) {
        match words.get(1) {
            _ if words.len() > 2 => {
                self.client.answer(b"-ERR wrong number of arguments for 'ping' command\r\n");
            }
            text if self.subscriptions.binds(self.client.proto.get()) => {
                let mut answer = BytesMut::from(&b"*2\r\n$4\r\npong\r\n"[..]);
                answer.put_slice(&bulk(text.unwrap_or_default()));
                self.client.answer(&answer);
            }
            Some(text) => self.client.answer(&bulk(text)),
            None => self.client.answer(b"+PONG\r\n"),
        }
    }

    fn auth(&mut self, words: Words<'_>) {
        let (user, password) = match words.len() {
            2 => (&b"default"[..], words.get(1)),
            3 => (words.get(1).unwrap_or_default(), words.get(2)),
            _ => {
                self.client.answer(b"-ERR syntax error\r\n");
                return;
            }
        };
        if self.worker.doorway.password.is_none() && words.len() == 2 {
            self.client.answer(
                b"-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                  configuration is correct?\r\n",
            );
        } else if self.lets_in(user, password.unwrap_or_default()) {
            self.client.answer(b"+OK\r\n");
        } else {
            self.client.answer(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        }
    }

    fn lets_in(&mut self, user: &[u8], password: &[u8]) -> bool {
        let good = match &self.worker.doorway.password {
            Some(secret) => secret.is(password) && user == b"default",
            None => user == b"default",
        };
        if good {
            self.welcome = true;
        } else {
            self.worker.metrics.bad_passwords.fetch_add(1, Relaxed);
        }
        good
    }

    fn hello(&mut self, words: Words<'_>) {
        let proto = match words.get(1) {
            None => self.client.proto.get(),
            Some(b"2") => Proto::Two,
            Some(b"3") => Proto::Three,
            Some(_) => {
                self.client.answer(b"-NOPROTO unsupported protocol version\r\n");
                return;
            }
        };
        let mut name = None;
        let mut at = 2;
        while at < words.len() {
            if words.is(at, "AUTH") && at + 2 < words.len() {
                if !self.lets_in(words.get(at + 1).unwrap_or_default(), words.get(at + 2).unwrap_or_default()) {
                    self.client.answer(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
                    return;
                }
                at += 3;
            } else if words.is(at, "SETNAME") && at + 1 < words.len() {
                name = words.get(at + 1);
                at += 2;
            } else {
                self.client.answer(b"-ERR Syntax error in HELLO option\r\n");
                return;
            }
        }
        if !self.welcome {
            self.client.answer(
                b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                  <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                  same time\r\n",
            );
            return;
        }
        if let Some(name) = name {
            if !is_name(name) {
                self.client.answer(BAD_NAME);
                return;
            }
            self.name = Bytes::copy_from_slice(name);
        }
        if proto != self.client.proto.get() && !self.subscriptions.is_empty() {
            self.client.answer(b"-ERR regrow: unsubscribe before changing the protocol version\r\n");
            return;
        }
        self.client.proto.set(proto);
        let version = self.backend.opened().version.clone();
        let mut answer = BytesMut::from(if self.is_three() { &b"%7\r\n"[..] } else { b"*14\r\n" });
        for (key, value) in [("server", "redis"), ("version", version.as_str())] {
            answer.put_slice(&bulk(key.as_bytes()));
            answer.put_slice(&bulk(value.as_bytes()));
        }
        let number = if self.is_three() { 3 } else { 2 };
        answer.put_slice(format!("$5\r\nproto\r\n:{number}\r\n$2\r\nid\r\n:{}\r\n", self.client.id).as_bytes());
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            answer.put_slice(&bulk(key.as_bytes()));
            answer.put_slice(&bulk(value.as_bytes()));
        }
        answer.put_slice(b"$7\r\nmodules\r\n*0\r\n");
        self.client.answer(&answer);
    }

    fn client_command(&mut self, words: Words<'_>) {
        let none: &[u8] = if self.is_three() { b"_\r\n" } else { b"$-1\r\n" };
        let (sub, count) = (words.get(1).unwrap_or_default().to_ascii_uppercase(), words.len());
        match (sub.as_slice(), count) {
            (b"ID", 2) => self.client.answer(format!(":{}\r\n", self.client.id).as_bytes()),
            (b"GETNAME", 2) if self.name.is_empty() => self.client.answer(none),
            (b"GETNAME", 2) => self.client.answer(&bulk(&self.name)),
            (b"SETNAME", 3) => {
                let name = words.get(2).unwrap_or_default();
                if is_name(name) {
                    self.name = Bytes::copy_from_slice(name);
                    self.client.answer(b"+OK\r\n");
                } else {
                    self.client.answer(BAD_NAME);
                }
            }
            (b"SETINFO", 4) => self.client.answer(b"+OK\r\n"),
            (b"INFO", 2) | (b"LIST", 2) => {
                // Redis' own line. What the proxy does not know of, because no server has this connection, is 0.
                let line = format!(
                    "id={} addr={} laddr={} fd=0 name={} age={} idle=0 flags=N db=0 sub={} psub=0 ssub=0 multi={} qbuf={} \
                     qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r \
                     cmd=client|{} user=default redir=-1 resp={}\n",
                    self.client.id,
                    self.address,
                    self.here,
                    String::from_utf8_lossy(&self.name),
                    self.since.elapsed().as_secs(),
                    self.subscriptions.len(),
                    if self.queue.is_some() { 0 } else { -1 },
                    self.input.len(),
                    String::from_utf8_lossy(&sub).to_lowercase(),
                    if self.is_three() { 3 } else { 2 },
                );
                self.client.answer(&bulk(line.as_bytes()));
            }
            (b"GETREDIR", 2) => self.client.answer(b":-1\r\n"),
            (b"REPLY", 3) if words.is(2, "ON") => self.client.answer(b"+OK\r\n"),
            (b"TRACKING", 3) if words.is(2, "OFF") => self.client.answer(b"+OK\r\n"),
            (b"NO-EVICT" | b"NO-TOUCH", 3) if words.is(2, "OFF") => self.client.answer(b"+OK\r\n"),
            _ => {
                let sub = String::from_utf8_lossy(&sub[..sub.len().min(32)]).replace(['\r', '\n'], " ");
                self.refuse(
                    format!(
                        "-ERR regrow: CLIENT {sub} is not carried by the proxy: it concerns a connection to a server, and \
                         clients share those\r\n"
                    )
                    .as_bytes(),
                );
            }
        }
    }

    /// `WAIT`: on every master, because this client's writes may be on any. A connection of its own waits there for what
    /// the master had written when it was asked, which is at least what this client wrote.
    async fn wait(&mut self, request: &Bytes) {
        let _busy = Busy::new(&self.worker);
        let mut least: Option<Bytes> = None;
        for slot in self.backend.shards() {
            let answer = match self.wait_on(slot, request).await {
                Ok(answer) => answer,
                Err(answer) => {
                    self.client.answer(&answer);
                    return;
                }
            };
            if int(&answer).is_none() {
                self.client.answer(&answer);
                return;
            }
            if least.as_ref().is_none_or(|least| int(&answer) < int(least)) {
                least = Some(answer);
            }
        }
        self.client.answer(&least.unwrap_or_else(|| Bytes::from_static(b":0\r\n")));
    }

    async fn wait_on(&mut self, slot: Slot, request: &Bytes) -> Result<Bytes, Bytes> {
        let mut course = Course::new(slot, true);
        loop {
            let (mut dedicated, _) = self.reach(&mut course).await?;
            let wire = dedicated.wire().map_err(|error| Backend::broken_answer(false, &error))?;
            let waited = async {
                wire.call(PING, 1).await?;
                wire.send(request).await?;
                wire.next().await
            };
            let answer = tokio::select! {
                answer = waited => answer,
                () = self.client.gone() => return Err(Bytes::new()),
            };
            match answer {
                Ok(answer) => {
                    dedicated.give_back();
                    return Ok(answer);
                }
                Err(error) => {
                    if !self.again(&mut course).await {
                        return Err(Backend::broken_answer(true, &error));
                    }
                }
            }
        }
    }

    pub(super) fn worker(&self) -> Rc<crate::proxy::worker::Worker> {
        Rc::clone(&self.worker)
    }
}

const BAD_NAME: &[u8] = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
/// Bytes of a client's name.
const NAME_BYTES_MAX: usize = 1024;

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_BYTES_MAX && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// An array of texts and a number, as pub/sub confirms.
pub(super) fn confirmation(three: bool, kind: &str, channel: Option<&[u8]>, count: usize) -> Bytes {
    let mut out = BytesMut::from(if three { &b">3\r\n"[..] } else { b"*3\r\n" });
    out.put_slice(&bulk(kind.as_bytes()));
    match channel {
        Some(channel) => out.put_slice(&bulk(channel)),
        None => out.put_slice(if three { b"_\r\n" } else { b"$-1\r\n" }),
    }
    out.put_slice(format!(":{count}\r\n").as_bytes());
    out.freeze()
}

/// A command of a name and its arguments.
pub(super) fn command<'a>(name: &'a str, arguments: impl Iterator<Item = &'a [u8]>) -> Bytes {
    encode(std::iter::once(name.as_bytes()).chain(arguments)).freeze()
}
