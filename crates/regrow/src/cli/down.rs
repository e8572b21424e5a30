use super::Target;
use crate::exit::{Code, Failure, say};
use clap::Args;
use regrow_control::status::Status;
use regrow_serve::wire::Applied;
use std::time::Duration;

/// Stop everything in order, then the agent
///
/// What stands in front of others stops first: a group that starts `after`
/// another stops before it.
///
/// Example:
///   regrow down --wait 2m
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Down {
    /// Longest wait until all is stopped
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

impl Down {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        let before: Status = client.get("/api/status").await?;
        let _: Applied = client.post("/api/halt", &()).await?;
        let stopping: usize = before.groups.iter().map(|group| group.instances.len()).sum();
        say(format!("Stopping {stopping} instances in order."));
        let gone = async {
            let mut left = stopping;
            loop {
                match client.get::<Status>("/api/status").await {
                    Err(failure) if failure.code == Code::Unreachable => return Ok(()),
                    Err(failure) => return Err(failure),
                    Ok(status) => {
                        let now = status.groups.iter().flat_map(|group| &group.instances);
                        let now = now.filter(|instance| instance.pid.is_some()).count();
                        if now != left {
                            say(format!("{now} still running"));
                            left = now;
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(self.wait, gone).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(
                Code::TimedOut,
                format!(
                    "not everything has stopped after {}: `regrow status` shows what has not",
                    humantime::format_duration(self.wait)
                ),
            )),
        }
    }
}
