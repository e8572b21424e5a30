use super::Target;
use crate::config::{Flags, data_folder};
use crate::exit::{Failure, say};
use crate::runtime::{Ending, Runtime};
use clap::Args;

/// Run the agent as a daemon: instances outlive it
///
/// It runs until SIGTERM or SIGINT and leaves its instances running; the next
/// agent on the same data folder takes them over. `regrow apply` tells it what
/// to run, `regrow down` stops everything and the agent.
///
/// Examples:
///   regrow agent --data /var/lib/regrow
///   systemd-run --unit regrow regrow agent --data /var/lib/regrow
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Agent {
    #[command(flatten)]
    flags: Flags,
}

impl Agent {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let settings = self.flags.settle(data_folder(target.data.as_deref(), true))?;
        let runtime = Runtime::start(settings).await?;
        match runtime.run(false).await? {
            Ending::Halted => say("Everything is stopped."),
            Ending::Left => say("The agent has ended; its instances go on."),
        }
        Ok(())
    }
}
