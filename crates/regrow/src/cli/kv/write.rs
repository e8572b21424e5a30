//! `kv put`, `del` and `restore`.

use super::show;
use crate::exit::{Code, Failure, print, print_json, say};
use crate::reach::{Reach, failed};
use clap::Args;
use regrow_store::Pages;
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, KeyValue, LeaseId, Op, PutRequest, RangeRequest, Remote,
    Revision, Store, TxnRequest, limits,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;

/// Write a key
///
/// Examples:
///   regrow kv put color green
///   regrow kv put cert - < cert.der
///   regrow kv put lock me --if-revision 0
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Put {
    /// The key
    key: String,
    /// The value; `-` or none: standard input, as it is
    value: Option<String>,
    /// Only if the key was last changed at this revision; 0: only if it is not there
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
    /// The lease to put it under, in hexadecimal
    #[arg(long, value_name = "ID", value_parser = lease)]
    lease: Option<LeaseId>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

fn lease(text: &str) -> Result<LeaseId, String> {
    i64::from_str_radix(text, 16)
        .map(LeaseId)
        .map_err(|_| format!("`{text}` is not a lease: 16 digits, as 694d71ddacfda227"))
}

impl Put {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let value = match self.value.as_deref() {
            None | Some("-") => standard_input()?,
            Some(text) => text.as_bytes().to_vec(),
        };
        let put = PutRequest::new(self.key.clone(), value);
        let put = PutRequest { lease: self.lease.unwrap_or(LeaseId::NONE), ..put };
        let revision = match self.if_revision {
            None => store.put(put).await.map_err(failed)?.revision,
            Some(revision) => {
                let compare = vec![unchanged(self.key.clone(), Revision(revision))];
                guarded(store, compare, vec![Op::Put(put)], &format!("`{}` has changed", self.key)).await?
            }
        };
        if self.json { print_json(&json!({ "revision": revision.0 })) } else { say_revision("Written", revision) }
    }
}

/// A value from standard input, at most what a store takes.
fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let most = limits::REQUEST_BYTES_MAX as u64;
    let read = std::io::stdin().lock().take(most + 1).read_to_end(&mut value);
    read.map_err(|error| Failure::failed(format!("cannot read the value from standard input: {error}")))?;
    if value.len() as u64 > most {
        return Err(Failure::usage(format!(
            "the value has more than {most} bytes, which is what a store takes at most"
        )));
    }
    Ok(value)
}

fn say_revision(what: &str, revision: Revision) -> Result<(), Failure> {
    say(format!("{what} at revision {revision}."));
    Ok(())
}

/// The key was last changed at a revision; zero is that it is not there.
fn unchanged(key: impl Into<bytes::Bytes>, revision: Revision) -> Compare {
    Compare::new(key, CompareOp::Equal, CompareTarget::ModRevision(revision))
}

/// Does it if all compares hold; else it is refused.
async fn guarded(store: &Remote, compare: Vec<Compare>, success: Vec<Op>, why: &str) -> Result<Revision, Failure> {
    let answer = store.txn(TxnRequest { compare, success, failure: Vec::new() }).await.map_err(failed)?;
    if answer.succeeded {
        return Ok(answer.revision);
    }
    Err(Failure::new(Code::Refused, format!("{why}; nothing was written")))
}

/// Remove a key, or all that begin with it
///
/// Prints how many there were.
///
/// Examples:
///   regrow kv del color
///   regrow kv del app/ --prefix --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Del {
    /// The key
    key: String,
    /// All keys that begin with it
    #[arg(long)]
    prefix: bool,
    /// Only print which keys would go
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Del {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        if self.prefix && self.key.is_empty() {
            return Err(Failure::usage("an empty prefix is every key of the store, Regrow's own too: name a prefix"));
        }
        if self.dry_run {
            let key = self.key.clone();
            let range = if self.prefix { RangeRequest::prefix(key) } else { RangeRequest::key(key) };
            let mut pages = Pages::over(store, RangeRequest { keys_only: true, ..range });
            while let Some(kv) = pages.next().await.map_err(failed)? {
                print(&format!("{}\n", show::line(&kv.key)))?;
            }
            return Ok(());
        }
        let key = self.key.clone();
        let request = if self.prefix { DeleteRangeRequest::prefix(key) } else { DeleteRangeRequest::key(key) };
        let answer = store.delete_range(request).await.map_err(failed)?;
        match self.json {
            true => print_json(&json!({ "deleted": answer.deleted, "revision": answer.revision.0 })),
            false => print(&format!("{}\n", answer.deleted)),
        }
    }
}

/// Put a key back as it was at a revision
///
/// A key that was not there is removed. Refused if the key changes meanwhile.
/// With --prefix all keys that begin with it, in one transaction.
///
/// Examples:
///   regrow kv restore color --revision 17
///   regrow kv restore app/ --prefix --revision 17 --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Restore {
    /// The key
    key: String,
    /// As it was at this revision: `regrow kv history KEY` lists them
    #[arg(long, value_name = "N")]
    revision: i64,
    /// All keys that begin with it
    #[arg(long)]
    prefix: bool,
    /// Only print what would be written
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Restore {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        if self.revision < 1 {
            return Err(Failure::usage("--revision must be 1 or more"));
        }
        let then = self.keys(store, Revision(self.revision)).await?;
        let now = self.keys(store, Revision(0)).await?;
        let mut compare = Vec::new();
        let mut changes = Vec::new();
        for key in then.keys().chain(now.keys().filter(|key| !then.contains_key(*key))) {
            let (was, is) = (then.get(key), now.get(key));
            if was.map(|kv| &kv.value) == is.map(|kv| &kv.value) {
                continue;
            }
            compare.push(unchanged(key.clone(), is.map_or(Revision(0), |kv| kv.mod_revision)));
            changes.push(match was {
                // Whatever lease holds the key now goes on holding it.
                Some(was) => Op::Put(PutRequest {
                    ignore_lease: is.is_some(),
                    ..PutRequest::new(key.clone(), was.value.clone())
                }),
                None => Op::DeleteRange(DeleteRangeRequest::key(key.clone())),
            });
        }
        if changes.len() > limits::TXN_OPS_MAX {
            return Err(Failure::usage(format!(
                "{} keys differ, and at most {} are put back in one transaction: name a longer prefix\n  `regrow kv \
                 diff --from {} {}` shows them",
                changes.len(),
                limits::TXN_OPS_MAX,
                self.revision,
                self.key
            )));
        }
        let shown: Vec<String> = changes.iter().map(shown).collect();
        if self.dry_run || changes.is_empty() {
            return match self.json {
                true => print_json(&json!({ "changes": shown, "revision": null })),
                false if changes.is_empty() => {
                    say("Nothing to do: it is so already.");
                    Ok(())
                }
                false => print(&(shown.join("\n") + "\n")),
            };
        }
        let why = format!("what begins with `{}` has changed meanwhile: try again", self.key);
        let revision = guarded(store, compare, changes, &why).await?;
        match self.json {
            true => print_json(&json!({ "changes": shown, "revision": revision.0 })),
            false => {
                print(&(shown.join("\n") + "\n"))?;
                say_revision("Restored", revision)
            }
        }
    }

    async fn keys(&self, store: &Remote, revision: Revision) -> Result<BTreeMap<bytes::Bytes, KeyValue>, Failure> {
        let range = match self.prefix {
            true => RangeRequest::prefix(self.key.clone()),
            false => RangeRequest::key(self.key.clone()),
        };
        let mut pages = Pages::over(store, RangeRequest { revision, ..range });
        let mut all = BTreeMap::new();
        while let Some(kv) = pages.next().await.map_err(failed)? {
            all.insert(kv.key.clone(), kv);
        }
        Ok(all)
    }
}

fn shown(op: &Op) -> String {
    match op {
        Op::Put(put) => format!("put\t{}\t{}", show::line(&put.key), show::line(&put.value)),
        Op::DeleteRange(delete) => format!("delete\t{}", show::line(&delete.key)),
        Op::Range(_) | Op::Txn(_) => String::new(),
    }
}
