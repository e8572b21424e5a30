use super::Target;
use crate::exit::Failure;
use clap::Args;
use regrow_serve::membership::wire::Retag;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Change the tags of this node
///
/// They last until the agent ends; --tag of `regrow agent` sets those that it starts with.
///
/// Examples:
///   regrow tags --set role=web --set zone=2
///   regrow tags --delete zone
#[derive(Args)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub(super) struct Tags {
    /// Set this tag; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Remove this tag; may be given again
    #[arg(long, value_name = "NAME")]
    delete: Vec<String>,
}

impl Tags {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let mut set = BTreeMap::new();
        for tag in &self.set {
            let (name, value) =
                tag.split_once('=').ok_or_else(|| Failure::usage(format!("the tag `{tag}` is not NAME=VALUE")))?;
            set.insert(name.to_owned(), value.to_owned());
        }
        let _: Map<String, Value> =
            target.client()?.post("/api/gossip/tags", &Retag { set, delete: self.delete }).await?;
        Ok(())
    }
}
