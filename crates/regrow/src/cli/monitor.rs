use super::Target;
use crate::exit::{Failure, print};
use clap::Args;

/// Follow the agent's log, until Ctrl-C
///
/// Example:
///   regrow monitor --level debug
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Monitor {
    /// The least level that is shown: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    level: String,
}

impl Monitor {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let path = format!("/api/gossip/monitor?level={}", self.level);
        let client = target.client()?;
        tokio::select! {
            result = client.lines(&path, |line| print(&format!("{line}\n"))) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}
