//! Do watches tell what they promise?
//!
//! etcd's guarantees, each checked on what a watch delivered, across all its resumptions: **ordered** by revision;
//! **unique**: no event twice; **reliable**: none missing; **atomic**: a revision comes whole, in one piece;
//! **resumable**: whatever was broken off goes on without a gap; **bookmarkable**: after progress to a revision nothing
//! of it or before it comes. And against the answers that the writers got: what was **acknowledged** is told as it was
//! written, at its revision, and nothing is told that nobody wrote, or more than **once**.

use std::{collections::BTreeMap, sync::Arc};

use regrow_store::{Error, EventKind, KeyRange, KeyValue, Revision, Store, WatchItem, WatchRequest};
use tokio::sync::watch::Receiver;

use super::{
    Random, Wrong,
    history::{Answer, Call, Operation, name, number, value},
};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub revision: i64,
    pub key: Vec<u8>,
    /// None: deleted.
    pub value: Option<Vec<u8>>,
    pub version: i64,
}

/// What came in one piece.
#[derive(Debug, Clone)]
pub enum Item {
    Events(Vec<Seen>),
    Progress(i64),
}

/// All that one watcher was told.
#[derive(Debug, Clone)]
pub struct Watched {
    pub request: WatchRequest,
    pub how: How,
    pub items: Vec<Item>,
    /// How often it began again.
    pub resumed: usize,
}

/// How a watcher reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// All the time.
    Steady,
    /// Breaks off now and then, and goes on behind the last event.
    Restless,
    /// Asks how far it is now and then, breaks off, and goes on behind what it was told.
    Marked,
    /// Not before all is over.
    Late,
}

/// Watches from the request's revision, which must be one, until it has been told of everything up to the revision that
/// `until` gets in the end.
pub async fn follow(
    store: Arc<dyn Store>,
    request: WatchRequest,
    how: How,
    mut until: Receiver<Option<i64>>,
) -> Watched {
    let mut watched = Watched { request: request.clone(), how, items: Vec::new(), resumed: 0 };
    let mut random = Random::new(request.start_revision.0 as u64 ^ how as u64);
    let mut next = request.start_revision;
    'resume: loop {
        let mut watch = match store.watch(request.clone().from(next)).await {
            Ok(watch) => watch,
            Err(Error::Unavailable { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        if how == How::Late {
            let _ = until.wait_for(Option::is_some).await;
        }
        let patience = 1 + random.below(20);
        let mut came = 0;
        loop {
            if until.borrow().is_some() || (how == How::Marked && came >= patience) {
                watch.request_progress();
            }
            let item = tokio::select! {
                item = watch.next() => item,
                Ok(()) = until.changed() => continue,
            };
            match item {
                Some(Ok(WatchItem::Events { events, .. })) => {
                    next = events.last().map_or(next, |event| event.kv.mod_revision.next());
                    watched
                        .items
                        .push(Item::Events(events.into_iter().map(|event| seen(event.kind, event.kv)).collect()));
                }
                Some(Ok(WatchItem::Progress { revision })) => {
                    watched.items.push(Item::Progress(revision.0));
                    if how == How::Marked {
                        next = revision.next();
                    }
                    if until.borrow().is_some_and(|until| revision.0 >= until) {
                        return watched;
                    }
                }
                Some(Err(Error::Unavailable { .. })) | None => {
                    watched.resumed += 1;
                    continue 'resume;
                }
                Some(Err(error)) => panic!("{error}"),
            }
            came += 1;
            let told = matches!(watched.items.last(), Some(Item::Progress(_)));
            if came >= patience && until.borrow().is_none() && (how == How::Restless || (how == How::Marked && told)) {
                watched.resumed += 1;
                continue 'resume;
            }
        }
    }
}

fn seen(kind: EventKind, kv: KeyValue) -> Seen {
    let value = (kind == EventKind::Put).then(|| kv.value.to_vec());
    Seen { revision: kv.mod_revision.0, key: kv.key.to_vec(), value, version: kv.version }
}

/// Everything that happened, by revision.
type Truth = BTreeMap<i64, Vec<Seen>>;

/// Checks what watchers were told against each other and against the history. `all` watched every key steadily, and
/// everybody watched up to `until`; `kvs` is what the store has then.
pub fn check(
    history: &[Operation],
    all: &Watched,
    watched: &[Watched],
    until: i64,
    kvs: &[KeyValue],
) -> Result<(), Wrong> {
    for one in watched.iter().chain([all]) {
        alone(one)?;
    }
    let from = all.request.start_revision.0;
    let mut truth = Truth::new();
    for seen in events(all) {
        truth.entry(seen.revision).or_default().push(seen.clone());
    }
    if let Some(gap) = (from..=until).find(|revision| !truth.contains_key(revision)) {
        return Err(Wrong::new("reliable", format!("nobody was told of revision {gap}")));
    }
    for one in watched {
        against(one, &truth, until)?;
    }
    acknowledged(history, &truth)?;
    once(history, &truth)?;
    state(&truth, until, kvs)
}

fn events(watched: &Watched) -> impl Iterator<Item = &Seen> {
    fn of(item: &Item) -> &[Seen] {
        if let Item::Events(events) = item { events } else { &[] }
    }
    watched.items.iter().flat_map(of)
}

/// What can be seen from one watcher alone.
fn alone(watched: &Watched) -> Result<(), Wrong> {
    let of = |text: String| format!("{:?} {:?}: {text}", watched.how, watched.request);
    let (mut last, mut mark) = (watched.request.start_revision.0 - 1, 0);
    let mut told: Vec<&Seen> = Vec::new();
    for item in &watched.items {
        match item {
            Item::Events(events) => {
                for (at, seen) in events.iter().enumerate() {
                    let revision = seen.revision;
                    let mut since = told.iter().rev().take_while(|told| told.revision >= revision);
                    if since.any(|told| told.revision == revision && told.key == seen.key) {
                        return Err(Wrong::new("unique", of(format!("{revision} of {} twice", text(&seen.key)))));
                    }
                    if revision < last {
                        return Err(Wrong::new("ordered", of(format!("{revision} after {last}"))));
                    }
                    if revision <= mark {
                        return Err(Wrong::new("bookmarkable", of(format!("{revision} after progress to {mark}"))));
                    }
                    if revision == last && at == 0 {
                        return Err(Wrong::new("atomic", of(format!("{revision} comes in pieces"))));
                    }
                    last = revision;
                    told.push(seen);
                }
            }
            Item::Progress(revision) => mark = mark.max(*revision),
        }
    }
    Ok(())
}

/// What a watcher was told is what happened to its keys.
fn against(watched: &Watched, truth: &Truth, until: i64) -> Result<(), Wrong> {
    let of = |text: String| format!("{:?} {:?}: {text}", watched.how, watched.request);
    let range: KeyRange = watched.request.range();
    let from = watched.request.start_revision.0;
    let wanted = truth.range(from..=until).flat_map(|(_, events)| events).filter(|seen| {
        let kind = if seen.value.is_some() { !watched.request.no_put } else { !watched.request.no_delete };
        kind && range.contains(&seen.key)
    });
    let mut told = events(watched).filter(|seen| seen.revision <= until);
    for wanted in wanted {
        match told.next() {
            Some(told) if told == wanted => {}
            Some(told) if told.revision == wanted.revision => {
                return Err(Wrong::new("atomic", of(format!("{told:?}, and others were told {wanted:?}"))));
            }
            Some(told) if told.revision < wanted.revision => {
                return Err(Wrong::new("once", of(format!("nobody else was told {told:?}"))));
            }
            other => return Err(Wrong::new("reliable", of(format!("not told {wanted:?}, but {other:?}")))),
        }
    }
    match told.next() {
        Some(told) => Err(Wrong::new("once", of(format!("nobody else was told {told:?}")))),
        None => Ok(()),
    }
}

/// Every write that was acknowledged is at its revision, whole, and alone.
fn acknowledged(history: &[Operation], truth: &Truth) -> Result<(), Wrong> {
    let mut writers: BTreeMap<i64, &Operation> = BTreeMap::new();
    for operation in history {
        let (revision, writes) = match (&operation.call, &operation.answer) {
            (Call::Put { key, value, .. }, Answer::Done { revision, .. }) => (revision, vec![(*key, Some(*value))]),
            (Call::Delete { key }, Answer::Done { revision, before: Some(_) }) => (revision, vec![(*key, None)]),
            (Call::Swap { puts, .. }, Answer::Succeeded { revision }) => {
                (revision, puts.iter().map(|(key, value)| (*key, Some(*value))).collect())
            }
            _ => continue,
        };
        if let Some(other) = writers.insert(*revision, operation) {
            return Err(Wrong::new("once", format!("{operation:?} and {other:?} have one revision")));
        }
        let mut expect: Vec<_> = writes.iter().map(|(key, value)| (name(operation.group, *key), *value)).collect();
        let none = Vec::new();
        let found = truth.get(revision).unwrap_or(&none).iter();
        let mut found: Vec<_> = found.map(|seen| (text(&seen.key), seen.value.as_deref().map(value))).collect();
        expect.sort();
        found.sort();
        if expect != found {
            return Err(Wrong::new("acknowledged", format!("{operation:?}, but watches tell {found:?}")));
        }
    }
    Ok(())
}

/// Every value told was written by somebody, and told at one revision.
fn once(history: &[Operation], truth: &Truth) -> Result<(), Wrong> {
    let mut written: BTreeMap<(usize, usize, u64), Option<i64>> = BTreeMap::new();
    for operation in history {
        let puts = match &operation.call {
            Call::Put { key, value, .. } => vec![(*key, *value)],
            Call::Swap { puts, .. } => puts.clone(),
            _ => continue,
        };
        written.extend(puts.into_iter().map(|(key, value)| ((operation.group, key, value), None)));
    }
    for seen in truth.values().flatten() {
        let (Some((group, key)), Some(bytes)) = (number(&seen.key), &seen.value) else { continue };
        match written.get_mut(&(group, key, value(bytes))) {
            Some(None) => drop(written.insert((group, key, value(bytes)), Some(seen.revision))),
            Some(Some(first)) => {
                return Err(Wrong::new("once", format!("{seen:?} was told at revision {first} before")));
            }
            None => return Err(Wrong::new("once", format!("{seen:?} was written by nobody"))),
        }
    }
    Ok(())
}

/// What was told adds up to what the store has.
fn state(truth: &Truth, until: i64, kvs: &[KeyValue]) -> Result<(), Wrong> {
    let mut keys: BTreeMap<&[u8], &Seen> = BTreeMap::new();
    for seen in truth.range(..=until).flat_map(|(_, events)| events) {
        match seen.value {
            Some(_) => drop(keys.insert(&seen.key, seen)),
            None => drop(keys.remove(&seen.key[..])),
        }
    }
    let told: Vec<_> = keys.values().filter(|seen| number(&seen.key).is_some()).map(|seen| (*seen).clone()).collect();
    let has: Vec<_> = kvs.iter().map(|kv| seen(EventKind::Put, kv.clone())).collect();
    if told != has {
        return Err(Wrong::new("reliable", format!("watches tell of {told:?}\nand the store has {has:?}")));
    }
    Ok(())
}

fn text(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// The revision at which a store is.
pub async fn now(store: &dyn Store) -> Revision {
    store.range(regrow_store::RangeRequest::key("lin/none")).await.expect("it answers").revision
}
