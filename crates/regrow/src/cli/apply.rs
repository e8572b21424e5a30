use super::Target;
use super::plan::{differences, print_plan};
use crate::bundle;
use crate::exit::{Failure, print, print_json, say};
use clap::Args;
use regrow_control::status::{Overall, Status};
use regrow_serve::wire::Applied;
use std::path::PathBuf;
use std::time::Duration;

/// Make the cluster as a spec says; what the spec no longer names is removed
///
/// A spec with any error is refused whole, and what runs stays as it is.
///
/// Examples:
///   regrow apply
///   regrow apply shop/ --dry-run
///   regrow apply regrow.yaml --wait 1m
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Apply {
    /// The spec: a file, or a folder with *.yaml files
    #[arg(value_name = "FILE", default_value = bundle::DEFAULT)]
    file: PathBuf,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Wait until everything is as wanted, at most so long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Apply {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let bundle = bundle::read(&self.file)?;
        let client = target.client()?;
        if self.dry_run {
            return print_plan(&client.post("/api/plan", &bundle).await?, self.json);
        }
        let applied: Applied = client.post("/api/apply", &bundle).await?;
        if self.json {
            print_json(&applied)?;
        } else {
            print(&differences(&applied.differences))?;
            match (&applied.revision, &applied.cause) {
                (Some(revision), Some(cause)) => say(format!(
                    "Applied at revision {revision}. `regrow events --cause {cause}` shows what follows from it."
                )),
                _ => say("Nothing to do: everything is so already."),
            }
        }
        match self.wait {
            Some(wait) => until_healthy(target, wait).await,
            None => Ok(()),
        }
    }
}

/// Waits until the cluster is as wanted.
pub(super) async fn until_healthy(target: &Target, wait: Duration) -> Result<(), Failure> {
    let client = target.client()?;
    let healthy = async {
        loop {
            let status: Status = client.get("/api/status").await?;
            if status.health == Overall::Healthy {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(wait, healthy).await.unwrap_or_else(|_| {
        let after = humantime::format_duration(wait);
        Err(Failure::new(
            crate::exit::Code::TimedOut,
            format!("not everything is as wanted after {after}: `regrow status` shows what is not"),
        ))
    })
}
