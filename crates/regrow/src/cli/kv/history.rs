//! `kv history` and `diff`: what the store still knows of before.

use super::show;
use crate::exit::{Code, Failure, print};
use crate::reach::{Reach, failed};
use crate::runtime::clock_text;
use clap::Args;
use regrow_model::Time;
use regrow_store::Pages;
use regrow_store::{Error, Event, EventKind, KeyValue, RangeRequest, Remote, Revision, Store, WatchItem, WatchRequest};
use serde_json::{Map, Value};
use std::cmp::Ordering;

/// Print every value that a key had, oldest first
///
/// As far back as the store has kept. A line for each: the revision, put or
/// delete, the value. Regrow's own records say when they were written; of other
/// keys the store does not know.
///
/// Example:
///   regrow kv history /regrow/desired/group/web
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct History {
    /// The key
    key: String,
    /// At most so many of the newest
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// A JSON object a line instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl History {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let events = history(store, &self.key).await.map_err(failed)?;
        if events.is_empty() {
            return Err(Failure::new(Code::NotFound, format!("nothing is kept of a key `{}`", self.key)));
        }
        let skip = events.len().saturating_sub(self.limit.unwrap_or(usize::MAX));
        for event in &events[skip..] {
            let at = written(&event.kv.value);
            if self.json {
                let mut object = show::event(event);
                if let (Some(at), Value::Object(fields)) = (at, &mut object) {
                    fields.insert("at".into(), at.0.into());
                }
                print(&format!("{object}\n"))?;
                continue;
            }
            let (revision, verb) = (event.kv.mod_revision, show::verb(event.kind));
            let at = at.map_or("-".to_owned(), clock_text);
            let line = format!("{revision}\t{at}\t{verb}\t{}", show::line(&event.kv.value));
            print(&format!("{}\n", line.trim_end_matches('\t')))?;
        }
        Ok(())
    }
}

/// When a record of Regrow's own was written, as it says itself.
fn written(value: &[u8]) -> Option<Time> {
    let value: Value = serde_json::from_slice(value).ok()?;
    ["at", "since"].iter().find_map(|field| value[field].as_u64()).map(Time)
}

/// What happened to a key since the oldest revision kept; first the key as it was then.
///
/// A watch does not say when it has told all: etcd before 3.4.25 and 3.5.8 answers a request for progress before the
/// events are there. So its end is an event that must come: the one that made the key what it is, or, where there is no
/// such key, the store's last one, of whichever key.
async fn history(store: &Remote, key: &str) -> Result<Vec<Event>, Error> {
    let now = store.range(RangeRequest::key(key.to_owned())).await?;
    let found = now.kvs.first().map(|kv| kv.mod_revision);
    let last = found.unwrap_or(now.revision);
    let request = match found {
        Some(_) => WatchRequest::key(key.to_owned()),
        None => WatchRequest::prefix(""),
    };
    let (mut events, mut next): (Vec<Event>, _) = (Vec::new(), Revision(2));
    while next <= last {
        let mut watch = store.watch(request.clone().from(next)).await?;
        loop {
            match watch.next().await {
                Some(Ok(WatchItem::Events { events: more, .. })) => {
                    let told = more.last().map_or(next, |event| event.kv.mod_revision);
                    events
                        .extend(more.into_iter().filter(|event| event.kv.key == key && event.kv.mod_revision <= last));
                    if told >= last {
                        return Ok(events);
                    }
                }
                Some(Ok(WatchItem::Progress { .. })) => {}
                Some(Err(Error::Compacted { compacted, .. })) if compacted >= next => {
                    let request = RangeRequest { revision: compacted, ..RangeRequest::key(key.to_owned()) };
                    let base = store.range(request).await?.kvs.into_iter().next();
                    events = base.map(|kv| Event { kind: EventKind::Put, kv, prev_kv: None }).into_iter().collect();
                    next = Revision(compacted.0 + 1);
                    break;
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(events),
            }
        }
    }
    Ok(events)
}

/// Print what changed between two revisions
///
/// A line for each key: + is new, - is gone, ~ has another value.
///
/// Example:
///   regrow kv diff --from 17 --to 23 /regrow/desired/
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Diff {
    /// What the keys begin with. Default: all
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// The older revision
    #[arg(long, value_name = "N")]
    from: i64,
    /// The newer one. Default: now
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    to: i64,
    /// A JSON object a line instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Diff {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        if self.from < 1 || self.to != 0 && self.to < self.from {
            return Err(Failure::usage("--from must be 1 or more, and --to not before it"));
        }
        let mut before = Pages::of(store, self.prefix.clone(), Revision(self.from));
        let mut after = Pages::of(store, self.prefix.clone(), Revision(self.to));
        let mut old = before.next().await.map_err(failed)?;
        let mut new = after.next().await.map_err(failed)?;
        loop {
            let order = match (&old, &new) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.key.cmp(&new.key),
            };
            self.tell(old.as_ref().filter(|_| order.is_le()), new.as_ref().filter(|_| order.is_ge()))?;
            if order.is_le() {
                old = before.next().await.map_err(failed)?;
            }
            if order.is_ge() {
                new = after.next().await.map_err(failed)?;
            }
        }
    }

    fn tell(&self, old: Option<&KeyValue>, new: Option<&KeyValue>) -> Result<(), Failure> {
        let same = old.map(|kv| (&kv.value, kv.lease)) == new.map(|kv| (&kv.value, kv.lease));
        let Some(kv) = new.or(old).filter(|_| !same) else { return Ok(()) };
        if self.json {
            let mut object = Map::new();
            show::field(&mut object, "key", &kv.key);
            for (name, kv) in [("old", old), ("new", new)] {
                if let Some(kv) = kv {
                    show::field(&mut object, name, &kv.value);
                    object.insert(format!("{name}_revision"), kv.mod_revision.0.into());
                }
            }
            return print(&format!("{}\n", Value::Object(object)));
        }
        let key = show::line(&kv.key);
        print(&match (old, new) {
            (None, _) => format!("+ {key}\t{}\n", show::line(&kv.value)),
            (_, None) => format!("- {key}\t{}\n", show::line(&kv.value)),
            (Some(old), Some(new)) => {
                format!("~ {key}\n  - {}\n  + {}\n", show::line(&old.value), show::line(&new.value))
            }
        })
    }
}
