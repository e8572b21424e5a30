use super::Target;
use crate::exit::{Code, Failure, print, say};
use clap::Args;
use regrow_serve::membership::wire::{Ask, MemberLine, Told};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Ask the members a question: their handlers answer
///
/// Examples:
///   regrow query load
///   regrow query --node web-1 --tag role=web --timeout 2s uptime
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Query {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Its payload
    #[arg(value_name = "PAYLOAD", default_value = "")]
    payload: String,
    /// Only this member; may be given again
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Only members whose tag matches this regular expression; may be given again
    #[arg(long, value_name = "NAME=REGEX")]
    tag: Vec<String>,
    /// Show which members have got it
    #[arg(long)]
    ack: bool,
    /// Copies of each answer that travel through other members
    #[arg(long, value_name = "N", default_value_t = 0)]
    relay_factor: u8,
    /// How long answers are taken. Default: by the size of the cluster, 3.2s for up to nine members
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// A JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

impl Query {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let mut tags = BTreeMap::new();
        for tag in &self.tag {
            let (name, regex) =
                tag.split_once('=').ok_or_else(|| Failure::usage(format!("the tag `{tag}` is not NAME=REGEX")))?;
            tags.insert(name.to_owned(), regex.to_owned());
        }
        let ask = Ask {
            name: self.name,
            payload: self.payload,
            nodes: self.node,
            tags,
            ack: self.ack,
            relay_factor: self.relay_factor,
            timeout_ms: self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        let json = self.json;
        target
            .client()?
            .post_lines("/api/gossip/query", &ask, |line| {
                if json {
                    return print(&format!("{line}\n"));
                }
                match told(line)? {
                    Told::Ack { from } => say(format!("{from} has got it")),
                    Told::Reply { from, payload } => return print(&format!("{from}: {}\n", payload.trim_end())),
                }
                Ok(())
            })
            .await
    }
}

fn told(line: &str) -> Result<Told, Failure> {
    serde_json::from_str(line)
        .map_err(|error| Failure::failed(format!("the agent sent an answer that does not fit: {error}")))
}

/// Test the way to every living member: each is asked, and each must say that it has heard
///
/// Ends with code 1 when one did not.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Reachability {
    /// How long is waited
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl Reachability {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        let members: Vec<MemberLine> = client.get("/api/members").await?;
        let living = members.into_iter().filter(|member| matches!(member.status.as_str(), "alive" | "suspect"));
        let mut silent: BTreeSet<String> = living.map(|member| member.name).collect();
        let all = silent.len();
        let ask = Ask {
            name: "_serf_ping".to_owned(),
            ack: true,
            timeout_ms: self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ..Ask::default()
        };
        client
            .post_lines("/api/gossip/query", &ask, |line| {
                if let Told::Ack { from } = told(line)? {
                    silent.remove(&from);
                }
                Ok(())
            })
            .await?;
        if silent.is_empty() {
            return print(&format!("all {all} living members can be reached\n"));
        }
        let silent: Vec<String> = silent.into_iter().collect();
        Err(Failure::new(
            Code::Failed,
            format!(
                "{} of {all} living members said nothing: {}\n  `regrow explain node/NAME` tells more; UDP and TCP of \
                 the gossip port must be open in both directions",
                silent.len(),
                silent.join(", ")
            ),
        ))
    }
}
