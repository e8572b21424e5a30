use super::Target;
use crate::exit::{Failure, print, say};
use clap::Args;
use regrow_serve::membership::wire::{Join as Wanted, Joined};
use serde_json::{Map, Value};

/// Join a cluster through one or more of its members
///
/// One that answers is enough: the rest is learned from it.
///
/// Examples:
///   regrow join 10.0.0.7
///   regrow join web-1.example:7946 web-2.example:7946
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Join {
    /// Members, as HOST[:PORT]; the port is 7946 unless given
    #[arg(value_name = "ADDR", required = true)]
    addresses: Vec<String>,
    /// Handle user events from before the join too
    #[arg(long)]
    replay: bool,
}

impl Join {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let wanted = Wanted { addresses: self.addresses, replay: self.replay };
        let joined: Joined = target.client()?.post("/api/join", &wanted).await?;
        for (address, why) in &joined.failed {
            say(format!("{address}: {why}"));
        }
        print(&format!("joined through {}\n", joined.joined.join(", ")))
    }
}

/// Leave the cluster: the others are told, and take over what ran here
///
/// The agent goes on; `regrow join` makes it a member again.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Leave {}

impl Leave {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let _: Map<String, Value> = target.client()?.post("/api/leave", &Map::<String, Value>::new()).await?;
        print("left the cluster\n")
    }
}

/// Declare a failed member to have left
///
/// It is not waited for any more. One that lives says so and stays.
///
/// Examples:
///   regrow force-leave web-3
///   regrow force-leave web-3 --prune
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ForceLeave {
    /// The member
    #[arg(value_name = "NAME")]
    name: String,
    /// Forget it at once
    #[arg(long)]
    prune: bool,
}

impl ForceLeave {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let wanted = regrow_serve::membership::wire::ForceLeave { name: self.name, prune: self.prune };
        let _: Map<String, Value> = target.client()?.post("/api/gossip/force-leave", &wanted).await?;
        Ok(())
    }
}
