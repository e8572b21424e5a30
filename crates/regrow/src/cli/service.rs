use super::Target;
use crate::exit::{Failure, print, print_json};
use clap::{Args, Subcommand};
use regrow_control::status::Status;

/// List services and their endpoints
#[derive(Args)]
pub(super) struct Service {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List services with every endpoint and its state
    Ls {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

impl Service {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let Verb::Ls { json } = self.verb;
        let status: Status = target.client()?.get("/api/status").await?;
        if json { print_json(&status.services) } else { print(&list(&status)) }
    }
}

fn list(status: &Status) -> String {
    let names = status.services.iter().map(|service| service.name.as_str().len());
    let width = names.max().unwrap_or(0).max(7);
    let mut out = format!("{:<width$}  {:<21}  {:<9}  INSTANCE\n", "SERVICE", "ENDPOINT", "STATE");
    for service in &status.services {
        if service.endpoints.is_empty() {
            out.push_str(&format!("{:<width$}  none\n", service.name.as_str()));
        }
        for endpoint in &service.endpoints {
            let state = format!("{:?}", endpoint.state).to_lowercase();
            let (name, address) = (service.name.as_str(), &endpoint.address);
            out.push_str(&format!("{name:<width$}  {address:<21}  {state:<9}  {}\n", endpoint.instance));
            if let Some(reason) = &endpoint.reason {
                out.push_str(&format!("{:width$}    {}\n", "", reason.trim_end()));
            }
        }
    }
    out
}
