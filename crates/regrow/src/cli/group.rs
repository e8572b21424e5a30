use super::Target;
use super::apply::until_healthy;
use crate::exit::{Failure, print, print_json, say};
use clap::{Args, Subcommand};
use regrow_control::status::Status;
use regrow_model::{InstanceId, Name};
use regrow_serve::wire::{Applied, Scale};
use std::time::Duration;

/// List groups, scale, replace or restart them
#[derive(Args)]
pub(super) struct Group {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List groups
    Ls {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Set a group's size, until the spec is applied again
    Scale {
        /// The group
        name: Name,
        /// How many instances
        size: u32,
        #[command(flatten)]
        wait: Wait,
    },
    /// Replace every instance as a new version, one after the other, with health gates and roll-back
    Replace {
        /// The group
        name: Name,
        #[command(flatten)]
        wait: Wait,
    },
    /// Restart a group's instances one after the other, or only one instance
    Restart {
        /// The group, or an instance as web-0
        name: String,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Args)]
struct Wait {
    /// Wait until everything is as wanted, at most so long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

impl Group {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        let (path, size, wait) = match &self.verb {
            Verb::Ls { json } => {
                let status: Status = client.get("/api/status").await?;
                return if *json { print_json(&status.groups) } else { print(&list(&status)) };
            }
            Verb::Scale { name, size, wait } => (format!("/api/groups/{name}/scale"), Some(*size), wait),
            Verb::Replace { name, wait } => (format!("/api/groups/{name}/replace"), None, wait),
            Verb::Restart { name, wait } => (restart_path(target, name).await?, None, wait),
        };
        let applied: Applied = match size {
            Some(size) => client.post(&path, &Scale { size }).await?,
            None => client.post(&path, &()).await?,
        };
        match (applied.revision, applied.cause) {
            (Some(_), Some(cause)) => say(format!("Begun. `regrow events --follow --cause {cause}` shows it.")),
            _ => say("Nothing to do: it is so already."),
        }
        match wait.wait {
            Some(wait) => until_healthy(target, wait).await,
            None => Ok(()),
        }
    }
}

/// A group goes before an instance of the same name.
async fn restart_path(target: &Target, name: &str) -> Result<String, Failure> {
    let status: Status = target.client()?.get("/api/status").await?;
    let is_group = status.groups.iter().any(|group| group.name.as_str() == name);
    match name.parse::<InstanceId>() {
        Ok(id) if !is_group => Ok(format!("/api/instances/{id}/restart")),
        _ => {
            let name = Name::new(name).map_err(Failure::usage)?;
            Ok(format!("/api/groups/{name}/restart"))
        }
    }
}

fn list(status: &Status) -> String {
    let width = status.groups.iter().map(|group| group.name.as_str().len()).max().unwrap_or(0).max(5);
    let mut out = format!("{:<width$}  SIZE  HEALTHY  VERSION\n", "GROUP");
    for group in &status.groups {
        let (name, version) = (group.name.as_str(), &group.version);
        out.push_str(&format!("{name:<width$}  {:<4}  {:<7}  {version}\n", group.size, group.healthy));
    }
    out
}
