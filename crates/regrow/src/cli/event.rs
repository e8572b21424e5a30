use super::Target;
use crate::exit::Failure;
use clap::Args;
use regrow_serve::membership::wire::Fire;
use serde_json::{Map, Value};

/// Fire a user event: every member's handlers see it
///
/// Example:
///   regrow event deploy 1.4.2
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Event {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Its payload; name and payload have 512 bytes together
    #[arg(value_name = "PAYLOAD", default_value = "")]
    payload: String,
    /// Handlers may see only the newest of several with this name
    #[arg(long)]
    coalesce: bool,
}

impl Event {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let fire = Fire { name: self.name, payload: self.payload, coalesce: self.coalesce };
        let _: Map<String, Value> = target.client()?.post("/api/gossip/event", &fire).await?;
        Ok(())
    }
}
