//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.
//!
//! Commands between `MULTI` and `EXEC` are kept here, and go to their slot's master at once and together with `EXEC`, so a
//! transaction is carried out whole or not at all. Words and slots are checked as each command comes; what only the server
//! can say of a command (no memory, no permission) fails the `EXEC`. `WATCH` has a connection of its own until `EXEC`. When
//! it breaks, or its slot or the backend changes, `EXEC` answers nothing, as if a watched key had been changed.

use bytes::{BufMut, Bytes, BytesMut};

use crate::slot::Slot;

use super::own::Course;
use super::{ANY, CROSS_SLOT, Session};
use crate::proxy::backend::{Backend, Dedicated};
use crate::proxy::keys::{Words, slot_of};
use crate::proxy::table::{Kind, Local, Spec};
use crate::proxy::verdict::{Next, Trouble, after_answer};
use crate::proxy::worker::Busy;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

/// Commands that wait for their `EXEC`.
#[derive(Default)]
pub(super) struct Queue {
    slot: Option<Slot>,
    requests: Vec<Bytes>,
    bytes: usize,
    /// A command was refused, so `EXEC` will be.
    pub(super) spoilt: bool,
}

/// Keys that are watched.
pub(super) struct Watched {
    slot: Slot,
    dedicated: Dedicated,
    /// The connection broke, or the keys have gone elsewhere.
    lost: bool,
}

impl Session {
    /// Keeps a command for `EXEC`.
    pub(super) fn queue_up(&mut self, spec: &Spec, kind: Kind, request: Bytes, words: Words<'_>) {
        let cluster = self.backend.opened().cluster;
        let slot = match kind {
            Kind::Keyed | Kind::Split(..) | Kind::Blocking(_) => slot_of(spec.keys, words),
            Kind::Local(Local::Ping | Local::Echo | Local::Unwatch) => Ok(None),
            Kind::All(_) | Kind::Scan if !cluster => Ok(None),
            Kind::All(_) | Kind::Scan => {
                self.refuse(
                    b"-ERR regrow: a transaction is carried out by one server, and this command concerns all\r\n",
                );
                return;
            }
            Kind::Refused(why) => {
                self.refuse(format!("-ERR regrow: not carried by the proxy: {why}\r\n").as_bytes());
                return;
            }
            Kind::Local(_) | Kind::Container(_) => {
                self.refuse(b"-ERR Command not allowed inside a transaction\r\n");
                return;
            }
        };
        let watched = self.watched.as_ref().map(|watched| watched.slot);
        let Some(queue) = &mut self.queue else { return };
        let limits = &self.worker.limits;
        if queue.requests.len() >= limits.transaction_max || queue.bytes + request.len() > limits.request_bytes_max {
            self.refuse(b"-ERR regrow: the transaction is longer than the proxy takes\r\n");
            return;
        }
        if cluster {
            let wanted = queue.slot.or(watched);
            match slot {
                Ok(slot) if slot.is_none() || wanted.is_none() || slot == wanted => queue.slot = queue.slot.or(slot),
                _ => {
                    self.refuse(CROSS_SLOT);
                    return;
                }
            }
        }
        queue.bytes += request.len();
        queue.requests.push(request);
        self.client.answer(b"+QUEUED\r\n");
    }

    pub(super) fn multi(&mut self) {
        if self.queue.is_some() {
            self.client.answer(b"-ERR MULTI calls can not be nested\r\n");
        } else {
            self.queue = Some(Queue::default());
            self.client.answer(b"+OK\r\n");
        }
    }

    pub(super) async fn discard(&mut self) {
        if self.queue.take().is_none() {
            self.client.answer(b"-ERR DISCARD without MULTI\r\n");
            return;
        }
        self.unwatch().await;
        self.client.answer(b"+OK\r\n");
    }

    pub(super) async fn unwatch(&mut self) {
        let Some(mut watched) = self.watched.take() else { return };
        if !watched.lost
            && let Ok(wire) = watched.dedicated.wire()
            && wire.call(UNWATCH, 1).await.is_ok()
        {
            watched.dedicated.give_back();
        }
    }

    pub(super) async fn watch(&mut self, request: &Bytes, words: Words<'_>) {
        if self.queue.is_some() {
            self.client.answer(b"-ERR WATCH inside MULTI is not allowed\r\n");
            return;
        }
        let keys = crate::proxy::table::Keys::Range { first: 1, last: -1, step: 1 };
        let cluster = self.backend.opened().cluster;
        let slot = match slot_of(keys, words) {
            Ok(slot) => slot.unwrap_or(ANY),
            Err(_) if !cluster => ANY,
            Err(_) => {
                self.client.answer(CROSS_SLOT);
                return;
            }
        };
        let _busy = Busy::new(&self.worker);
        if let Some(watched) = &mut self.watched {
            if cluster && watched.slot != slot {
                self.client.answer(CROSS_SLOT);
                return;
            }
            let good = match watched.dedicated.wire() {
                Ok(wire) => wire.call(request, 1).await.is_ok_and(|answers| answers[0].first() == Some(&b'+')),
                Err(_) => false,
            };
            watched.lost |= !good;
            self.client.answer(b"+OK\r\n");
            return;
        }
        let mut course = Course::new(slot, true);
        let answer = loop {
            let (mut dedicated, before) = match self.reach(&mut course).await {
                Ok(reached) => reached,
                Err(answer) => break answer,
            };
            let Ok(wire) = dedicated.wire() else { continue };
            let from = wire.address.clone();
            let mut all = BytesMut::from(before);
            all.put_slice(request);
            let answers = wire.call(&all, 1 + usize::from(!before.is_empty())).await;
            match answers.map(|mut answers| answers.pop().unwrap_or_default()) {
                Ok(answer) if self.judge(&mut course, &answer, &from).await => dedicated.give_back(),
                Ok(answer) => {
                    if answer.first() == Some(&b'+') {
                        self.watched = Some(Watched { slot, dedicated, lost: false });
                    }
                    break answer;
                }
                Err(error) => {
                    if !self.again(&mut course).await {
                        break Backend::broken_answer(true, &error);
                    }
                }
            }
        };
        self.client.answer(&answer);
    }

    pub(super) async fn exec(&mut self) {
        let Some(queue) = self.queue.take() else {
            self.client.answer(b"-ERR EXEC without MULTI\r\n");
            return;
        };
        if queue.spoilt {
            self.unwatch().await;
            self.client.answer(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
            return;
        }
        let _busy = Busy::new(&self.worker);
        let answer = match self.watched.take() {
            Some(watched) => self.exec_watched(watched, &queue).await,
            None if queue.requests.is_empty() => Bytes::from_static(b"*0\r\n"),
            None => {
                let course = Course::new(queue.slot.unwrap_or(ANY), false);
                match self.call(course, &queue.whole(), queue.requests.len() + 2, verdict).await {
                    Ok(answers) => outcome(&answers),
                    Err(answer) => answer,
                }
            }
        };
        self.client.answer(&answer);
    }

    async fn exec_watched(&mut self, mut watched: Watched, queue: &Queue) -> Bytes {
        let nothing = Bytes::from_static(if self.is_three() { b"_\r\n" } else { b"*-1\r\n" });
        if watched.lost || watched.dedicated.backend().is_retired() {
            return nothing;
        }
        let Ok(wire) = watched.dedicated.wire() else { return nothing };
        if !wire.is_quiet().await {
            return nothing;
        }
        let from = wire.address.clone();
        let answers = match wire.call(&queue.whole(), queue.requests.len() + 2).await {
            Ok(answers) => answers,
            Err(error) => {
                self.backend.look();
                return Backend::broken_answer(true, &error);
            }
        };
        watched.dedicated.give_back();
        match after_answer(&verdict(&answers), &from, Trouble::default(), &self.worker.limits) {
            Next::Deliver => outcome(&answers),
            // Not carried out, and what was watched there is watched no more.
            Next::Moved(to) => {
                self.backend.moved(watched.slot, &to);
                nothing
            }
            Next::Ask(_) | Next::Later | Next::Lookup => nothing,
        }
    }
}

impl Queue {
    fn whole(&self) -> BytesMut {
        let mut all = BytesMut::with_capacity(self.bytes + MULTI.len() + EXEC.len());
        all.put_slice(MULTI);
        self.requests.iter().for_each(|request| all.put_slice(request));
        all.put_slice(EXEC);
        all
    }
}

/// The answer that says why a transaction was not carried out, or that of `EXEC`. An error inside of what `EXEC` answers is
/// not one of these: the rest was carried out.
fn verdict(answers: &[Bytes]) -> Bytes {
    let last = answers.last().cloned().unwrap_or_default();
    if last.first() != Some(&b'-') {
        return last;
    }
    answers.iter().find(|answer| answer.first() == Some(&b'-')).cloned().unwrap_or(last)
}

/// What the client gets: the reason, where there is one, because it has been told `QUEUED` of the command that had it.
fn outcome(answers: &[Bytes]) -> Bytes {
    let last = answers.last().cloned().unwrap_or_default();
    let why = verdict(answers);
    match why.strip_prefix(b"-") {
        Some(why) if last.starts_with(b"-EXECABORT") && !why.starts_with(b"EXECABORT") => {
            let mut text = BytesMut::from(&b"-EXECABORT Transaction discarded because of: "[..]);
            text.put_slice(why);
            text.freeze()
        }
        _ => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let answers =
            |texts: &[&'static str]| texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect::<Vec<_>>();
        let good = answers(&["+OK\r\n", "+QUEUED\r\n", "*1\r\n-WRONGTYPE x\r\n"]);
        assert_eq!(outcome(&good), "*1\r\n-WRONGTYPE x\r\n");
        let moved = answers(&["+OK\r\n", "-MOVED 1 a:1\r\n", "-EXECABORT x\r\n"]);
        assert_eq!(verdict(&moved), "-MOVED 1 a:1\r\n");
        let full = answers(&["+OK\r\n", "-OOM no\r\n", "-EXECABORT x\r\n"]);
        assert_eq!(outcome(&full), "-EXECABORT Transaction discarded because of: OOM no\r\n");
    }
}
