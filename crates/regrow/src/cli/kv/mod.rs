//! `regrow kv`: the keys of the store, users' and Regrow's own.

mod history;
mod read;
mod show;
mod txn;
mod write;

use super::Target;
use crate::exit::Failure;
use crate::reach::Reach;
use clap::{Args, Subcommand};

/// Read, write and watch keys of the store, and take changes back
///
/// Keys that begin with /regrow/ are Regrow's own: read them here, change them
/// with the commands that are about them.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Kv {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Get(read::Get),
    Put(write::Put),
    Del(write::Del),
    Watch(read::Watch),
    Txn(txn::Txn),
    Ls(read::Ls),
    History(history::History),
    Diff(history::Diff),
    Restore(write::Restore),
}

impl Kv {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let data = target.data.as_deref();
        let open = |reach: &Reach| reach.open(data);
        match self.verb {
            Verb::Get(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Put(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Del(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Watch(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Txn(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Ls(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::History(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Diff(verb) => verb.run(&open(&verb.reach)?).await,
            Verb::Restore(verb) => verb.run(&open(&verb.reach)?).await,
        }
    }
}
