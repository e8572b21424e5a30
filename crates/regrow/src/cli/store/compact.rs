//! `store compact`.

use crate::exit::{Failure, print_json, say};
use crate::reach::{Reach, failed};
use clap::Args;
use regrow_store::{CompactRequest, Error, Remote, Revision, Store};
use serde_json::json;

/// Give up history, all of it below a revision
///
/// Keys as they are now stay. What was before the revision cannot be read any
/// more, by nobody. Without anything said, only the present is kept.
///
/// Examples:
///   regrow store compact
///   regrow store compact 1700
///   regrow store compact --keep 10000
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Compact {
    /// The oldest revision that can still be read afterwards. Default: the present one
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    revision: Option<i64>,
    /// Keep the last N revisions
    #[arg(long, value_name = "N", conflicts_with = "revision", value_parser = clap::value_parser!(i64).range(1..))]
    keep: Option<i64>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Compact {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let (now, oldest) = (store.status().await.map_err(failed)?.revision.0, store.oldest().await.map_err(failed)?.0);
        let upto = match (self.revision, self.keep) {
            (Some(revision), _) => revision,
            // N revisions are the present one and N - 1 before it.
            (None, keep) => now - (keep.unwrap_or(1) - 1),
        };
        if upto > now {
            return Err(failed(Error::FutureRevision { requested: Revision(upto), current: Revision(now) }));
        }
        // What is given up already is what was asked for.
        let upto = upto.max(oldest);
        if !self.dry_run && upto > oldest {
            match store.compact(CompactRequest { revision: Revision(upto), physical: true }).await {
                // Somebody else was first.
                Ok(_) | Err(Error::Compacted { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if self.json {
            return print_json(
                &json!({"revision": now, "compacted_revision": upto, "given_up": upto - oldest, "dry_run": self.dry_run}),
            );
        }
        let verb = if self.dry_run { "Would keep" } else { "Kept" };
        say(format!("{verb} history from revision {upto} on; {} revisions given up", upto - oldest));
        Ok(())
    }
}
