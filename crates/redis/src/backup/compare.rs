//! Compares a target with the files that were restored to it, key by key.
//!
//! Short values are compared by what their `DUMP` says, whatever the encoding; long ones piece by piece with the commands
//! that read their type, and by their length. Assumes that nobody writes to the keys meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::migrate::board::shown;
use crate::migrate::carrier::{Answer, Carrier, Job};
use crate::migrate::content::content;
use crate::migrate::lane::Lanes;
use crate::migrate::load::in_db;
use crate::migrate::verify::{Difference, Extent};
use crate::rdb::{Piece, StreamPiece};
use crate::resp::{Command, Value};

use super::error::BackupError;
use super::restore::{Progress, Restore};
use super::stream::{Dealer, Head, Item, Parcel};

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Compared {
    /// Keys compared.
    pub keys: u64,
    /// Differences.
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// Tasks that compare.
const TASKS: usize = 4;
/// Keys and bytes asked for at once by one task.
const BATCH_KEYS: usize = 400;
const BATCH_BYTES: usize = 4 << 20;
/// Questions about a long value that are asked at once.
const CHECKS_MAX: usize = 500;
/// Differences named, at most; the others are counted.
const NAMED_MAX: usize = 1000;

impl Restore {
    /// Compares the target with the files. Keys whose time has come are passed over.
    pub async fn compare(
        &self,
        extent: Extent,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Compared, BackupError> {
        let (dealer, ends) = Dealer::new(TASKS);
        let found = Arc::new(Mutex::new(Compared::default()));
        let mut tasks = JoinSet::new();
        for items in ends {
            let task = Comparer {
                carrier: self.carrier(),
                lanes: Arc::clone(&self.lanes),
                found: Arc::clone(&found),
                keys: self.count(),
            };
            tasks.spawn(task.work(items));
        }
        let wanted = move |key: &[u8]| match extent {
            Extent::All => true,
            Extent::Sample(one_in) => u64::from(crate::slot::crc16(key)) * 40_503 % u64::from(one_in.max(1)) == 0,
        };
        let dealt = self.deal(dealer, wanted, tasks, tell).await?;
        let mut found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        found.keys = dealt.keys;
        Ok(found)
    }
}

struct Comparer {
    carrier: Carrier,
    lanes: Arc<Lanes>,
    found: Arc<Mutex<Compared>>,
    keys: Arc<AtomicU64>,
}

/// What the answer to a question must be.
#[derive(Debug, PartialEq)]
enum Want {
    Bytes(Bytes),
    All(Vec<Bytes>),
    Ones,
    Scores(Vec<f64>),
    Entry(String, Vec<Bytes>),
    Count(u64),
    /// A pair of name and value somewhere in the answer, on its first or second level.
    Pairs(Vec<(&'static str, Bytes)>),
    Pending(Bytes, u64),
}

/// A long value that is being compared.
struct Long {
    head: Head,
    count: u64,
    length: &'static str,
    checks: Vec<(Command, Want)>,
    different: Option<String>,
}

impl Comparer {
    async fn work(mut self, mut items: mpsc::Receiver<Parcel>) -> Result<(), BackupError> {
        let (mut batch, mut bytes): (Vec<Parcel>, usize) = (Vec::new(), 0);
        let mut long: Option<Long> = None;
        loop {
            let parcel = match items.try_recv() {
                Ok(parcel) => parcel,
                Err(_) => {
                    self.flush(&mut batch).await?;
                    bytes = 0;
                    match items.recv().await {
                        Some(parcel) => parcel,
                        None => return Ok(()),
                    }
                }
            };
            if let (Item::Whole(_, dump), _) = &parcel {
                bytes += dump.len();
                batch.push(parcel);
                if batch.len() >= BATCH_KEYS || bytes >= BATCH_BYTES {
                    self.flush(&mut batch).await?;
                    bytes = 0;
                }
                continue;
            }
            match (parcel.0, &mut long) {
                (Item::Begin(head), _) => {
                    long = Some(Long { head, count: 0, length: "EXISTS", checks: Vec::new(), different: None });
                }
                (Item::Piece(piece), Some(long)) => {
                    long.piece(piece);
                    if long.checks.len() >= CHECKS_MAX || !matches!(long.length, "XLEN") {
                        self.ask(long).await?;
                    }
                }
                (Item::End, _) => {
                    let Some(mut long) = long.take() else { continue };
                    let key = &long.head.name;
                    let expires = long.head.expires_ms.map_or("-1".to_owned(), |at| at.to_string());
                    long.checks.push((Command::new(long.length).arg(key), Want::Count(long.count)));
                    long.checks.push((Command::new("PEXPIRETIME").arg(key), Want::Bytes(expires.into())));
                    self.ask(&mut long).await?;
                    if let Some(what) = long.different {
                        self.differ(&long.head, what);
                    }
                    self.keys.fetch_add(1, Ordering::Relaxed);
                }
                // The functions were taken in, or the restore would have ended there.
                _ => {}
            }
        }
    }

    async fn flush(&mut self, batch: &mut Vec<Parcel>) -> Result<(), BackupError> {
        if batch.is_empty() {
            return Ok(());
        }
        let ask = |head: &Head| {
            let look = vec![Command::new("DUMP").arg(&head.name), Command::new("PEXPIRETIME").arg(&head.name)];
            Job::plain(self.lanes.of(&head.name), in_db(head.db, look))
        };
        let whole =
            |item: &Item| if let Item::Whole(head, dump) = item { Some((head.clone(), dump.clone())) } else { None };
        let keys: Vec<(Head, Bytes)> = batch.iter().filter_map(|(item, _)| whole(item)).collect();
        let jobs = keys.iter().map(|(head, _)| ask(head)).collect();
        let answers = self.carrier.carry(jobs).await?;
        for ((head, dump), answer) in keys.iter().zip(&answers) {
            let at = usize::from(head.db != 0);
            let found = match answer {
                Answer::Values(values) => difference(dump, head.expires_ms, values.get(at), values.get(at + 1)),
                other => Some(unread(other)),
            };
            if let Some(what) = found {
                self.differ(head, what);
            }
        }
        self.keys.fetch_add(keys.len() as u64, Ordering::Relaxed);
        batch.clear();
        Ok(())
    }

    /// Asks what is to be asked about a long value.
    async fn ask(&mut self, long: &mut Long) -> Result<(), BackupError> {
        let (commands, wants): (Vec<Command>, Vec<Want>) = std::mem::take(&mut long.checks).into_iter().unzip();
        if commands.is_empty() || long.different.is_some() {
            return Ok(());
        }
        let names: Vec<&'static str> = commands.iter().map(Command::name).collect();
        let job = Job::plain(self.lanes.of(&long.head.name), in_db(long.head.db, commands));
        let answer = self.carrier.one(job).await?;
        let Answer::Values(values) = &answer else {
            long.different = Some(unread(&answer));
            return Ok(());
        };
        let answers = values.iter().skip(usize::from(long.head.db != 0));
        let wrong = wants.iter().zip(answers).zip(names).find(|((want, answer), _)| !want.is(answer));
        long.different = wrong.map(|((want, answer), name)| match (want, answer) {
            (Want::Count(count), _) => format!("{count} in the backup, {} on the target", answer.int().unwrap_or(0)),
            (_, Value::Error(message)) => String::from_utf8_lossy(message).into_owned(),
            _ => format!("another value on the target, by {name}"),
        });
        Ok(())
    }

    fn differ(&self, head: &Head, what: String) {
        if head.expired() {
            return;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.different += 1;
        if found.differences.len() < NAMED_MAX {
            found.differences.push(Difference { key: shown(&head.name), db: head.db, what });
        }
    }
}

/// Why a key could not be read.
fn unread(answer: &Answer) -> String {
    match answer {
        Answer::Rejected { message, .. } => format!("it cannot be read from the target: {message}"),
        _ => "it cannot be read from the target".to_owned(),
    }
}

/// What is different between a value of the backup and what the target says; `None`: nothing.
fn difference(dump: &Bytes, expires_ms: Option<u64>, target: Option<&Value>, expiry: Option<&Value>) -> Option<String> {
    if let Some(Value::Error(message)) = target {
        return Some(format!("it cannot be read from the target: {}", String::from_utf8_lossy(message)));
    }
    let Some(other) = target.and_then(|value| if let Value::Bulk(bytes) = value { Some(bytes) } else { None }) else {
        return Some("missing on the target".to_owned());
    };
    let also = expiry.and_then(Value::int).and_then(|at| u64::try_from(at).ok());
    if also != expires_ms {
        let text = |at: Option<u64>| at.map_or("never".to_owned(), |at| format!("at {at} ms"));
        return Some(format!("expires {} in the backup, {} on the target", text(expires_ms), text(also)));
    }
    if dump == other {
        return None;
    }
    match (content(dump), content(other)) {
        (Ok(a), Ok(b)) if a.same(&b) => None,
        (Ok(a), Ok(b)) if a.kind != b.kind => Some(format!("{} in the backup, {} on the target", a.kind, b.kind)),
        (Ok(a), Ok(b)) if a.count != b.count => {
            Some(format!("{} of {} in the backup, of {} on the target", a.kind, a.count, b.count))
        }
        _ => Some("another value on the target".to_owned()),
    }
}

impl Long {
    /// Notes what to ask about a piece.
    fn piece(&mut self, piece: Piece) {
        let key = self.head.name.clone();
        let on = |name| Command::new(name).arg(&key);
        let at = self.count;
        let until = |length: usize| i128::from(at) + length as i128 - 1;
        let (length, count, command, want) = match piece {
            Piece::Text(text) => {
                let ask = on("GETRANGE").number(at).number(until(text.len()));
                ("STRLEN", text.len(), ask, Want::Bytes(text))
            }
            Piece::Items(items) => {
                let ask = on("LRANGE").number(at).number(until(items.len()));
                ("LLEN", items.len(), ask, Want::All(items))
            }
            Piece::Members(members) => ("SCARD", members.len(), on("SMISMEMBER").args(&members), Want::Ones),
            Piece::Scores(scores) => {
                let ask = on("ZMSCORE").args(scores.iter().map(|(member, _)| member));
                ("ZCARD", scores.len(), ask, Want::Scores(scores.into_iter().map(|(_, score)| score).collect()))
            }
            Piece::Fields(fields) => {
                let ask = on("HMGET").args(fields.iter().map(|(name, _)| name));
                ("HLEN", fields.len(), ask, Want::All(fields.into_iter().map(|(_, value)| value).collect()))
            }
            Piece::Stream(StreamPiece::Entry { id, fields }) => {
                let fields = fields.into_iter().flat_map(|(name, value)| [name, value]).collect();
                let ask = on("XRANGE").arg(id.to_string()).arg(id.to_string());
                ("XLEN", 1, ask, Want::Entry(id.to_string(), fields))
            }
            Piece::Stream(StreamPiece::Tail { last, .. }) => {
                let want = Want::Pairs(vec![("last-generated-id", last.to_string().into())]);
                ("XLEN", 0, on("XINFO STREAM"), want)
            }
            Piece::Stream(StreamPiece::Group { name, last, .. }) => {
                let want = Want::Pairs(vec![("name", name), ("last-delivered-id", last.to_string().into())]);
                ("XLEN", 0, on("XINFO GROUPS"), want)
            }
            Piece::Stream(StreamPiece::Consumer { group, name }) => {
                ("XLEN", 0, on("XINFO CONSUMERS").arg(group), Want::Pairs(vec![("name", name)]))
            }
            Piece::Stream(StreamPiece::Pending { group, consumer, id, count, .. }) => {
                let ask = on("XPENDING").arg(group).arg(id.to_string()).arg(id.to_string()).arg("1").arg(&consumer);
                ("XLEN", 0, ask, Want::Pending(consumer, count))
            }
        };
        self.length = length;
        self.count += count as u64;
        self.checks.push((command, want));
    }
}

impl Want {
    fn is(&self, answer: &Value) -> bool {
        let list = || answer.array().unwrap_or_default();
        let same = |value: &Value, bytes: &Bytes| value.bytes() == Some(bytes);
        match self {
            Self::Bytes(bytes) => {
                same(answer, bytes) || answer.int().is_some_and(|number| number.to_string() == *bytes)
            }
            Self::All(all) => {
                list().len() == all.len() && list().iter().zip(all).all(|(value, bytes)| same(value, bytes))
            }
            Self::Ones => !list().is_empty() && list().iter().all(|value| value.int() == Some(1)),
            Self::Scores(scores) => {
                let score = |value: &Value| match value {
                    Value::Double(score) => Some(*score),
                    value => value.text()?.parse::<f64>().ok(),
                };
                list().len() == scores.len()
                    && list().iter().zip(scores).all(|(value, wanted)| score(value) == Some(*wanted))
            }
            Self::Entry(id, fields) => match list() {
                [entry] => match entry.array() {
                    Some([name, values]) => {
                        let values = values.array().unwrap_or_default();
                        name.text() == Some(id)
                            && values.len() == fields.len()
                            && values.iter().zip(fields).all(|(value, bytes)| same(value, bytes))
                    }
                    _ => false,
                },
                _ => false,
            },
            Self::Count(count) => answer.int().and_then(|number| u64::try_from(number).ok()) == Some(*count),
            Self::Pairs(pairs) => {
                let holds = |values: &[Value]| {
                    pairs.iter().all(|(name, value)| {
                        values.chunks(2).any(|pair| match pair {
                            [first, second] => first.text() == Some(name) && same(second, value),
                            _ => false,
                        })
                    })
                };
                holds(list()) || list().iter().filter_map(Value::array).any(holds)
            }
            Self::Pending(consumer, count) => match list() {
                [entry] => match entry.array() {
                    Some([_, name, _, given]) => {
                        same(name, consumer) && given.int().and_then(|given| u64::try_from(given).ok()) == Some(*count)
                    }
                    _ => false,
                },
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn array(values: &[Value]) -> Value {
        Value::Array(values.to_vec())
    }

    /// Each kind of question: the right answer, and one that is not.
    #[test]
    fn answers() {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let group = |name, last| array(&[bulk("name"), bulk(name), bulk("last-delivered-id"), bulk(last)]);
        let entry = |id, value| array(&[array(&[bulk(id), array(&[bulk("f"), bulk(value)])])]);
        let pending = |name, given| array(&[array(&[bulk("1-1"), bulk(name), Value::Int(5), Value::Int(given)])]);
        for (want, right, wrong) in [
            (Want::Bytes(bytes("ab")), bulk("ab"), bulk("ac")),
            (Want::Bytes(bytes("-1")), Value::Int(-1), Value::Int(5)),
            (Want::All(vec![bytes("a"), bytes("b")]), array(&[bulk("a"), bulk("b")]), array(&[bulk("a")])),
            (Want::All(vec![bytes("a")]), array(&[bulk("a")]), array(&[Value::Null])),
            (Want::Ones, array(&[Value::Int(1), Value::Int(1)]), array(&[Value::Int(1), Value::Int(0)])),
            (
                Want::Scores(vec![1.5, f64::INFINITY]),
                array(&[bulk("1.5"), bulk("inf")]),
                array(&[bulk("1.5"), Value::Null]),
            ),
            (Want::Entry("5-1".to_owned(), vec![bytes("f"), bytes("v")]), entry("5-1", "v"), entry("5-1", "w")),
            (Want::Count(3), Value::Int(3), Value::Int(2)),
            (
                Want::Pairs(vec![("name", bytes("g")), ("last-delivered-id", bytes("1-1"))]),
                array(&[group("f", "1-1"), group("g", "1-1")]),
                array(&[group("f", "1-1"), group("g", "2-1")]),
            ),
            (Want::Pending(bytes("c"), 2), pending("c", 2), pending("d", 2)),
        ] {
            assert!(want.is(&right), "{want:?}");
            assert!(!want.is(&wrong) && !want.is(&Value::Null) && !want.is(&Value::Error("ERR".into())), "{want:?}");
        }
    }

    /// What is missing, expires otherwise, is of another type, size or value is said; another encoding is no difference.
    #[test]
    fn differences() {
        let dump = |kind, bytes: &[u8]| crate::rdb::dump(kind, bytes, 10);
        use crate::rdb::Kind::{List, Set, String};
        let set = dump(Set, &[2, 1, b'a', 1, b'b']);
        let check = |other: Option<Bytes>, expiry: i64, expect: Option<&str>| {
            let other = other.map_or(Value::Null, Value::Bulk);
            let found = difference(&set, Some(7), Some(&other), Some(&Value::Int(expiry)));
            assert_eq!(found.as_deref(), expect);
        };
        check(Some(set.clone()), 7, None);
        check(Some(dump(Set, &[2, 1, b'b', 1, b'a'])), 7, None);
        check(None, -2, Some("missing on the target"));
        check(Some(set.clone()), 8, Some("expires at 7 ms in the backup, at 8 ms on the target"));
        check(Some(set.clone()), -1, Some("expires at 7 ms in the backup, never on the target"));
        check(Some(dump(List, &[1, 1, b'a'])), 7, Some("set in the backup, list on the target"));
        check(Some(dump(Set, &[1, 1, b'a'])), 7, Some("set of 2 in the backup, of 1 on the target"));
        check(Some(dump(Set, &[2, 1, b'a', 1, b'c'])), 7, Some("another value on the target"));
        check(Some(dump(String, &[1, b'a'])), 7, Some("set in the backup, string on the target"));
    }
}
