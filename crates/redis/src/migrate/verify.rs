//! Compares both sides, key by key and both ways, on its own: it reads values by `DUMP` and by ranges, and knows nothing of how
//! they were copied.
//!
//! Live writes go on meanwhile, so a difference counts only when it is stable: the source's value was the same before and after
//! the target's was read, and the target had applied all that the source had written before the first reading.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::slot_set::SlotSet;

use super::big;
use super::board::shown;
use super::carrier::{Answer, Carrier, Job};
use super::content::{content, first_missing};
use super::error::MigrateError;
use super::hold::{is_held, release};
use super::live::{Seen, read_at};
use super::load::{in_db, value};
use super::options::{Shared, now_ms};
use super::scan::{Scan, bearable, bearable_bytes};
use super::telling::Telling;

/// Values above this are compared, and by scan also copied, in ranges, without a `DUMP`.
pub(super) const BIG_BYTES: u64 = 8 << 20;
/// Bytes of values asked for at once, about, of the keys written last: they are compared while the source's writers are paused.
const TAIL_BYTES: u64 = 32 << 20;
/// Keys looked at again at once.
const AGAIN_AT_ONCE: usize = 500;
/// Keys that look different and wait for a second look, at most.
const DOUBTS_MAX: usize = 10_000;
/// Differences named, at most; the others are counted.
const NAMED_MAX: usize = 10_000;
/// Looks at a key that seems different, at most.
const LOOKS_MAX: u32 = 40;
/// Looks that must find the same difference.
const STABLE_LOOKS: u32 = 2;
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Every key.
    All,
    /// About one key in this many, always the same ones.
    Sample(u32),
}

/// A difference that stays.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The key, as text.
    pub key: String,
    /// The database of the source.
    pub db: u32,
    /// What is different.
    pub what: String,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Keys compared.
    pub keys: u64,
    /// Differences.
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Keys that changed at every look and could not be compared.
    pub unsettled: Vec<String>,
}

impl Verdict {
    /// Whether nothing speaks against it.
    pub fn equal(&self) -> bool {
        self.different == 0 && self.unsettled.is_empty()
    }
}

/// Compares.
#[derive(Debug)]
pub struct Verifier {
    shared: Shared,
    source: Carrier,
    target: Carrier,
    feeds: Vec<SlotSet>,
    extent: Extent,
    /// Bytes of values asked for at once, about.
    batch_bytes: u64,
    /// Milliseconds by which two expiries may differ.
    tolerance_ms: u64,
    /// Whether live writes go on.
    live: bool,
    verdict: Verdict,
}

/// What is known of a key on one side: bytes, expiry.
type Look = Option<(u64, Option<u64>)>;

impl Verifier {
    /// A verifier. `live`: feeds are being applied meanwhile, and a position can be waited for.
    pub fn new(shared: &Shared, feeds: Vec<SlotSet>, extent: Extent, tolerance_ms: u64, live: bool) -> Self {
        let who = std::sync::Arc::new(shared.to_target("verify"));
        Self {
            source: shared.source_carrier(),
            target: shared.carrier(&who),
            shared: shared.clone(),
            feeds,
            extent,
            batch_bytes: TAIL_BYTES,
            tolerance_ms,
            live,
            verdict: Verdict::default(),
        }
    }

    /// Compares both sides. `tell` is told how many keys have been compared.
    pub async fn run(mut self, tell: &mut (dyn FnMut(u64) + Send)) -> Result<Verdict, MigrateError> {
        let map: BTreeMap<u32, u32> = self.shared.options.databases.clone();
        let mut doubts: Vec<(u32, Bytes)> = Vec::new();
        let at_once = bearable(&mut self.source).await?;
        self.batch_bytes = bearable_bytes(at_once);
        let scan = Scan::new(&self.source, &map.keys().copied().collect::<Vec<_>>()).await?;
        let mut scan = scan.in_steps_of(at_once);
        while let Some((db, keys)) = scan.next(&mut self.source).await? {
            let keys: Vec<Bytes> = keys.into_iter().filter(|key| self.wanted(key)).collect();
            let Some(to) = map.get(&db).copied() else { continue };
            self.verdict.keys += keys.len() as u64;
            doubts.extend(self.compare(db, to, &keys).await?.into_iter().map(|key| (db, key)));
            self.settle(&mut doubts, false).await?;
            tell(self.verdict.keys);
        }
        let back: BTreeMap<u32, u32> = map.iter().map(|(from, to)| (*to, *from)).collect();
        let scan = Scan::new(&self.target, &back.keys().copied().collect::<Vec<_>>()).await?;
        let mut scan = scan.in_steps_of(at_once);
        while let Some((to, keys)) = scan.next(&mut self.target).await? {
            let keys: Vec<Bytes> = keys.into_iter().filter(|key| self.wanted(key)).collect();
            let Some(from) = back.get(&to).copied() else { continue };
            let jobs = self.jobs(false, from, &keys, |key| vec![Command::new("EXISTS").arg(key)]);
            let found = self.source.carry(jobs).await?;
            let gone = |answer: &Answer| number(answer, from) == Some(0);
            doubts.extend(keys.into_iter().zip(&found).filter(|(_, found)| gone(found)).map(|(key, _)| (from, key)));
            self.settle(&mut doubts, false).await?;
        }
        self.settle(&mut doubts, true).await?;
        Ok(self.verdict)
    }

    /// Compares some keys only, by database of the source.
    pub async fn only(mut self, keys: Vec<(u32, Bytes)>) -> Result<Verdict, MigrateError> {
        self.verdict.keys = keys.len() as u64;
        let mut doubts = Vec::new();
        let mut by_db: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
        keys.into_iter().for_each(|(db, key)| by_db.entry(db).or_default().push(key));
        for (db, keys) in by_db {
            let Some(to) = self.shared.options.databases.get(&db).copied() else { continue };
            for keys in keys.chunks(1000) {
                doubts.extend(self.compare(db, to, keys).await?.into_iter().map(|key| (db, key)));
            }
        }
        self.settle(&mut doubts, true).await?;
        Ok(self.verdict)
    }

    fn wanted(&self, key: &[u8]) -> bool {
        match self.extent {
            Extent::All => true,
            Extent::Sample(one_in) => u64::from(crate::slot::crc16(key)) * 40_503 % u64::from(one_in.max(1)) == 0,
        }
    }

    fn jobs(&self, target: bool, db: u32, keys: &[Bytes], ask: impl Fn(&Bytes) -> Vec<Command>) -> Vec<Job> {
        let lanes = if target { &self.shared.lanes } else { &self.shared.source_lanes };
        keys.iter().map(|key| Job::plain(lanes.of(key), in_db(db, ask(key)))).collect()
    }

    /// The keys that seem different.
    async fn compare(&mut self, from: u32, to: u32, keys: &[Bytes]) -> Result<Vec<Bytes>, MigrateError> {
        let telling = self.shared.source.telling();
        let (source, target) =
            (self.jobs(false, from, keys, look(telling)), self.jobs(true, to, keys, look(Telling::Absolute)));
        let (source, target) = tokio::try_join!(self.source.carry(source), self.target.carry(target))?;
        let mut doubts = Vec::new();
        let (mut small, mut bytes) = (Vec::new(), 0);
        for (key, (source, target)) in keys.iter().zip(source.iter().zip(&target)) {
            let (source, target) = (look_of(source, from, telling), look_of(target, to, Telling::Absolute));
            match (source, target) {
                (None, None) => {}
                (Some((size, expiry)), Some((other, also))) if self.expiries_agree(expiry, also) => {
                    if size.max(other) > BIG_BYTES {
                        if big::difference(&mut self.source, from, &mut self.target, to, key).await?.is_some() {
                            doubts.push(key.clone());
                        }
                        continue;
                    }
                    small.push(key.clone());
                    bytes += size;
                    if bytes >= self.batch_bytes {
                        doubts.extend(self.compare_values(from, to, &small).await?);
                        small.clear();
                        bytes = 0;
                    }
                }
                _ => doubts.push(key.clone()),
            }
        }
        doubts.extend(self.compare_values(from, to, &small).await?);
        Ok(doubts)
    }

    async fn compare_values(&mut self, from: u32, to: u32, keys: &[Bytes]) -> Result<Vec<Bytes>, MigrateError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let ask = |key: &Bytes| vec![Command::new("DUMP").arg(key)];
        let (source, target) = (self.jobs(false, from, keys, ask), self.jobs(true, to, keys, ask));
        let (source, target) = tokio::try_join!(self.source.carry(source), self.target.carry(target))?;
        let same = |source: &Answer, target: &Answer| match (value(source, from), value(target, to)) {
            (Some(source), Some(target)) => same_value(source.bytes(), target.bytes()),
            _ => false,
        };
        let pairs = keys.iter().zip(source.iter().zip(&target));
        Ok(pairs.filter(|(_, (source, target))| !same(source, target)).map(|(key, _)| key.clone()).collect())
    }

    fn expiries_agree(&self, source: Option<u64>, target: Option<u64>) -> bool {
        match (source, target.map(release)) {
            (None, None) => true,
            (Some(a), Some(b)) => a.abs_diff(b) <= self.tolerance_ms,
            _ => false,
        }
    }

    /// Looks again at keys that seem different, until that is settled: when there are many, or at the end.
    async fn settle(&mut self, doubts: &mut Vec<(u32, Bytes)>, end: bool) -> Result<(), MigrateError> {
        if !end && doubts.len() < DOUBTS_MAX {
            return Ok(());
        }
        let mut open: Vec<(u32, Bytes, u32)> = doubts.drain(..).map(|(db, key)| (db, key, 0)).collect();
        for look in 0..LOOKS_MAX {
            if open.is_empty() {
                return Ok(());
            }
            if look > 0 {
                sleep(LOOK_EVERY).await;
            }
            let mut left = Vec::new();
            for some in open.chunk_by(|a, b| a.0 == b.0).flat_map(|same| same.chunks(AGAIN_AT_ONCE)) {
                let again = self.look_again(some[0].0, some.iter().map(|(_, key, _)| key)).await?;
                for ((db, key, stable), again) in some.iter().zip(again) {
                    match again {
                        Again::Same => {}
                        Again::Moving => left.push((*db, key.clone(), 0)),
                        Again::Different(_) if stable + 1 < STABLE_LOOKS => {
                            self.touch(*db, std::slice::from_ref(key));
                            left.push((*db, key.clone(), stable + 1));
                        }
                        Again::Different(what) => {
                            self.verdict.different += 1;
                            if self.verdict.differences.len() < NAMED_MAX {
                                self.verdict.differences.push(Difference { key: shown(key), db: *db, what });
                            }
                        }
                    }
                }
            }
            open = left;
        }
        let room = NAMED_MAX.saturating_sub(self.verdict.unsettled.len());
        self.verdict.unsettled.extend(open.into_iter().take(room).map(|(_, key, _)| shown(&key)));
        Ok(())
    }

    /// Looks again at keys of one database; what each is, in their order.
    async fn look_again(
        &mut self,
        db: u32,
        keys: impl Iterator<Item = &Bytes> + Send,
    ) -> Result<Vec<Again>, MigrateError> {
        let Some(to) = self.shared.options.databases.get(&db).copied() else { return Ok(Vec::new()) };
        let keys: Vec<Bytes> = keys.cloned().collect();
        let telling = self.shared.source.telling();
        let sizes = self.source.carry(self.jobs(false, db, &keys, look(telling))).await?;
        let (mut done, mut small, mut bytes) = (Vec::with_capacity(keys.len()), Vec::new(), 0);
        for (key, size) in keys.into_iter().zip(&sizes) {
            match look_of(size, db, telling) {
                Some((size, expiry)) if size > BIG_BYTES => {
                    done.extend(self.look_again_small(db, to, std::mem::take(&mut small)).await?);
                    bytes = 0;
                    done.push(self.look_again_big(db, to, &key, expiry).await?);
                }
                look => {
                    bytes += look.map_or(0, |(size, _)| size);
                    small.push(key);
                    if bytes >= self.batch_bytes {
                        done.extend(self.look_again_small(db, to, std::mem::take(&mut small)).await?);
                        bytes = 0;
                    }
                }
            }
        }
        done.extend(self.look_again_small(db, to, small).await?);
        Ok(done)
    }

    async fn look_again_small(&mut self, db: u32, to: u32, keys: Vec<Bytes>) -> Result<Vec<Again>, MigrateError> {
        let before = read_at(&mut self.source, db, &keys).await?;
        self.wait_for_all(&keys, before.iter().map(|(_, at)| *at)).await?;
        let look =
            self.jobs(true, to, &keys, |key| vec![Command::new("DUMP").arg(key), Command::new("PEXPIRETIME").arg(key)]);
        let target = self.target.carry(look).await?;
        let after = read_at(&mut self.source, db, &keys).await?;
        let looks = before.into_iter().zip(target).zip(after);
        let judged = looks.map(|(((before, _), answer), (after, _))| {
            let dump = value(&answer, to).and_then(Value::bytes).cloned();
            self.judge(before, dump.map(|dump| (dump, expiry_of(&answer, to, Telling::Absolute))), after)
        });
        Ok(judged.collect())
    }

    /// What a value of the target is beside that of the source before and after it was read.
    fn judge(&self, before: Seen, target: Option<(Bytes, Option<u64>)>, after: Seen) -> Again {
        if self.agree(&before, &target).is_none() || self.agree(&after, &target).is_none() {
            return Again::Same;
        }
        if before != after
            && self.agree(&before, &after.map(|(dump, at)| (dump, Some(at).filter(|at| *at > 0)))).is_some()
        {
            return Again::Moving;
        }
        self.agree(&before, &target).map_or(Again::Same, Again::Different)
    }

    async fn look_again_big(
        &mut self,
        db: u32,
        to: u32,
        key: &Bytes,
        expiry: Option<u64>,
    ) -> Result<Again, MigrateError> {
        if self.shared.options.by_scan {
            self.wait_for_all(std::slice::from_ref(key), std::iter::once(0)).await?;
        }
        let ask = self.jobs(true, to, std::slice::from_ref(key), |key| {
            vec![Command::new("EXISTS").arg(key), Command::new("PEXPIRETIME").arg(key)]
        });
        let answers = self.target.carry(ask).await?;
        let there = answers.first().and_then(|answer| number(answer, to)) == Some(1);
        let also = answers.first().and_then(|answer| expiry_of(answer, to, Telling::Absolute));
        if !there {
            return Ok(Again::Different("missing on the target".to_owned()));
        }
        if !self.expiries_agree(expiry, also) {
            return Ok(Again::Different(expiries_differ(expiry, also)));
        }
        let found = big::difference(&mut self.source, db, &mut self.target, to, key).await?;
        Ok(found.map_or(Again::Same, Again::Different))
    }

    /// What is different between a value of the source (expiry 0: none) and one of the target.
    fn agree(&self, source: &Option<(Bytes, u64)>, target: &Option<(Bytes, Option<u64>)>) -> Option<String> {
        match (source, target) {
            (None, None) => None,
            (Some(_), None) => Some("missing on the target".to_owned()),
            // The source removes what has expired in its own time, and not at all while its writers are paused.
            (None, Some((_, Some(expiry)))) if is_held(*expiry) && release(*expiry) <= now_ms() => None,
            (None, Some(_)) => Some("not on the source".to_owned()),
            (Some((a, expires)), Some((b, also))) => {
                let expires = Some(*expires).filter(|at| *at > 0);
                if !self.expiries_agree(expires, *also) {
                    return Some(expiries_differ(expires, *also));
                }
                if same_value(Some(a), Some(b)) {
                    return None;
                }
                Some(match (content(a), content(b)) {
                    (Ok(a), Ok(b)) if a.kind != b.kind => format!("{} on the source, {} on the target", a.kind, b.kind),
                    (Ok(a), Ok(b)) if a.count != b.count => {
                        let unit = if a.kind == "string" { "bytes" } else { "elements" };
                        format!("{} of {} {unit} on the source, {} on the target", a.kind, a.count, b.count)
                    }
                    (Ok(print), Ok(_)) => {
                        let part = first_missing(a, b).unwrap_or_else(|| "the order".to_owned());
                        format!(
                            "another value of the same size ({} of {}): not on the target: {part}",
                            print.kind, print.count
                        )
                    }
                    (Err(error), _) | (_, Err(error)) => format!("cannot be read: {}", crate::admin::chain(&error)),
                })
            }
        }
    }

    /// Waits until the target has applied all up to when keys were read: positions of the source's stream, which mean nothing where it is
    /// read by scan.
    async fn wait_for_all(&self, keys: &[Bytes], at: impl Iterator<Item = u64>) -> Result<(), MigrateError> {
        let scans = if self.live { &*self.shared.scans } else { &[] };
        let mut positions = Vec::new();
        for changes in scans {
            positions.push(changes.position(false, &self.shared.board).await?);
        }
        for (key, at) in keys.iter().zip(at) {
            let at = positions.get(self.feed_of(key)).copied().unwrap_or(at);
            self.wait_for(key, at).await?;
        }
        Ok(())
    }

    fn feed_of(&self, key: &[u8]) -> usize {
        self.feeds.iter().position(|slots| slots.contains(Slot::of_key(key))).unwrap_or(0)
    }

    /// By scan, a key that seems different may have changed without an event: it is copied anew before it counts.
    fn touch(&self, db: u32, keys: &[Bytes]) {
        let scans = if self.live { &*self.shared.scans } else { &[] };
        for (feed, changes) in scans.iter().enumerate() {
            let own: Vec<&Bytes> = keys.iter().filter(|key| self.feed_of(key) == feed).collect();
            self.shared.board.silent(own.iter().copied());
            changes.touch(own.into_iter().map(|key| (db, key.clone())));
        }
    }

    /// Waits until the target has applied all up to a position of the source's stream.
    async fn wait_for(&self, key: &[u8], at: u64) -> Result<(), MigrateError> {
        if !self.live {
            return Ok(());
        }
        let feed = self.feed_of(key);
        while !self.shared.board.has(feed, at) {
            tokio::select! {
                () = sleep(Duration::from_millis(2)) => {}
                () = self.shared.board.stopped() => return Err(MigrateError::Stopped),
            }
        }
        Ok(())
    }
}

/// Asks for the memory that a key uses.
pub(super) fn size_of_key(key: &Bytes) -> Command {
    Command::new("MEMORY USAGE").arg(key).arg("SAMPLES").arg("1")
}

/// Asks for a key's size and expiry.
fn look(telling: Telling) -> impl Fn(&Bytes) -> Vec<Command> {
    move |key| {
        let mut ask = vec![size_of_key(key)];
        ask.extend(telling.ask(key));
        ask
    }
}

enum Again {
    Same,
    Moving,
    Different(String),
}

fn expiries_differ(source: Option<u64>, target: Option<u64>) -> String {
    let text = |at: Option<u64>| at.map_or("never".to_owned(), |at| format!("at {at} ms"));
    format!("expires {} on the source, {} on the target", text(source), text(target.map(release)))
}

fn same_value(source: Option<&Bytes>, target: Option<&Bytes>) -> bool {
    match (source, target) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b || matches!((content(a), content(b)), (Ok(a), Ok(b)) if a.same(&b)),
        _ => false,
    }
}

fn number(answer: &Answer, db: u32) -> Option<i64> {
    value(answer, db)?.int()
}

/// The second answer as an expiry; none where there is none.
fn expiry_of(answer: &Answer, db: u32, telling: Telling) -> Option<u64> {
    let Answer::Values(values) = answer else { return None };
    telling.of(values.get(usize::from(db != 0) + 1..)?)
}

/// Bytes and expiry; `None`: there is no such key.
fn look_of(answer: &Answer, db: u32, telling: Telling) -> Look {
    let size = u64::try_from(number(answer, db)?).ok()?;
    Some((size, expiry_of(answer, db, telling)))
}
