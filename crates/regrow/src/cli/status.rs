use super::Target;
use crate::exit::{Failure, colours, print, print_json};
use clap::Args;
use regrow_control::status::{self, render};
use std::time::Duration;

/// Show the cluster at a glance
///
/// Examples:
///   regrow status
///   regrow status --watch
///   regrow status --json | jq '.groups[].instances[].pid'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    /// Show it live, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// How often the live status is drawn.
const REDRAW: Duration = Duration::from_millis(500);

impl Status {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        if self.json {
            return print_json(&client.get::<serde_json::Value>("/api/status").await?);
        }
        if !self.watch {
            let status: status::Status = client.get("/api/status").await?;
            return print(&render(&status, colours()));
        }
        loop {
            let screen = match client.get::<status::Status>("/api/status").await {
                Ok(status) => render(&status, colours()),
                Err(failure) => format!("{failure}\n"),
            };
            // Home, then each line with the rest of it cleared, then the rest of the screen: nothing flickers.
            let screen = screen.replace('\n', "\x1b[K\n");
            print(&format!("\x1b[H{screen}\x1b[J"))?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                () = tokio::time::sleep(REDRAW) => {}
            }
        }
    }
}
