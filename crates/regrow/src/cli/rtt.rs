use super::Target;
use crate::client::escaped;
use crate::exit::{Failure, print};
use clap::Args;
use regrow_serve::membership::wire::Rtt as Found;

/// Estimate the round trip between two members, without measuring it
///
/// Examples:
///   regrow rtt web-2
///   regrow rtt web-1 web-2
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Rtt {
    /// A member
    #[arg(value_name = "NAME")]
    one: String,
    /// Another. Default: this node
    #[arg(value_name = "NAME")]
    other: Option<String>,
}

impl Rtt {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let path = match &self.other {
            Some(other) => format!("/api/gossip/rtt?from={}&to={}", escaped(&self.one), escaped(other)),
            None => format!("/api/gossip/rtt?to={}", escaped(&self.one)),
        };
        let found: Found = target.client()?.get(&path).await?;
        print(&format!("{} to {}: {:.3} ms\n", found.from, found.to, found.seconds * 1000.0))
    }
}
