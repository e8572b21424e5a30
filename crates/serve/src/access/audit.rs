//! What was done through the doors, and what was refused: who, from where, what, and what came of it.
//!
//! **Flow.** A door puts an [`Entry`] in the queue; one writer takes them with [`Queue::take`] and writes them down. An
//! entry has the names of keys and objects, never values.
//!
//! **Guarantees.** A door never waits. The queue has [`WAITING_MAX`] entries; what does not fit is counted, and so are
//! refusals of strangers beyond [`STRANGERS_MAX`] a second. The next line says how many were lost.

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use regrow_model::{CauseId, Time};
use serde::Serialize;
use tokio::sync::Notify;

use super::{Caller, Origin, Peer, caller::now};

/// Entries that wait for the writer.
pub const WAITING_MAX: usize = 65_536;

/// Refusals of callers without good credentials that are written down in a second: there is no end to those.
pub const STRANGERS_MAX: u32 = 20;

/// Keys and objects of one entry that are named; of more the number is told.
pub const NAMED_MAX: usize = 16;

/// Longest name of a key, bytes; the rest is left out.
pub const NAME_BYTES_MAX: usize = 256;

/// Where a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// Which door: `etcd`, `http`, `unix`, `rpc`.
    pub door: &'static str,
    /// The other end's address; nothing on the Unix socket.
    pub remote: Option<SocketAddr>,
}

impl From {
    /// A connection to a door; one that comes by the Unix socket is told as that.
    pub fn of(door: &'static str, peer: &Peer) -> From {
        match peer.origin {
            Origin::Unix { .. } => From { door: "unix", remote: None },
            Origin::Tcp { remote, .. } => From { door, remote: Some(remote) },
        }
    }
}

/// What something was done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Keys and ranges of keys: first and end, as etcd writes them.
    Keys(Vec<(Bytes, Bytes)>),
    /// One key.
    Key(Bytes),
    /// Something by its name.
    Named(String),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; the revision that has it, where there is one.
    Done(Option<i64>),
    /// Whoever asked may not, and why.
    Refused(String),
    /// It was tried and failed.
    Failed(String),
}

/// One thing that was done, or refused.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// Who.
    pub who: Arc<Caller>,
    /// From where.
    pub from: From,
    /// The verb: `put`, `delete`, `POST /api/apply`.
    pub did: &'static str,
    /// To what.
    pub what: What,
    /// The chain of causes that it began.
    pub cause: Option<CauseId>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Where doors put what is done. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Option<Arc<Queue>>);

/// Entries that wait for their writer.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    lost: u64,
    /// The second that strangers are counted in, and how many there were.
    strangers: (u64, u32),
}

impl Audit {
    /// Nothing is written down.
    pub fn off() -> Audit {
        Audit(None)
    }

    /// What is done waits in the queue for whoever takes it.
    pub fn into(queue: Arc<Queue>) -> Audit {
        Audit(Some(queue))
    }

    /// Writes down something that was done now.
    pub fn tell(&self, who: &Arc<Caller>, from: From, did: &'static str, what: What, outcome: Outcome) {
        self.tell_of(who, from, did, what, None, outcome);
    }

    /// The same of what began a chain of causes.
    pub fn tell_of(
        &self,
        who: &Arc<Caller>,
        from: From,
        did: &'static str,
        what: What,
        cause: Option<CauseId>,
        outcome: Outcome,
    ) {
        let Some(queue) = &self.0 else { return };
        queue.put(Entry { at: now(), who: who.clone(), from, did, what, cause, outcome });
    }
}

impl Queue {
    fn put(&self, entry: Entry) {
        let is_first = {
            let mut waiting = self.lock();
            if matches!(entry.outcome, Outcome::Refused(_)) && entry.who.name() == "anonymous" {
                let second = entry.at.0 / 1000;
                if waiting.strangers.0 != second {
                    waiting.strangers = (second, 0);
                }
                waiting.strangers.1 += 1;
                if waiting.strangers.1 > STRANGERS_MAX {
                    waiting.lost += 1;
                    return;
                }
            }
            if waiting.entries.len() >= WAITING_MAX {
                waiting.lost += 1;
                return;
            }
            waiting.entries.push(entry);
            waiting.entries.len() == 1
        };
        // The writer sleeps only while there is nothing.
        if is_first {
            self.more.notify_one();
        }
    }

    /// Waits for entries, and takes all that are there; and how many were lost since the last time.
    pub async fn take(&self) -> (Vec<Entry>, u64) {
        loop {
            let taken = self.take_now();
            if !taken.0.is_empty() {
                return taken;
            }
            self.more.notified().await;
        }
    }

    /// Takes all that are there.
    pub fn take_now(&self) -> (Vec<Entry>, u64) {
        let mut waiting = self.lock();
        if waiting.entries.is_empty() {
            return (Vec::new(), 0);
        }
        (std::mem::take(&mut waiting.entries), std::mem::take(&mut waiting.lost))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    ts: f64,
    who: &'a str,
    door: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<SocketAddr>,
    did: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to: Vec<String>,
    /// Further ones that are not named.
    #[serde(skip_serializing_if = "is_zero")]
    more: usize,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Adds an entry to a text, as a line of JSON.
pub fn write(entry: &Entry, text: &mut String) {
    let (to, more) = match &entry.what {
        What::Key(key) => (vec![shown(key)], 0),
        What::Named(name) if name.is_empty() => (Vec::new(), 0),
        What::Named(name) => (vec![name.clone()], 0),
        What::Keys(spans) => {
            let named = spans.iter().take(NAMED_MAX).map(|(first, end)| match &end[..] {
                b"" => shown(first),
                b"\0" => format!("{} …", shown(first)),
                end => format!("{} … {}", shown(first), shown(end)),
            });
            (named.collect(), spans.len().saturating_sub(NAMED_MAX))
        }
    };
    let (outcome, why, revision) = match &entry.outcome {
        Outcome::Done(revision) => ("done", None, *revision),
        Outcome::Refused(why) => ("refused", Some(why.as_str()), None),
        Outcome::Failed(why) => ("failed", Some(why.as_str()), None),
    };
    let line = Line {
        ts: entry.at.0 as f64 / 1000.0,
        who: entry.who.name(),
        door: entry.from.door,
        from: entry.from.remote,
        did: entry.did,
        to,
        more,
        outcome,
        why,
        revision,
        cause: entry.cause.as_ref().map(CauseId::as_str),
    };
    text.push_str(&serde_json::to_string(&line).expect("texts and numbers serialise"));
    text.push('\n');
}

/// Adds a line that says how many entries were lost.
pub fn write_lost(at: Time, lost: u64, text: &mut String) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "{{\"ts\":{},\"lost\":{lost}}}", at.0 as f64 / 1000.0);
}

fn shown(key: &[u8]) -> String {
    let text = key[..key.len().min(NAME_BYTES_MAX)].utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        // Writing to a text does not fail.
        let _ = chunk.invalid().iter().try_for_each(|byte| write!(text, "\\x{byte:02x}"));
        text
    });
    if key.len() > NAME_BYTES_MAX { text + "…" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_control::access::Identity;

    const HERE: From = From { door: "etcd", remote: None };

    /// Who, what and what came of it, in one line each; keys that are many or no text are told in short.
    #[test]
    fn lines() {
        let line = |what, outcome| {
            let who = Caller::of(Identity::Owner);
            let mut text = String::new();
            write(&Entry { at: Time(1500), who, from: HERE, did: "put", what, cause: None, outcome }, &mut text);
            text
        };
        assert_eq!(
            line(What::Key("a/\u{fc}\n".into()), Outcome::Done(Some(7))),
            "{\"ts\":1.5,\"who\":\"owner\",\"door\":\"etcd\",\"did\":\"put\",\"to\":[\"a/\u{fc}\\n\"],\"outcome\":\"done\",\"revision\":7}\n"
        );
        let many: Vec<_> = (0..20).map(|n| (Bytes::from(format!("k{n}")), Bytes::new())).collect();
        assert!(line(What::Keys(many), Outcome::Done(None)).contains("\"more\":4"));
        let range = vec![(Bytes::from_static(b"a\xff"), Bytes::from_static(b"\0"))];
        let refused = line(What::Keys(range), Outcome::Refused("no".into()));
        assert!(refused.contains(r#""to":["a\\xff …"],"outcome":"refused","why":"no""#), "{refused}");
    }

    /// What does not fit is counted, not kept; strangers are few a second.
    #[test]
    fn the_queue_is_bounded() {
        let queue = Arc::new(Queue::default());
        let audit = Audit::into(queue.clone());
        let owner = Caller::of(Identity::Owner);
        for _ in 0..WAITING_MAX + 5 {
            audit.tell(&owner, HERE, "put", What::Key(Bytes::new()), Outcome::Done(None));
        }
        let (entries, lost) = queue.take_now();
        assert_eq!((entries.len(), lost), (WAITING_MAX, 5));
        let at = Time(5_000);
        for _ in 0..100 {
            let who = Caller::of(Identity::Anonymous);
            let outcome = Outcome::Refused(String::new());
            queue.put(Entry { at, who, from: HERE, did: "put", what: What::Key(Bytes::new()), cause: None, outcome });
        }
        let (entries, lost) = queue.take_now();
        assert_eq!((entries.len() as u32, lost), (STRANGERS_MAX, 100 - u64::from(STRANGERS_MAX)));
    }
}
