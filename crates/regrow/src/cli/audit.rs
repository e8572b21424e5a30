use super::Target;
use crate::client::escaped;
use crate::exit::{Failure, print};
use clap::Args;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Show who did what through this agent's doors, and what was refused
///
/// Each agent keeps its own log, of what came by its doors, in audit.jsonl in its
/// data folder. It has the names of keys and objects, never values.
///
/// Examples:
///   regrow audit --last 20
///   regrow audit --follow --who token/ci
///   regrow audit --json | jq 'select(.outcome == "refused")'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Audit {
    /// At most so many of the newest
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    last: usize,
    /// Go on with new ones as they come
    #[arg(long)]
    follow: bool,
    /// Only of whom: token/NAME, certificate/NAME, node/NAME, owner, anonymous
    #[arg(long)]
    who: Option<String>,
    /// JSON lines instead of text
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let who = self.who.map(|who| format!("&who={}", escaped(&who))).unwrap_or_default();
        let path = format!("/api/audit?last={}&follow={}{who}", self.last, self.follow);
        let show = |line: &str| print(&if self.json { format!("{line}\n") } else { text(line) });
        let client = target.client()?;
        tokio::select! {
            result = client.lines(&path, show) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}

/// A line for people: when, who, what, what came of it.
fn text(line: &str) -> String {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return format!("{line}\n") };
    let word = |name: &str| line[name].as_str().unwrap_or("");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(line["ts"].as_f64().unwrap_or(0.0).max(0.0));
    let time = humantime::format_rfc3339_seconds(time);
    if let Some(lost) = line["lost"].as_u64() {
        return format!("{time}  {lost} entries are lost\n");
    }
    let mut to: Vec<&str> =
        line["to"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    let more = line["more"].as_u64().map(|more| format!("and {more} more")).unwrap_or_default();
    to.extend((!more.is_empty()).then_some(more.as_str()));
    let from = line["from"].as_str().map(|from| format!(" from {from}")).unwrap_or_default();
    let why = line["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
    let cause = line["cause"].as_str().map(|cause| format!(" (cause {cause})")).unwrap_or_default();
    let (who, door, did, outcome) = (word("who"), word("door"), word("did"), word("outcome"));
    format!("{time}  {who} by {door}{from}  {did} {}  {outcome}{why}{cause}\n", to.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done, what is refused, what is lost.
    #[test]
    fn lines_for_people() {
        let done = r#"{"ts":1.5,"who":"token/ci","door":"etcd","from":"127.0.0.1:4","did":"txn","to":["a","b"],"more":3,"outcome":"done","revision":7}"#;
        assert_eq!(text(done), "1970-01-01T00:00:01Z  token/ci by etcd from 127.0.0.1:4  txn a, b, and 3 more  done\n");
        let refused = r#"{"ts":0,"who":"anonymous","door":"unix","did":"POST","to":["/api/halt"],"outcome":"refused","why":"no","cause":"c"}"#;
        assert_eq!(text(refused), "1970-01-01T00:00:00Z  anonymous by unix  POST /api/halt  refused: no (cause c)\n");
        assert_eq!(text(r#"{"ts":0,"lost":3}"#), "1970-01-01T00:00:00Z  3 entries are lost\n");
    }
}
