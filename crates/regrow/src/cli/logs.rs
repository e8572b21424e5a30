use super::Target;
use crate::exit::{Failure, print};
use clap::Args;
use regrow_model::InstanceId;

/// Show an instance's output
///
/// Examples:
///   regrow logs web-0
///   regrow logs web-0 --follow --tail 10
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Logs {
    /// The instance
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// At most so many of the newest lines
    #[arg(long, value_name = "N", default_value_t = 100)]
    tail: usize,
    /// A JSON object a line (ts, stream, line) instead of text
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let id: InstanceId = self.instance.parse().map_err(|_| {
            Failure::usage(format!("`{}` is not an instance: `regrow status` lists them, as web-0", self.instance))
        })?;
        let path = format!("/api/instances/{id}/logs?tail={}&follow={}", self.tail, self.follow);
        let json = self.json;
        let show = |line: &str| {
            if json {
                return print(&format!("{line}\n"));
            }
            let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            print(&format!("{}\n", value.get("line").and_then(|line| line.as_str()).unwrap_or(line)))
        };
        let client = target.client()?;
        tokio::select! {
            result = client.lines(&path, show) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}
