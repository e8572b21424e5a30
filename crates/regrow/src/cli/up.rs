use super::Target;
use crate::config::{Flags, data_folder};
use crate::exit::{Failure, colours, print, say};
use crate::runtime::{self, Ending, Runtime};
use crate::{bundle, cli};
use clap::Args;
use regrow_control::reconcile::Command;
use regrow_control::status::{Overall, Status, render};
use regrow_serve::Agent as _;
use std::path::PathBuf;
use std::time::Duration;

/// Run a spec in the foreground: agent, store and everything in one process
///
/// Ctrl-C stops it all in order; a second Ctrl-C leaves what still runs
/// running. If the process is killed, instances go on serving, and the next
/// `regrow up` takes them over.
///
/// Examples:
///   regrow up
///   regrow up examples/web/regrow.yaml --http 127.0.0.1:0
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Up {
    /// The spec: a file, or a folder with *.yaml files
    #[arg(value_name = "FILE", default_value = bundle::DEFAULT)]
    file: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl Up {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let bundle = bundle::read(&self.file)?;
        let resolved = regrow_control::apply::resolve(&bundle.root, &bundle.files, &bundle.sources)
            .map_err(|errors| Failure::usage(errors.render(&bundle.files, false)))?;
        let settings = self.flags.settle(data_folder(target.data.as_deref(), true))?;
        let runtime = Runtime::start(settings).await?;
        let agent = runtime.agent();
        agent.command(Command::Apply(resolved)).await.map_err(Failure::failed)?;
        let shown = tokio::spawn(show_when_ready(agent.clone()));
        let ending = runtime.run(true).await;
        shown.abort();
        match ending? {
            Ending::Halted => say("Everything is stopped."),
            Ending::Left => say("Left running. `regrow up` takes over what still runs."),
        }
        Ok(())
    }
}

/// Prints the table once everything is as wanted.
async fn show_when_ready(agent: runtime::Handle) -> Result<(), Failure> {
    loop {
        let status: Status = agent.status().await.map_err(Failure::failed)?;
        if status.health == Overall::Healthy {
            let table = render(&status, colours());
            return print(&format!("\n{table}\nCtrl-C stops it all. In another terminal: {}\n\n", cli::up::HINT));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What to try next.
pub(super) const HINT: &str = "regrow status --watch, regrow events --follow, regrow explain group/NAME";
