//! `regrow job`: jobs of the spec, and their runs.

mod artefacts;
mod end;
mod line;
mod list;
mod live;
mod run;
mod runs;
mod schedule;
mod show;
mod text;

use super::Target;
use crate::exit::Failure;
use clap::{Args, Subcommand};

/// Run jobs of the spec, and see what becomes of their runs
///
/// A run is accepted durably before its id is told; a worker carries it out, and it ends exactly once: succeeded, failed,
/// cancelled, timed-out, lost, expired or skipped.
///
/// Examples:
///   regrow job show deploy
///   regrow job run deploy host=web1 version=1.4.2
///   regrow job runs deploy --state failed
///   regrow job logs -f 00j3k9qa2m4x7t1z
///   regrow job retry 00j3k9qa2m4x7t1z --failed-hosts
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Job {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Ls(list::Ls),
    Show(show::Show),
    Run(Box<run::Run>),
    Runs(list::Runs),
    Status(runs::Status),
    Logs(runs::Logs),
    Artefacts(artefacts::Artefacts),
    Cancel(runs::Cancel),
    Retry(runs::Retry),
    Schedule(schedule::Schedule),
    Workers(list::Workers),
}

impl Job {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        match self.verb {
            Verb::Ls(verb) => verb.run(&client).await,
            Verb::Show(verb) => verb.run(&client).await,
            Verb::Run(verb) => verb.run(&client).await,
            Verb::Runs(verb) => verb.run(&client).await,
            Verb::Status(verb) => verb.run(&client).await,
            Verb::Logs(verb) => verb.run(&client).await,
            Verb::Artefacts(verb) => verb.run(&client).await,
            Verb::Cancel(verb) => verb.run(&client).await,
            Verb::Retry(verb) => verb.run(&client).await,
            Verb::Schedule(verb) => verb.run(&client).await,
            Verb::Workers(verb) => verb.run(&client).await,
        }
    }
}
