use super::Target;
use crate::exit::{Failure, print, print_json};
use clap::Args;
use regrow_control::explain::Explanation;
use regrow_model::Ref;

/// Tell why something is as it is: the chain of causes, with times
///
/// Examples:
///   regrow explain instance/web-0
///   regrow explain template/haproxy
///   regrow explain group/web --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Explain {
    /// The object, as kind/name: cluster, node, service, group, instance or template
    #[arg(value_name = "OBJECT")]
    object: Ref,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let path = format!("/api/explain/{}", self.object);
        let explanation: Explanation = target.client()?.get(&path).await?;
        if self.json { print_json(&explanation) } else { print(&explanation.to_string()) }
    }
}
