//! `kv get`, `ls` and `watch`.

use super::show;
use crate::exit::{Code, Failure, print, print_bytes, print_json};
use crate::reach::{Reach, failed};
use clap::Args;
use regrow_store::Pages;
use regrow_store::{KeyValue, RangeRequest, Remote, Revision, Store, WatchItem, WatchRequest};
use serde_json::{Map, Value};

/// Print a key's value, as it is
///
/// With --prefix: a line for each key, key and value with a tab between them;
/// what is no printable text is escaped. Without such a key the code is 4.
///
/// Examples:
///   regrow kv get color
///   regrow kv get app/ --prefix --json
///   regrow kv get color --revision 17
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Get {
    /// The key
    key: String,
    /// All keys that begin with it
    #[arg(long)]
    prefix: bool,
    /// At most so many keys
    #[arg(long, value_name = "N", requires = "prefix")]
    limit: Option<usize>,
    /// As it was at this revision
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    revision: i64,
    /// JSON instead of text, with revisions and lease
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Get {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let revision = Revision(self.revision);
        if self.prefix {
            let limit = self.limit.unwrap_or(usize::MAX);
            return each(store, RangeRequest { revision, ..RangeRequest::prefix(self.key.clone()) }, limit, |kv| {
                match self.json {
                    true => print(&format!("{}\n", Value::Object(show::object(kv)))),
                    false => print(&format!("{}\t{}\n", show::line(&kv.key), show::line(&kv.value))),
                }
            })
            .await;
        }
        let request = RangeRequest { revision, ..RangeRequest::key(self.key.clone()) };
        let found = store.range(request).await.map_err(failed)?.kvs;
        let Some(kv) = found.first() else {
            let at = if self.revision > 0 { format!(" at revision {}", self.revision) } else { String::new() };
            return Err(Failure::new(Code::NotFound, format!("there is no key `{}`{at}", self.key)));
        };
        if self.json {
            return print_json(&show::object(kv));
        }
        print_bytes(&kv.value)?;
        // A value is data and stays as it is; only a person's prompt must not end up behind it.
        let prompt = rustix::termios::isatty(std::io::stdout()) && !kv.value.ends_with(b"\n");
        if prompt { print("\n") } else { Ok(()) }
    }
}

async fn each(
    store: &Remote,
    request: RangeRequest,
    limit: usize,
    mut tell: impl FnMut(&KeyValue) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut pages = Pages::over(store, request);
    for _ in 0..limit {
        match pages.next().await.map_err(failed)? {
            Some(kv) => tell(&kv)?,
            None => break,
        }
    }
    Ok(())
}

/// List keys
///
/// Example:
///   regrow kv ls /regrow/desired/
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Ls {
    /// What they begin with. Default: all
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// At most so many keys
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// As it was at this revision
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    revision: i64,
    /// A JSON object a line, with revisions and lease
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Ls {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let request = RangeRequest {
            revision: Revision(self.revision),
            keys_only: true,
            ..RangeRequest::prefix(self.prefix.clone())
        };
        each(store, request, self.limit.unwrap_or(usize::MAX), |kv| {
            if !self.json {
                return print(&format!("{}\n", show::line(&kv.key)));
            }
            let mut object = Map::new();
            show::field(&mut object, "key", &kv.key);
            show::numbers(&mut object, kv);
            print(&format!("{}\n", Value::Object(object)))
        })
        .await
    }
}

/// Print changes of a key as they happen, until Ctrl-C
///
/// A line for each: the revision, put or delete, the key, the value. From an old
/// revision nothing is left out; where that is compacted the code is 4.
///
/// Examples:
///   regrow kv watch app/ --prefix
///   regrow kv watch color --revision 17 --limit 1
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Watch {
    /// The key
    key: String,
    /// All keys that begin with it
    #[arg(long)]
    prefix: bool,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// From this revision on. Default: from now on
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    revision: i64,
    /// A JSON object a line instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Watch {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let wanted = match self.prefix {
            true => WatchRequest::prefix(self.key.clone()),
            false => WatchRequest::key(self.key.clone()),
        };
        let mut watch = store.watch(wanted.from(Revision(self.revision))).await.map_err(failed)?;
        let mut left = self.limit.unwrap_or(usize::MAX);
        while left > 0 {
            let item = tokio::select! {
                item = watch.next() => item,
                _ = tokio::signal::ctrl_c() => return Ok(()),
            };
            let Some(item) = item else { return Ok(()) };
            let WatchItem::Events { events, .. } = item.map_err(failed)? else { continue };
            for event in events.iter().take(left) {
                let (revision, verb) = (event.kv.mod_revision, show::verb(event.kind));
                let (key, value) = (show::line(&event.kv.key), show::line(&event.kv.value));
                print(&match self.json {
                    true => format!("{}\n", show::event(event)),
                    false => format!("{}\n", format!("{revision}\t{verb}\t{key}\t{value}").trim_end_matches('\t')),
                })?;
            }
            left -= events.len().min(left);
        }
        Ok(())
    }
}
