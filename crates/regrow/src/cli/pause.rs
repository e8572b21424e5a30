use super::Target;
use crate::exit::{Failure, say};
use clap::Args;
use regrow_serve::wire::{self, Applied};
use std::time::Duration;

/// Hold planned changes back; what dies is still replaced
///
/// `regrow status` shows the pause until it ends.
///
/// Example:
///   regrow pause "database failover in progress" --for 30m
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Pause {
    /// Why, for whoever finds it at night
    why: String,
    /// It ends by itself after this
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    length: Option<Duration>,
}

impl Pause {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let pause = wire::Pause { why: self.why, seconds: self.length.map(|length| length.as_secs().max(1)) };
        let _: Applied = target.client()?.post("/api/pause", &pause).await?;
        match self.length {
            Some(length) => say(format!("Planned changes are paused for {}.", humantime::format_duration(length))),
            None => say("Planned changes are paused until `regrow resume`."),
        }
        Ok(())
    }
}

/// Let planned changes go on
#[derive(Args)]
pub(super) struct Resume {}

impl Resume {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let _: Applied = target.client()?.post("/api/resume", &()).await?;
        say("Planned changes go on.");
        Ok(())
    }
}
