use super::Target;
use crate::exit::{Failure, print};
use clap::Args;
use regrow_model::{Event, Ref};

/// Show what has happened, oldest first
///
/// Examples:
///   regrow events --follow
///   regrow events --object template/haproxy --last 20
///   regrow events --cause 1h7t3k9qa2m4x
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Events {
    /// Go on with new ones as they come
    #[arg(long, short)]
    follow: bool,
    /// At most so many of the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
    /// Only about this object, as kind/name
    #[arg(long, value_name = "OBJECT")]
    object: Option<Ref>,
    /// Only of this chain of causes
    #[arg(long, value_name = "ID")]
    cause: Option<String>,
    /// A JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let mut path = format!("/api/events?last={}&follow={}", self.last, self.follow);
        if let Some(object) = &self.object {
            path.push_str(&format!("&object={object}"));
        }
        if let Some(cause) = &self.cause {
            if !cause.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(Failure::usage(format!("`{cause}` is not the id of a chain of causes")));
            }
            path.push_str(&format!("&cause={cause}"));
        }
        let json = self.json;
        let show = |line: &str| {
            if json {
                return print(&format!("{line}\n"));
            }
            let event: Event = serde_json::from_str(line)
                .map_err(|error| Failure::failed(format!("the agent sent an event that does not fit: {error}")))?;
            print(&text(&event))
        };
        let client = target.client()?;
        tokio::select! {
            result = client.lines(&path, show) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}

fn text(event: &Event) -> String {
    let (at, kind, object) = (crate::runtime::clock_text(event.at), event.kind, event.object.to_string());
    let mut line = format!("{at}  {object:<20}  {kind:<15}  {}  [{}]\n", event.message, event.cause);
    for detail in event.detail.iter().flat_map(|detail| detail.trim_end().lines()) {
        line.push_str(&format!("{:14}{detail}\n", ""));
    }
    line
}
